"""The whole round trip: a CT in a real scene, a lesion, the real server and model, the six views."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from compare_picture import REAL, Case, Made, phantom_case, save_picture, synthesize
from lesionbrush.cli.local_server import local_server
from LesionBrushLib.client import JobClient
from LesionBrushLib.logic.compose import provenance_of
from LesionBrushLib.logic.layout import VIEW_NAMES, WINDOWS, view_name
from mrml_kit import REPOSITORY, array_of, require_display
from PIL import Image

pytestmark = [pytest.mark.server, pytest.mark.slow]
MOST_BYTES = 600_000


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A real chest CT where the data is, else the phantom."""
    data = Path(os.environ.get("LESIONBRUSH_DATA") or REPOSITORY.parent / "shared" / "data")
    real = data / "chest_ct" / "LungFCP-01-0001.nii.gz"
    return Case(real, *REAL) if real.is_file() else phantom_case(tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="module")
def made(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    require_display()
    folder = tmp_path_factory.mktemp("server")
    (folder / "studies").mkdir()
    with local_server(folder / "studies", folder / "server.log", gpu=False) as (server, _):
        done = synthesize(case, JobClient(server.url))
        yield done
        done.logic.close()


def test_the_synthetic_ct_is_the_ct_but_for_the_lesion(made: Made) -> None:
    before, after = array_of(made.reference), array_of(made.logic.variants.node)
    sent = made.logic.export()
    mask = sent.mask_kji > 0
    changed = before != after
    near = np.argwhere(changed)
    low, high = np.argwhere(mask).min(0), np.argwhere(mask).max(0)
    margin_voxels = np.ceil(3.0 / sent.grid.spacing_mm[::-1])
    assert np.all(near >= low - margin_voxels)
    assert np.all(near <= high + margin_voxels)
    assert before[mask].mean() < -700
    assert after[mask].mean() > before[mask].mean() + 300
    assert not np.any(made.outcome.boxes[0].array.T[0, 0, 0] < -2000)


def test_the_record_says_where_it_comes_from(made: Made, case: Case) -> None:
    record = provenance_of(made.logic.variants.node)
    assert record["synthetic"] is True
    assert record["model"] == "lung_lesion"
    assert record["seed"] == case.seed
    assert "Not for diagnosis" in record["notice"]
    assert made.logic.variants.node.GetName() == f"SYNTHETIC lung_lesion seed {case.seed}"


def test_the_user_heard_of_every_stage(made: Made) -> None:
    states = [status.state for status in made.statuses]
    assert states[-1] == "done"
    assert "running" in states


def test_the_picture_shows_a_lesion_on_the_right_alone(made: Made, tmp_path: Path) -> None:
    pixels = save_picture(made.views, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size < MOST_BYTES
    assert Image.open(tmp_path / "compare.png").size == (pixels.shape[1], pixels.shape[0])
    grids = {name: made.views[name].grab().astype(int) for name in VIEW_NAMES}
    lung = WINDOWS[0]
    left, right = grids[view_name(lung, "Reference")], grids[view_name(lung, "Synthetic")]
    row, column = (size // 2 for size in left.shape[:2])
    around = (slice(row - 12, row + 13), slice(column - 12, column + 13), 0)
    assert right[around].mean() > left[around].mean() + 60
    for window in WINDOWS:
        assert made.logic.marks.text(view_name(window, "Synthetic")).startswith("SYNTHETIC")
        assert made.logic.marks.text(view_name(window, "Reference")) == ""
        for name in (view_name(window, "Reference"), view_name(window, "Synthetic")):
            cyan = (grids[name][..., 2] - grids[name][..., 0]) > 100
            assert np.count_nonzero(cyan) > 100, name


def test_what_is_saved_can_be_loaded_as_the_same_ct(made: Made, tmp_path: Path) -> None:
    from lesionbrush.files.io import read_volume

    volume, _ = made.logic.save(0, tmp_path / "synthetic.nii")
    assert np.array_equal(read_volume(volume).array.T, array_of(made.logic.variants.node))
