"""`run.py generate`: a whole new CT, its labels, its record, and an edit of it in one command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from cli_kit import Command
from lesionbrush.cli.generate import body_box, colours_of, picture
from lesionbrush.core.generate import Generation
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout, write_layout
from lesionbrush.files.records import read_sidecar
from lesionbrush.montage import GAP_PX, GREY, LINE_PX, TEXT_PX, TINTS
from PIL import Image
from scipy.ndimage import distance_transform_edt
from server_kit import make_model, make_noise_model
from storage_kit import made_provenance

pytest_plugins = "cli_fixtures"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: `noise`, which makes whole CTs, and `tiny`, which edits them."""
    root = tmp_path_factory.mktemp("both")
    make_model(root)
    make_noise_model(root)
    return root


@pytest.fixture
def run(command: Command, both: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command that finds both."""
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(both))
    return command


def test_a_ct_with_its_labels_and_its_record(run: Command, tmp_path: Path) -> None:
    out, drawn = tmp_path / "new.nii.gz", tmp_path / "new.png"
    outcome = run("generate", "-o", out, "--model", "noise", "--montage", drawn, "--seed", 3)
    assert outcome.code == 0, outcome.err
    assert "GENERATED, seed 3" in outcome.out
    ct, layout = read_volume(out), read_layout(tmp_path / "new_labels.nii.gz")
    assert ct.source is not None
    assert ct.source.note.startswith("SYNTHETIC GENERATED")
    assert set(layout.names.values()) == {"body", "lesion"}
    assert layout.labels.shape == ct.shape
    record = read_sidecar(out)
    assert record.generated
    assert (record.seed, record.reference_sha256) == (3, None)
    assert Image.open(drawn).size[0] > 300


def test_an_edit_and_labels_of_another_hand_are_kept(
    run: Command, ct: Path, mask: Path, tmp_path: Path
) -> None:
    edit, labels = tmp_path / "edit.nii", tmp_path / "new_labels.nii"
    assert run("synthesize", ct, mask, "-o", edit, "--model", "tiny", "--param", "steps=2").code == 0
    labels.touch()
    for name, said in (
        ("edit.nii", "already, an edit of a CT"),
        ("new.nii", "new_labels.nii is there already"),
    ):
        outcome = run("generate", "-o", tmp_path / name, "--model", "noise")
        assert outcome.code == 2
        assert said in outcome.one_line
    labels.unlink()
    again = [run("generate", "-o", tmp_path / "new.nii", "--model", "noise", "--seed", n) for n in (1, 2)]
    assert [outcome.code for outcome in again] == [0, 0]


def generation(shape: tuple[int, int, int], kinds: int) -> Generation:
    """A body of fat with a row of labels, each a column wide, in voxels of 2 mm."""
    hu, labels = np.full(shape, -100, np.int16), np.zeros(shape, np.uint16)
    for kind in range(kinds):
        labels[2 + 3 * kind : 4 + 3 * kind, 10 : 30 + kind] = 1000 + kind
    names = {0: "nothing", **{1000 + kind: f"organ {kind}" for kind in range(kinds)}}
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    record = made_provenance()
    return Generation(Volume(hu, affine), Layout(Volume(labels, affine), names), record)


@pytest.mark.parametrize(("slices", "columns"), [(3, 2), (60, 3)], ids=["slab", "part of a body"])
def test_the_picture_has_all_labels_in_two_panels_at_most(slices: int, columns: int) -> None:
    """A slab has no coronal view."""
    few, many = (picture(generation((60, 60, slices), kinds), panel_px=90) for kinds in (1, 15))
    assert few.width == many.width == GAP_PX + columns * (90 + GAP_PX)
    caption_px = TEXT_PX + GAP_PX
    grid_px = 2 * (caption_px + 90 + GAP_PX) + TEXT_PX + 3 * GAP_PX
    assert few.height == grid_px + LINE_PX
    assert grid_px + LINE_PX < many.height < grid_px + 8 * LINE_PX


def test_the_largest_labels_have_colours_and_the_others_are_grey() -> None:
    made = generation((60, 60, 3), 15)
    assert made.layout is not None
    colours = colours_of(made.layout, [made.layout.labels.array[:, :, 1]])
    assert list(colours) == [f"organ {kind}" for kind in reversed(range(15))]
    tints = [TINTS[number] for number in colours.values()]
    assert len(set(tints)) == 12
    assert tints[11:] == [GREY] * 4
    assert colours_of(made.layout, [np.zeros((4, 4))]) == {}


def test_the_picture_is_of_the_body() -> None:
    hu = np.full((60, 80), -1000, np.int16)
    assert hu[body_box(hu, (1, 2))].shape == (60, 80)
    hu[20:30, 40:60] = 40
    assert body_box(hu, (1, 2)) == np.index_exp[12:38, 36:64]


def test_variants_are_numbered_and_a_seed_gives_the_same_voxels(run: Command, tmp_path: Path) -> None:
    run("generate", "-o", tmp_path / "a.nii.gz", "--model", "noise", "--variants", 2)
    run("generate", "-o", tmp_path / "b.nii.gz", "--model", "noise", "--seed", 1)
    first, second = sorted(path for path in tmp_path.glob("a*.nii.gz") if "labels" not in path.name)
    again = read_volume(tmp_path / "b.nii.gz").array
    assert np.array_equal(read_volume(second).array, again)
    assert not np.array_equal(read_volume(first).array, again)


def test_a_layout_and_a_text_go_in(run: Command, tmp_path: Path) -> None:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:6, 2:6] = 4
    sent = tmp_path / "sent.nii.gz"
    write_layout(Layout(Volume(labels, np.diag([2.0, 2.0, 2.0, 1.0])), {4: "liver"}), sent)
    wishes = ("--tissues", sent, "--report", "a liver")
    assert run("generate", "-o", tmp_path / "new.nii.gz", "--model", "noise", *wishes).code == 0
    assert read_volume(tmp_path / "new.nii.gz").shape == (9, 8, 7)
    assert set(read_sidecar(tmp_path / "new.nii.gz").inputs_sha256) == {"tissues", "report"}


def test_a_lesion_painted_into_it_is_one_command_and_it_stays_generated(run: Command, tmp_path: Path) -> None:
    whole, edited, mask = (tmp_path / f"{name}.nii.gz" for name in ("whole", "edited", "mask"))
    run("generate", "-o", whole, "--model", "noise", "--seed", 5)
    ct = read_volume(whole)
    painted = np.zeros(ct.shape, np.uint8)
    painted[10:13, 8:11, 2:4] = 1
    write_volume(ct.with_array(painted), mask)
    outcome = run("synthesize", whole, mask, "-o", edited, "--model", "tiny", "--param", "margin_mm=1")
    assert outcome.code == 0, outcome.err
    record, made = read_sidecar(edited), read_volume(edited)
    assert (record.generated, record.is_edit, record.model) == (True, True, "tiny")
    assert record.made_from is not None
    assert (record.made_from.model, record.made_from.seed) == ("noise", 5)
    assert record.reference_sha256 == ct.voxel_sha256
    assert made.source is not None
    assert made.source.note.startswith("SYNTHETIC GENERATED")
    away_mm = distance_transform_edt(painted == 0, sampling=ct.spacing_mm)
    assert np.array_equal(made.array[away_mm > 1], ct.array[away_mm > 1])
    exported = run("export", "dicom", "--ct", edited, "--mask", mask, "-o", tmp_path / "dicom")
    assert exported.code == 0, exported.err
    slices = [pydicom.dcmread(path) for path in (tmp_path / "dicom" / "ct").glob("*.dcm")]
    assert len(slices) == ct.shape[2]
    assert all("SYNTHETIC GENERATED" in one.SeriesDescription for one in slices)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--model", "tiny"), "tiny edits a CT: use  run.py synthesize"),
        (("--model", "noise", "--param", "steps=0"), "steps"),
        (("--model", "noise", "--param", "labels=bones"), "labels"),
        (("--model", "nobody"), "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    run: Command, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    outcome = run("generate", "-o", tmp_path / "new.nii.gz", *options)
    assert outcome.code == 2
    assert reason in outcome.one_line
    assert not list(tmp_path.iterdir())


def test_what_goes_in_is_not_overwritten(run: Command, tmp_path: Path) -> None:
    sent = tmp_path / "new_labels.nii.gz"
    labels = Volume(np.ones((9, 8, 7), np.uint8), np.eye(4))
    write_layout(Layout(labels, {1: "liver"}), sent)
    before = sent.read_bytes()
    outcome = run("generate", "-o", tmp_path / "new.nii.gz", "--model", "noise", "--tissues", sent)
    assert outcome.code == 2
    assert "new_labels.nii.gz" in outcome.one_line
    assert sent.read_bytes() == before
