"""Anatomy maps fitted to CTs with layouts: heart, esophagus and spinal cord come in by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.anatomy.lungs import LEFT, RIGHT
from lesionbrush.cli.__main__ import main
from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.systems.mddpm.anatomy_maps import structures
from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve
from lesionbrush.systems.mddpm.anatomy_maps.maps import centred_grid, fit, map_of, rasterise
from lesionbrush.systems.mddpm.anatomy_maps.shapes import ShapeModel
from lesionbrush.systems.mddpm.anatomy_maps.structures import NAMED
from lesionbrush.systems.mddpm.anatomy_maps.validity import problems
from lesionbrush.systems.mddpm.maps import sample_map
from test_anatomy_maps import CENTRES_MM, HU, chest, ellipse

SLICES, SLICE_MM, PIXELS = 6, 4.0, 240
HEART, ESOPHAGUS, CORD = ((35, 0), (22, 11)), ((-12, 0), (7, 7)), ((-60, 0), (6, 6))
"""(y, x) of middle and radii in mm."""
NAMES = {1: "heart_atrium_left", 2: "heart_ventricle_right", 3: "esophagus", 4: "spinal_cord"}
ALL = ["body", "right lung", "left lung", "mediastinum", "spine", "heart", "esophagus", "spinal cord"]


def chest_with_layout() -> tuple[Volume, Layout, np.ndarray]:
    """Slices of ellipses that grow from the lowest to the highest; the layout; lungs as (Z, Y, X) labels."""
    grid, hu, labels, lungs = centred_grid(PIXELS, 1.5), [], [], []
    for scale in np.linspace(0.95, 1.05, SLICES):
        curves = chest(float(scale))
        picture = rasterise(curves, HU, grid)
        picture[ClosedCurve.through(ellipse(CENTRES_MM[4], (6, 6)), 12).mask(grid)] = 40
        named = np.zeros(grid.shape, np.uint8)
        for number, (middle, radii) in ((1, HEART), (3, ESOPHAGUS), (4, CORD)):
            named[ClosedCurve.through(ellipse(middle, radii), 24).mask(grid)] = number
        named[(named == 1) & (np.arange(PIXELS) > PIXELS / 2)] = 2
        sides = np.zeros(grid.shape, np.uint8)
        sides[curves[1].mask(grid)], sides[curves[2].mask(grid)] = RIGHT, LEFT
        hu.append(picture)
        labels.append(named)
        lungs.append(sides)
    ct = Volume(np.stack(hu).T.astype(np.int16), np.diag([1.5, 1.5, SLICE_MM, 1.0]))
    return ct, Layout(ct.with_array(np.stack(labels).T), NAMES), np.stack(lungs)


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> tuple[Volume, Layout]:
    """Where the lungs are is known here: finding them is tested elsewhere."""
    ct, layout, lungs = chest_with_layout()
    monkeypatch.setattr(structures, "segment_lungs", lambda volume: volume.with_array(lungs.T))
    return ct, layout


def test_what_a_layout_names_is_outlined_like_the_rest(case: tuple[Volume, Layout]) -> None:
    ct, layout = case
    model, slices = fit([ct], [layout])
    assert slices == SLICES
    assert [one.name for one in model.structures] == ALL
    curves = model.curves(np.zeros(len(model.deviations)))
    assert problems(curves, model.structures) == []
    grid = centred_grid(PIXELS, 1.5)
    for curve, (_, radii) in zip(curves[5:], (HEART, ESOPHAGUS, CORD), strict=True):
        area = np.count_nonzero(curve.mask(grid)) * 1.5**2
        assert area == pytest.approx(math.pi * radii[0] * radii[1], rel=0.1)


def test_without_layouts_it_is_as_before_and_so_are_old_files(
    case: tuple[Volume, Layout], tmp_path: Path
) -> None:
    model, _ = fit([case[0]])
    assert [one.name for one in model.structures] == ALL[:5]
    model.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file if name != "names"})
    assert ShapeModel.load(tmp_path / "old.npz").structures == model.structures


def test_it_is_kept_and_drawn_with_its_names(case: tuple[Volume, Layout], tmp_path: Path) -> None:
    ct, layout = case
    fit([ct], [layout])[0].save(tmp_path / "shapes.npz")
    model = ShapeModel.load(tmp_path / "shapes.npz")
    assert model.structures[5:] == NAMED
    drawn = sample_map(model, RoiGrid((2, 128, 128), 3.0, (0.0, 0.0, 0.0)), 3.0, 0.0, 0)
    assert list(drawn.names.values()) == ALL
    assert set(np.unique(drawn.labels)) >= {0, 1, 2, 3, 5, 6, 7, 8}
    moved, count = map_of(ct, model, layout=layout)
    assert count == SLICES
    assert (moved.array[layout.mask("spinal_cord")] == round(model.hu[7])).mean() > 0.8


def test_refusals(case: tuple[Volume, Layout]) -> None:
    ct, layout = case
    with pytest.raises(InvalidRequest, match="no structure of heart, esophagus, spinal cord is named by all"):
        fit([ct], [Layout(layout.labels, {1: "liver", 2: "spleen", 3: "aorta", 4: "body"})])
    with pytest.raises(InvalidRequest, match="these shapes have heart, esophagus, spinal cord, which no"):
        map_of(ct, fit([ct], [layout])[0])
    elsewhere = Volume(layout.labels.array, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(GeometryMismatch, match="layout"):
        fit([ct], [Layout(elsewhere, NAMES)])


def test_the_command(case: tuple[Volume, Layout], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct, layout = case
    write_volume(ct, tmp_path / "ct.nii.gz")
    write_layout(layout, tmp_path / "organs.nii.gz")
    paths = [str(tmp_path / name) for name in ("ct.nii.gz", "organs.nii.gz", "shapes.npz", "map.nii.gz")]
    chest_ct, organs, shapes, out = paths
    assert main(["anatomy", "fit", chest_ct, "--layouts", organs, "-o", shapes]) == 0
    assert f"of {', '.join(ALL)}" in capsys.readouterr().out
    drawing = ["anatomy", "sample", "--shapes", shapes, "--layout", organs, "-o"]
    assert main([*drawing, out, "--ct", chest_ct]) == 0
    assert read_volume(Path(out)).shape == ct.shape
    again = ["anatomy", "fit", chest_ct, chest_ct, "--layouts", organs, "-o"]
    assert main([*again, shapes]) == 2
    assert "shapes.npz is there already and is not overwritten" in capsys.readouterr().err
    assert main([*again, str(tmp_path / "other.npz")]) == 2
    assert "2 CTs and 1 layouts: give one for each CT" in capsys.readouterr().err
    assert main([*drawing, str(tmp_path / "other.nii.gz")]) == 2
    assert "--layout: name the CT that it is of as --ct" in capsys.readouterr().err
