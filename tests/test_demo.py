"""The demo: end to end over a real server, and what it says when something is not as it should be."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from core_fixtures import install
from dicom_fixtures import Series, write_series
from lesionbrush.cli import demo
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import read_sidecar, write_sidecar
from lesionbrush.montage import GAP_PX
from lesionbrush.phantom.chest import FIELD_MM, chest_phantom
from lesionbrush.systems import list_inputs
from LesionBrushLib.client import Result
from lung_ddpm_kit import install_layout_model
from PIL import Image
from server_kit import make_ct, make_mask, make_model
from soft_tissue_kit import install_soft
from storage_kit import made_provenance

pytest_plugins = "cli_fixtures"
SHAPE = (64, 64, 48)
PANEL_PX = 320


@pytest.fixture
def small_chest(monkeypatch) -> None:
    """A coarse phantom instead of the demo's: seconds become tenths."""
    spacing_mm = tuple(field / n for field, n in zip(FIELD_MM, SHAPE, strict=True))
    monkeypatch.setattr(demo, "chest_phantom", partial(chest_phantom, shape=SHAPE, spacing_mm=spacing_mm))


@pytest.mark.server
@pytest.mark.usefixtures("small_chest")
def test_from_nothing_to_a_lesion_over_a_real_server(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    options = ("--variants", 2, "--param", "steps=2", "--param", "margin_mm=8", "--seed", 3)
    outcome = command("demo", "--out", out, "--model", "tiny", *options)
    assert outcome.code == 0, outcome.err
    names = {"reference.nii.gz", "mask.nii.gz", "server.log"}
    for number in (1, 2):
        names |= {f"synthetic_ct-{number}{end}" for end in (".nii.gz", ".provenance.json")}
        names |= {f"montage-{number}.png"}
    assert {path.name for path in out.iterdir()} == names
    reference = read_volume(out / "reference.nii.gz")
    for number in (1, 2):
        result = out / f"synthetic_ct-{number}.nii.gz"
        changed = np.count_nonzero(read_volume(result).array != reference.array)
        assert changed == read_sidecar(result).voxels_changed > 50
        assert f"{changed:,} voxels changed inside the edit region, 0 outside" in outcome.out
        picture = Image.open(out / f"montage-{number}.png")
        assert picture.width == GAP_PX + 3 * (PANEL_PX + GAP_PX)
        assert picture.height > 4 * PANEL_PX
    assert "starting the server" in outcome.out
    assert all(str(out / name) in outcome.out for name in names - {"server.log"})


@pytest.fixture
def answer(monkeypatch):
    """Answers in the place of the server: one voxel changed, `offset` voxels from the lesion's middle."""

    def install(offset: int = 0) -> None:
        def answered(case: demo.DemoCase, *_: object) -> Result:
            made = read_volume(case.ct)
            middle = np.argwhere(read_volume(case.mask).array).mean(axis=0).round().astype(int)
            made.array[tuple(middle + offset)] += 100
            write_volume(made, case.synthetic)
            return Result([case.synthetic], [{}], {"sample": 1.5})

        monkeypatch.setattr(demo, "_over_http", answered)

    return install


def test_a_voxel_outside_the_edit_region_is_an_error(
    command: Command, ct: Path, mask: Path, tmp_path: Path, answer
) -> None:
    answer(offset=12)
    outcome = command("demo", "--ct", ct, "--mask", mask, "--model", "tiny", "--out", tmp_path)
    assert outcome.code == 1
    assert "0 voxels changed inside the edit region, 1 outside" in outcome.out


def test_ones_own_ct_is_used_where_it_lies(
    command: Command, ct: Path, mask: Path, tmp_path: Path, answer
) -> None:
    answer()
    outcome = command("demo", "--ct", ct, "--mask", mask, "--model", "tiny", "--out", tmp_path)
    assert outcome.code == 0
    assert "1 voxels changed inside the edit region, 0 outside" in outcome.out
    assert "sample 1.50" in outcome.out
    assert str(ct) in outcome.out
    assert not (tmp_path / "reference.nii.gz").exists()


@pytest.mark.parametrize("beside", [None, "holiday.png"])
def test_pictures_of_an_older_version_are_drawn_anew_where_all_is_ours(
    command: Command, ct: Path, mask: Path, tmp_path: Path, answer, beside: str | None
) -> None:
    answer()
    given = ("demo", "--ct", ct, "--mask", mask, "--model", "tiny", "--out", tmp_path / "out")
    assert command(*given).code == 0
    Image.new("RGB", (8, 8)).save(tmp_path / "out" / "montage.png")
    assert command(*given).code == 2  # no record of a result lies beside it
    write_sidecar(made_provenance(), tmp_path / "out" / "synthetic_ct.nii.gz")
    if beside:
        Image.new("RGB", (8, 8)).save(tmp_path / "out" / beside)
    again = command(*given)
    assert again.code == (2 if beside else 0)
    assert ("does not say that LesionBrush drew it" in again.err) == bool(beside)


def test_a_dicom_series_is_sent_as_a_nifti(command: Command, tmp_path: Path, answer) -> None:
    answer()
    write_series(tmp_path / "series", Series(make_ct().array[:, :, :16], (1.1, 1.1, 1.5)))
    reference = read_volume(tmp_path / "series")
    write_volume(Volume(make_mask().array[:, :, 12:28], reference.affine), tmp_path / "mask.mha")
    given = ("--ct", tmp_path / "series", "--mask", tmp_path / "mask.mha")
    outcome = command("demo", *given, "--model", "tiny", "--out", tmp_path / "out")
    assert outcome.code == 0
    sent = read_volume(tmp_path / "out" / "reference.nii.gz")
    assert np.array_equal(sent.array, reference.array)
    assert np.allclose(sent.affine, reference.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--organ", "liver", "--ct", "ct.nii"), "finds a place in the phantom alone"),
        (("--mask", "mask.nii"), "--ct"),
        (("--param", "output=box"), "whole volumes"),
        (("--param", "steps=0"), "steps"),
        (("--model", "nobody"), "no model is called 'nobody'"),
        (("--ct", "nowhere.nii"), "nowhere.nii"),
        (("--lesion-mm", "300"), "does not fit"),
    ],
)
@pytest.mark.usefixtures("small_chest")
def test_bad_input_never_starts_a_server(
    command: Command, tmp_path: Path, monkeypatch, options: tuple[str, str], reason: str
) -> None:
    def no_server(*_: object) -> Result:
        raise AssertionError("a server was started")

    monkeypatch.setattr(demo, "_over_http", no_server)
    outcome = command("demo", "--model", "tiny", "--out", tmp_path, *options)
    assert outcome.code == 2
    assert reason in outcome.one_line


