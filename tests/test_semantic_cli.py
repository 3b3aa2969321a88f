"""Semantic CT by commands: an organ changed in a file, a whole CT from a layout, a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from core_fixtures import ball, edit_region
from lesionbrush.cli import synthesize
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout, write_layout
from lesionbrush.files.records import read_sidecar
from lesionbrush.montage import Panel
from lesionbrush.systems.semantic import sheets
from PIL import Image
from semantic_kit import install_semantic, make_abdomen, move, named_layout, write_semantic_data
from server_kit import make_model
from test_semantic_whole import with_body

pytest_plugins = "cli_fixtures"
QUICK = ("--param", "steps=2")
MOVED = ("--model", "semantic", *QUICK, "--montage")


@pytest.fixture
def run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command that finds the tiny models."""
    for system in ("semantic", "semantic_whole"):
        install_semantic(tmp_path / "models", system)
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    return command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A CT, its layout, and one with the liver 20 mm further back."""
    ct, labels = make_abdomen()
    write_volume(ct, tmp_path / "ct.nii.gz")
    write_layout(named_layout(labels), tmp_path / "before.nii.gz")
    write_layout(named_layout(move(labels, 6, (0, -4, 0))), tmp_path / "after.nii.gz")
    write_volume(ball(ct, (26, 20, 6), 10.0), tmp_path / "mask.nii.gz")
    return tmp_path


def test_an_organ_is_moved_and_the_rest_is_the_ct(
    run: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = files / "moved.nii.gz", list[Panel]()
    monkeypatch.setattr(
        synthesize, "sheet", lambda panels, *_, **__: drawn.extend(panels) or Image.new("L", (1, 1))
    )
    layouts = ("--layout", files / "before.nii.gz", "--new-layout", files / "after.nii.gz")
    outcome = run("synthesize", files / "ct.nii.gz", *layouts, "-o", out, *MOVED, files / "moved.png")
    assert outcome.code == 0, outcome.err
    assert not [panel for panel in drawn if "mask" in panel.caption + panel.note]
    ct, made = read_volume(files / "ct.nii.gz"), read_volume(out)
    before, after = (read_volume(files / f"{name}.nii.gz").array for name in ("before", "after"))
    where = made.array != ct.array
    assert not where[~edit_region(before != after, ct.spacing_mm, 3.0)].any()
    assert where[before != after].mean() > 0.5
    assert read_sidecar(out).inputs_sha256.keys() == {"layout", "new_layout"}


def test_without_a_mask_a_model_that_needs_one_says_so(run: Command, files: Path) -> None:
    same = ("--layout", files / "before.nii.gz")
    outcome = run("synthesize", files / "ct.nii.gz", *same, "-o", files / "x.nii.gz", "--model", "semantic")
    assert outcome.code != 0
    assert "--layout and --new-layout say the same, and no mask was sent" in outcome.one_line


def test_a_refused_layout_names_the_option_and_the_models_that_take_it(run: Command, files: Path) -> None:
    make_model(files / "models")
    given = ("synthesize", files / "ct.nii.gz", "-o", files / "x.nii.gz", "--layout", files / "before.nii.gz")
    said = run(*given, "--model", "tiny").one_line
    assert "--layout: model 'tiny' takes no such volume (semantic would); it takes none beside" in said
    (files / "before.json").unlink()
    for names, command in (
        ("--layout-names", (*given, "--model", "semantic")),
        ("--names", ("layout", files / "before.nii.gz", "--mirror", "-o", files / "y.nii.gz")),
    ):
        assert f"send a table of names as {names}, such as" in run(*command).one_line


def test_a_whole_ct_has_its_labels(run: Command, files: Path) -> None:
    write_layout(with_body(), files / "whole.nii.gz")
    out = files / "new.nii.gz"
    outcome = run(
        "generate", "--layout", files / "whole.nii.gz", "-o", out, "--model", "semantic_whole", *QUICK
    )
    assert outcome.code == 0, outcome.err
    assert "GENERATED" in outcome.out
    assert read_sidecar(out).generated
    labels = read_layout(files / "new_labels.nii.gz")
    assert np.array_equal(labels.mask("liver"), with_body().mask("liver"))


def test_a_training_begins(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "STEPS", 1)
    monkeypatch.setattr(sheets, "SLICES", 1)
    data = write_semantic_data(tmp_path / "data")
    wish = ("--sides", 32, "--channels", 8, 16, "--conditioning", "edge_guided", "--steps", 1)
    outcome = command("train", "semantic", "--data", data, "--out", tmp_path / "run", *wish)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "samples-000001.png").is_file()
