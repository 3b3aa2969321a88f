"""Whatever a command can know of its request, it says before it loads a model; and then nothing is left."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from lesionbrush.cli import (
    anatomy,
    bench,
    demo,
    describe,
    evaluate,
    load,
    lungs,
    peers,
    synthesize,
    train,
    variations,
)
from lesionbrush.cli.__main__ import main
from lesionbrush.cli.options import request_from
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from mddpm_kit import install_guided
from server_kit import REPOSITORY, make_ct, make_mask, make_model

pytest_plugins = "cli_fixtures"
WORK = {
    synthesize: ("load_model", "synthesize"),
    variations: ("load_model", "synthesize"),
    demo: ("_over_http", "local_server"),
    bench: ("load_model", "this_machine"),
    load: ("local_server",),
    peers: ("load_model",),
    evaluate: ("this_machine",),
    train: ("train",),
    lungs: ("find_lungs",),
    anatomy: ("fit", "draw_valid", "map_of", "picture"),
    describe: ("find_chest_masks",),
}
"""What takes time, by command."""
SHAPES = REPOSITORY / "models" / "mddpm" / "anatomy_maps.npz"
Usage = namedtuple("Usage", "total used free")
Refused = Callable[..., str]


@pytest.fixture
def refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """`refused("lungs", ...)`: the one line it says, having made nothing and done none of its work."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    for module, names in WORK.items():
        for name in names:
            monkeypatch.setattr(module, name, never)
    monkeypatch.setattr("lesionbrush.systems.load_model", never)
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    (place / "taken.nii.gz").mkdir()
    (place / "taken.png").mkdir()
    (place / "file").write_bytes(b"")

    def call(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        outcome = command(*arguments)
        assert outcome.code == 2, outcome
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
        return outcome.one_line

    return call


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Masks that do not fit the CT of the kit, and a volume that is no CT."""
    folder, mask, ct = tmp_path_factory.mktemp("other"), make_mask(), make_ct()
    labels = mask.array.copy()
    labels[2, 2, 2] = 7
    moved = mask.affine.copy()
    moved[:3, 3] += 40
    volumes = {
        "empty": mask.with_array(0 * mask.array),
        "labels": mask.with_array(labels),
        "moved": type(mask)(mask.array, moved),
        "pet": ct.with_array(np.abs(ct.array)),
    }
    for name, volume in volumes.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in volumes}


BAD_NAMES = [
    ("x.jpg", "unknown file type"),
    ("taken.nii.gz", "is a folder"),
    ("file/new/out.nii", "file is no folder"),
]
BAD_PICTURES = [
    ("x.jpg", "ends with .png"),
    ("taken.png", "is a folder"),
    ("file/new/m.png", "file is no folder"),
]


@pytest.mark.parametrize(("name", "said"), BAD_NAMES)
def test_names_of_volumes(refused: Refused, ct: Path, mask: Path, name: str, said: str) -> None:
    assert said in refused("synthesize", ct, mask, "-o", name, "--model", "tiny")
    assert said in refused("lungs", ct, "-o", name)
    assert said in refused("anatomy", "sample", "-o", name)


@pytest.mark.parametrize(("name", "said"), BAD_PICTURES)
def test_names_of_pictures(refused: Refused, ct: Path, mask: Path, name: str, said: str) -> None:
    made = ("synthesize", ct, mask, "-o", "new/out.nii", "--model", "tiny")
    assert said in refused(*made, "--montage", name)
    assert said in refused("montage", ct, mask, ct, "-o", name)
    assert said in refused("lungs", ct, "-o", "new/lungs.nii", "--montage", name)
    assert said in refused("anatomy", "sheet", "-o", name)


def test_names_of_other_files(refused: Refused, ct: Path, tmp_path: Path) -> None:
    assert "ends with .npz" in refused("anatomy", "fit", ct, "-o", "shapes.npy")
    for what in ("latency", "load", "peers"):
        assert "is a folder" in refused("bench", what, "--json", "taken.png", "--model", "tiny")
    assert "file is no folder" in refused("models", "table", "--write", "file/README.md")
    assert "file is no folder" in refused("demo", "--out", "file/demo", "--model", "tiny")
    assert "exists already" in refused("export", "dicom", "--ct", ct, "--reference", ct, "-o", "taken.png")
    assert "file is no folder" in refused("evaluate", "lesions", "--data", tmp_path, "--out", "file/report")
    assert "no such folder" in refused("evaluate", "tiny", "--data", "nowhere", "--out", "report")
    assert "file is no folder" in refused("train", "tiny", "--data", tmp_path, "--out", "file/run")


def test_no_command_replaces_what_it_reads(refused: Refused, ct: Path, mask: Path) -> None:
    place = Path.cwd()
    for name, source in (("ct.nii.gz", ct), ("m.nii.gz", mask)):
        (place / name).write_bytes(source.read_bytes())
    (place / "link.nii.gz").symlink_to("ct.nii.gz")
    (place / "ct.png").symlink_to("ct.nii.gz")
    made = ("synthesize", "ct.nii.gz", "m.nii.gz", "--model", "tiny", "-o")
    for name in ("ct.nii.gz", "m.nii.gz", "link.nii.gz"):
        assert "is an input" in refused(*made, name)
    assert "is an input" in refused(*made, "out.nii", "--montage", "ct.png")
    assert "is an input" in refused("lungs", "ct.nii.gz", "-o", "link.nii.gz")
    assert "is an input" in refused("lungs", "ct.nii.gz", "-o", "out.nii", "--montage", "ct.png")
    assert "is an input" in refused("montage", "ct.nii.gz", "m.nii.gz", "ct.nii.gz", "-o", "ct.png")
    assert "is an input" in refused("anatomy", "sample", "--ct", "ct.nii.gz", "-o", "link.nii.gz")
    (place / "demo").mkdir()
    (place / "demo" / "mask.nii.gz").write_bytes(mask.read_bytes())
    given = ("--ct", "ct.nii.gz", "--mask", "demo/mask.nii.gz")
    assert "is an input" in refused("demo", *given, "--out", "demo", "--model", "tiny")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "tpu:0", "meta"])
def test_a_device_that_is_not_there(
    refused: Refused, ct: Path, mask: Path, tmp_path: Path, device: str
) -> None:
    made = ("synthesize", ct, mask, "-o", "new/out.nii", "--model", "tiny", "--device", device)
    assert f"device '{device}': this machine has cpu" in refused(*made)
    assert "this machine has cpu" in refused("train", "tiny", "--data", tmp_path, "--device", device)


def test_a_run_that_could_not_start_packs_no_data(refused: Refused, tmp_path: Path) -> None:
    given = ("--data", tmp_path, "--out", "run")
    assert "'nobody'" in refused("train", "tiny", *given, "--start-from", "nobody")
    assert "--sides 7" in refused("train", "mddpm", *given, "--sides", 7)


def test_volumes_the_model_does_not_take_are_not_even_read(refused: Refused, ct: Path, mask: Path) -> None:
    made = ("-o", "new/out.nii", "--model", "tiny", "--anatomy", "nowhere.nii")
    assert "takes no such volume" in refused("synthesize", ct, mask, *made)
    assert "takes no such volume" in refused("demo", "--model", "tiny", "--anatomy", "nowhere.nii")


@pytest.mark.parametrize(
    ("mask_name", "said"),
    [("empty", "the mask is empty"), ("labels", "2 labels (1, 7)"), ("moved", "does not lie on the grid")],
)
def test_a_mask_that_does_not_fit(
    refused: Refused, ct: Path, other: dict[str, Path], mask_name: str, said: str
) -> None:
    message = refused("synthesize", ct, other[mask_name], "-o", "new/out.nii", "--model", "tiny")
    assert said in message or "corner" in message


def test_what_is_no_ct(refused: Refused, mask: Path, other: dict[str, Path]) -> None:
    made = ("synthesize", other["pet"], mask, "-o", "new/out.nii", "--model", "tiny")
    assert "these are not HU" in refused(*made)


def test_volumes_that_do_not_fit(
    refused: Refused, ct: Path, mask: Path, other: dict[str, Path], tmp_path: Path, monkeypatch
) -> None:
    make_model(tmp_path / "models", "steered", system="steered")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    made = ("synthesize", ct, mask, "-o", "new/out.nii", "--model", "steered")
    assert "lungs: " in refused(*made, "--lungs", other["moved"])
    assert "lungs: the volume that was sent is empty" in refused(*made, "--lungs", other["empty"])
    assert "these are not HU" in refused(*made, "--anatomy", other["pet"])
    pathology = ("--pathology", ct, "--pathology-mask")
    assert "--pathology-mask: the mask is empty" in refused(*made, *pathology, other["empty"])
    assert "belong together" in refused(*made, "--pathology", ct)


def test_a_disk_that_is_too_small(refused: Refused, ct: Path, mask: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**6, 0, 150_000))
    made = ("synthesize", ct, mask, "-o", "new/out.nii", "--model", "tiny")
    assert "the result needs up to 0.3 MB, and 0.1 MB are free" in refused(*made)
    assert "the 3 results need up to 1.0 MB" in refused(*made, "--variants", 3)
    assert "needs up to 0.2 MB" in refused("lungs", ct, "-o", "new/lungs.nii")
    sample = ("anatomy", "sample", "--ct", ct, "-o", "a.nii", "--count", 4, "--shapes", SHAPES)
    assert "the 4 results need" in refused(*sample)
    assert "results need" in refused("demo", "--ct", ct, "--mask", mask, "--out", "new", "--model", "tiny")


def test_a_folder_one_may_not_write_into(refused: Refused, ct: Path, mask: Path, monkeypatch) -> None:
    place = Path.cwd()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)
    made = ("synthesize", ct, mask, "-o", "new/out.nii", "--model", "tiny")
    for command in (made, ("lungs", ct, "-o", "l.nii"), ("montage", ct, mask, ct, "-o", "m.png")):
        assert "you may not write into the folder 'place'" in refused(*command)
    assert "you may not write" in refused("demo", "--model", "tiny")


class TestVariations:
    @pytest.fixture
    def given(self, tmp_path: Path, monkeypatch, ct: Path, mask: Path) -> list[object]:
        install_guided(tmp_path / "models", "mddpm_3d")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        return ["variations", ct, mask, "--pathology", ct, "--pathology-mask", mask, "--param", "steps=2"]

    def test_names(self, refused: Refused, given: list[object], tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        for name, said in BAD_PICTURES:
            assert said in refused(*given, "-o", name)
        assert "is no folder" in refused(*given, "-o", "s.png", "--volumes", "file")
        twice = ("-o", "s.png", "--volumes", "new", "--factors", 2, 2)
        assert "n2-a0.nii.gz would be written twice" in refused(*given, *twice)

    def test_a_factor_that_the_last_request_asks_for(
        self, given: list[object], tmp_path: Path, monkeypatch, capsys
    ) -> None:
        monkeypatch.setattr(variations, "load_model", lambda *_: pytest.fail("a model was loaded"))
        for more, said in (
            (("--factors", 2, 7), "7 does not divide"),
            (("--guide", "anatomy"), "nothing to follow"),
        ):
            assert main([str(argument) for argument in [*given, *more, "-o", tmp_path / "s.png"]]) == 2
            assert said in capsys.readouterr().err
        assert not (tmp_path / "s.png").exists()

    def test_what_does_not_fit(
        self, refused: Refused, given: list[object], tmp_path: Path, other: dict[str, Path], monkeypatch
    ) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        assert "this machine has cpu" in refused(*given, "-o", "s.png", "--device", "gpu")
        changed = [*given, "-o", "s.png"]
        changed[6] = other["empty"]
        assert "--pathology-mask: the mask is empty" in refused(*changed)
        changed[2] = other["labels"]
        assert "2 labels" in refused(*changed)

    def test_one_of_several_labels_can_be_chosen(
        self, given: list[object], tmp_path: Path, other: dict[str, Path]
    ) -> None:
        given[2] = other["labels"]
        more = ["--param", "label=1", "--factors", 2, "--stops", 0, "-o", tmp_path / "sheet.png"]
        assert main([str(argument) for argument in [*given, *more]]) == 0
        assert (tmp_path / "sheet.png").is_file()


def test_upper_case_variants_are_written(command: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "OUT.NII.GZ"
    options = ("--model", "tiny", "--param", "steps=2", "--variants", 2, "--montage", tmp_path / "M.PNG")
    outcome = command("synthesize", ct, mask, "-o", out, *options)
    assert outcome.code == 0, outcome.err
    names = {f"OUT-{n}{end}" for n in (1, 2) for end in (".NII.GZ", ".provenance.json")}
    assert {path.name for path in out.parent.iterdir()} == names
    assert read_volume(out.with_name("OUT-2.NII.GZ")).shape == read_volume(ct).shape
    assert {path.name for path in tmp_path.glob("*.PNG")} == {"M-1.PNG", "M-2.PNG"}


def test_a_parameter_is_given_once() -> None:
    """Which of the two would count, nobody could know."""
    given = Namespace(param=["seed=7"], seed=3, variants=None, model="lung_lesion")
    with pytest.raises(InvalidRequest, match="seed is given twice, as --seed and as --param seed="):
        request_from(given)


def test_ct_and_mask_the_wrong_way_round(refused: Refused, ct: Path, mask: Path) -> None:
    said = refused("synthesize", mask, ct, "-o", "out.nii", "--model", "tiny")
    assert f"{ct.name} looks like one: the CT comes first" in said


def test_a_nodule_that_is_not_there_is_told_before_lungs_are_looked_for(refused: Refused, ct: Path) -> None:
    assert "nowhere.nii" in refused("describe", ct, "--lesion", "nowhere.nii")