@pytest.mark.usefixtures("small_chest")
def test_the_liver_is_there_and_takes_the_lesion(command: Command, tmp_path: Path, answer) -> None:
    answer()
    outcome = command("demo", "--organ", "liver", "--model", "tiny", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    mask = read_volume(tmp_path / "mask.nii.gz").array > 0
    around = read_volume(tmp_path / "reference.nii.gz").array[mask]
    assert abs(np.median(around) - 108) < 8
    assert not (mask & (demo.chest_phantom(0).liver.array == 0)).any()


@pytest.mark.server
@pytest.mark.usefixtures("small_chest")
def test_a_lesion_in_the_liver_over_a_real_server(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_soft(tmp_path / "models", "soft_tissue_lesion")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    outcome = command("demo", "--organ", "liver", "--out", tmp_path / "out", "--param", "steps=2")
    assert outcome.code == 0, outcome.err
    record = read_sidecar(tmp_path / "out" / "synthetic_ct.nii.gz")
    assert (record.model, record.remarks) == ("soft_tissue_lesion", ())
    assert f"{record.voxels_changed:,} voxels changed inside the edit region, 0 outside" in outcome.out
    assert record.voxels_changed > 15


def test_without_its_model_the_demo_in_the_liver_says_which_it_needs(
    command: Command, tmp_path: Path, answer
) -> None:
    answer()
    outcome = command("demo", "--organ", "liver", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "needs the model soft_tissue_lesion, which is not installed" in outcome.one_line
    assert "--model (" in outcome.one_line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_chest")
def test_the_model_follows_the_organ(
    command: Command, tmp_path: Path, answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer()
    for name in ("lung_lesion", "soft_tissue_lesion"):
        install(tmp_path / "models", name=name)
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    drawn: list[str] = []
    monkeypatch.setattr(demo, "_draw", lambda case, path, model: drawn.append(model) or path)
    for organ in ("lung", "liver"):
        assert command("demo", "--organ", organ, "--out", tmp_path / organ).code == 0
    assert drawn == ["lung_lesion", "soft_tissue_lesion"]


@pytest.fixture
def models(command: Command, tmp_path: Path, monkeypatch) -> None:
    """One that takes everything, and one whose lungs may change."""
    root = tmp_path / "models"
    make_model(root, "steered", system="steered")
    make_model(root, "layout", system="lung_ddpm")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(root))


@pytest.mark.server
@pytest.mark.usefixtures("small_chest", "models")
def test_other_volumes_reach_a_real_server(command: Command, tmp_path: Path) -> None:
    anatomy = demo.chest_phantom(3).volume
    write_volume(anatomy, tmp_path / "map.nii.gz")
    given = ("--anatomy", tmp_path / "map.nii.gz", "--seed", 3, "--param", "steps=2")
    outcome = command("demo", "--out", tmp_path / "out", "--model", "steered", *given)
    assert outcome.code == 0, outcome.err
    record = read_sidecar(tmp_path / "out" / "synthetic_ct.nii.gz")
    assert record.inputs_sha256 == {"anatomy": anatomy.voxel_sha256}
    assert "steered takes more than a CT and a mask. Not given:" in outcome.out
    for option in ("--lungs FILE", "--pathology FILE", "--pathology-mask FILE"):
        assert f"  {option}  {list_inputs()[option[2:-5].replace('-', '_')].about}" in outcome.out
    assert "--anatomy FILE" not in outcome.out
    assert str(tmp_path / "map.nii.gz") in outcome.out


@pytest.mark.server
@pytest.mark.usefixtures("small_chest")
def test_lungs_change_over_a_real_server_and_nothing_else(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lungs are found here, to count, and there, to change them: in the same voxels."""
    install_layout_model(tmp_path / "models", "lung_ddpm")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    options = ("--param", "steps=2", "--param", "region=lungs")
    outcome = command("demo", "--out", tmp_path / "out", "--model", "lung_ddpm", *options)
    assert outcome.code == 0, outcome.out + outcome.err
    record = read_sidecar(tmp_path / "out" / "synthetic_ct.nii.gz")
    lungs = read_volume(tmp_path / "out" / "may_also_change.nii.gz").array > 0
    assert record.voxels_changed > 0.3 * np.count_nonzero(lungs) > 1000
    assert f"{record.voxels_changed:,} voxels changed inside the edit region, 0 outside" in outcome.out


@pytest.mark.usefixtures("models")
def test_a_series_beside_the_ct_is_sent_as_a_nifti(
    command: Command, ct: Path, mask: Path, tmp_path: Path, answer
) -> None:
    answer()
    write_series(tmp_path / "series", Series(make_ct().array[:, :, :16], (1.1, 1.1, 1.5)))
    other = read_volume(tmp_path / "series")
    write_volume(other.with_array((other.array > -800).astype(np.uint8)), tmp_path / "lesion.mha")
    given = ("--pathology", tmp_path / "series", "--pathology-mask", tmp_path / "lesion.mha")
    outcome = command(
        "demo", "--ct", ct, "--mask", mask, "--model", "steered", "--out", tmp_path / "o", *given
    )
    assert outcome.code == 0, outcome.err
    assert np.array_equal(read_volume(tmp_path / "o" / "pathology.nii.gz").array, other.array)
    assert str(tmp_path / "lesion.mha") in outcome.out


@pytest.mark.parametrize(("region", "code"), [("edit", 1), ("lungs", 0)])
@pytest.mark.usefixtures("models")
def test_lungs_that_may_change_are_not_outside(
    command: Command, ct: Path, mask: Path, tmp_path: Path, answer, region: str, code: int
) -> None:
    answer(offset=12)
    lungs = make_mask()
    lungs.array[30:55, 34:60, 20:39] = 2
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    before = (tmp_path / "lungs.nii.gz").read_bytes()
    options = ("--lungs", tmp_path / "lungs.nii.gz", "--param", f"region={region}")
    outcome = command("demo", "--ct", ct, "--mask", mask, "--model", "layout", "--out", tmp_path, *options)
    assert outcome.code == code, outcome.err
    assert f"{1 - code} voxels changed inside the edit region, {code} outside" in outcome.out
    assert (tmp_path / "may_also_change.nii.gz").exists() == (region == "lungs")
    assert (tmp_path / "lungs.nii.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("tiny", ("--anatomy",), "takes no such volume (steered would); it takes none beside CT and mask"),
        ("layout", ("--anatomy",), "takes no such volume (steered would); it takes --lungs"),
        ("steered", ("--pathology",), "belong together"),
        ("steered", ("--pathology-mask",), "belong together"),
        ("steered", ("--anatomy",), "anatomy: the anatomy is 64 x 64 x 40 voxels, the CT is "),
    ],
)
@pytest.mark.usefixtures("small_chest", "models")
def test_a_volume_that_does_not_fit_never_starts_a_server(
    command: Command, ct: Path, tmp_path: Path, monkeypatch, model: str, options: tuple[str], reason: str
) -> None:
    def no_server(*_: object) -> Result:
        raise AssertionError("a server was started")

    make_model(tmp_path / "models")
    monkeypatch.setattr(demo, "_over_http", no_server)
    outcome = command(
        "demo", "--model", model, "--out", tmp_path, *(part for o in options for part in (o, ct))
    )
    assert outcome.code == 2
    assert reason in outcome.one_line


def test_a_result_is_never_its_own_reference(command: Command, mask: Path, tmp_path: Path) -> None:
    own = tmp_path / "synthetic_ct.nii.gz"
    write_volume(make_ct(), own)
    outcome = command("demo", "--ct", own, "--mask", mask, "--model", "tiny", "--out", tmp_path)
    assert outcome.code == 2
    assert "is an input" in outcome.one_line
