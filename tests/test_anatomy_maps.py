"""Anatomy maps: curves against circles and ellipses, components against the shapes they come from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.anatomy.lungs import LEFT, RIGHT
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, InvalidRequest, NoLungs
from lesionbrush.systems.mddpm.anatomy_maps import maps
from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve, SliceGrid, outline_of, signed_area
from lesionbrush.systems.mddpm.anatomy_maps.maps import (
    centred_grid,
    draw_valid,
    map_of,
    map_volume,
    rasterise,
)
from lesionbrush.systems.mddpm.anatomy_maps.shapes import ShapeModel, flatten
from lesionbrush.systems.mddpm.anatomy_maps.structures import AIR_HU, STRUCTURES, anatomy_of
from lesionbrush.systems.mddpm.anatomy_maps.validity import crosses_itself, problems

HU = np.array([structure.hu for structure in STRUCTURES])
CENTRES_MM = ((0, 0), (5, 60), (5, -60), (30, 0), (-60, 0))
RADII_MM = ((100, 140), (70, 40), (70, 40), (30, 14), (14, 14))
"""(y, x) of body, lungs, mediastinum and spine as ellipses."""


def ellipse(centre: tuple[float, float], radii: tuple[float, float], count: int = 400) -> np.ndarray:
    """(count, 2) points (y, x), counter-clockwise in (x, y)."""
    angle = np.arange(count) / count * 2 * math.pi
    return np.array(centre) + np.stack((np.sin(angle), np.cos(angle)), axis=1) * radii


def chest(scale: float = 1.0, shift_mm: float = 0.0) -> list[ClosedCurve]:
    """An anatomy of ellipses; `shift_mm` moves the right lung."""
    curves = []
    for structure, centre, radii in zip(STRUCTURES, CENTRES_MM, RADII_MM, strict=True):
        moved = shift_mm if structure.name == "right lung" else 0.0
        points = ellipse((centre[0] * scale, centre[1] * scale + moved), (radii[0] * scale, radii[1] * scale))
        curves.append(ClosedCurve.through(points, structure.controls))
    return curves


def fitted(count: int = 12) -> ShapeModel:
    return ShapeModel.fit([chest(1 + 0.02 * k, 0.5 * (k % 3)) for k in range(count)], HU)


class TestCurves:
    def test_a_circle_comes_back_as_a_circle(self) -> None:
        curve = ClosedCurve.through(ellipse((10, -20), (50, 50)), 24)
        distance = np.linalg.norm(curve.points(1000) - (10, -20), axis=1)
        np.testing.assert_allclose(distance, 50, atol=0.02)
        assert signed_area(curve.points(1000)) == pytest.approx(math.pi * 50**2, rel=1e-3)

    def test_control_points_correspond_wherever_and_whichever_way_an_outline_begins(self) -> None:
        points = ellipse((0, 0), (60, 40))
        one = ClosedCurve.through(points, 32).control_mm
        for other in (np.roll(points, 137, axis=0), points[::-1]):
            np.testing.assert_allclose(ClosedCurve.through(other, 32).control_mm, one, atol=0.6)

    def test_the_first_control_points_are_in_front(self) -> None:
        curve = ClosedCurve.through(ellipse((0, 0), (50, 50)), 24)
        np.testing.assert_allclose(curve.points()[0], (50, 0), atol=1.0)

    def test_a_disc_of_pixels_and_back(self) -> None:
        grid = SliceGrid((120, 100), np.array([1.5, 1.0]), np.array([-90.0, -50.0]))
        y, x = (grid.to_mm(np.argwhere(np.ones(grid.shape)))).T
        disc = (y**2 + x**2 <= 30**2).reshape(grid.shape)
        outline = outline_of(disc, grid)
        assert outline is not None
        again = ClosedCurve.through(outline, 24).mask(grid)
        assert (again ^ disc).sum() < 0.03 * disc.sum()

    def test_a_mask_at_the_border_is_closed_along_it(self) -> None:
        grid = SliceGrid((50, 50), np.ones(2), np.zeros(2))
        outline = outline_of(np.ones(grid.shape, bool), grid)
        assert outline is not None
        assert signed_area(outline) ** 2 == pytest.approx(50**4, rel=0.02)

    def test_some_voxels_are_no_outline(self) -> None:
        mask = np.zeros((20, 20), bool)
        mask[5, 5] = True
        assert outline_of(mask, SliceGrid((20, 20), np.ones(2), np.zeros(2))) is None


class TestValidity:
    def test_a_possible_chest(self) -> None:
        assert problems(chest()) == []

    def test_a_figure_of_eight_crosses_itself(self) -> None:
        angle = np.arange(60) / 60 * 2 * math.pi
        assert crosses_itself(np.stack((np.sin(2 * angle), np.sin(angle + 0.1)), axis=1) * 40)
        assert not crosses_itself(ellipse((0, 0), (30, 60), 60))

    def test_a_crossing_curve_is_refused_by_name(self) -> None:
        curves = chest()
        crossed = curves[3].control_mm.copy()
        crossed[[4, 20]] = crossed[[20, 4]]
        curves[3] = ClosedCurve(crossed)
        assert problems(curves) == ["mediastinum crosses itself"]

    @pytest.mark.parametrize(
        ("which", "moved_mm", "said"),
        [(1, 90.0, "right lung outside the body"), (1, -60.0, "right lung covers"), (4, 60.0, "spine")],
    )
    def test_organs_out_of_place_are_refused(self, which: int, moved_mm: float, said: str) -> None:
        curves = chest()
        curves[which] = ClosedCurve(curves[which].control_mm + np.array((0, moved_mm)))
        assert any(said in problem for problem in problems(curves))


class TestShapes:
    def test_components_rebuild_the_shapes_they_were_made_from(self) -> None:
        shapes = [chest(1 + 0.02 * k, 0.5 * (k % 3)) for k in range(8)]
        model = ShapeModel.fit(shapes, HU, kept=1.0)
        for curves in shapes:
            rebuilt = model.curves(model.coefficients(curves))
            np.testing.assert_allclose(flatten(rebuilt), flatten(curves), atol=1e-6)

    def test_one_way_of_varying_is_one_component_with_its_deviation(self) -> None:
        scales = np.array([0.9, 1.0, 1.1, 1.2])
        model = ShapeModel.fit([chest(scale) for scale in scales], HU)
        assert len(model.deviations) == 1
        wanted = np.linalg.norm(flatten(chest(1.0))) * scales.std(ddof=1)
        assert model.deviations[0] == pytest.approx(wanted, rel=1e-3)

    def test_draws_stay_within_and_come_from_the_generator(self) -> None:
        model = fitted()
        drawn = np.stack([model.draw(np.random.default_rng(k), 0.5) for k in range(200)])
        assert np.abs(drawn).max() <= 0.5
        assert np.ptp(drawn) > 0.9
        assert np.array_equal(drawn[3], model.draw(np.random.default_rng(3), 0.5))
        assert not model.draw(np.random.default_rng(0), 0).any()

    def test_a_wide_draw_is_a_normal_one(self) -> None:
        model, generator = fitted(), np.random.default_rng(0)
        drawn = np.concatenate([model.draw(generator, 3.0) for _ in range(2000)])
        assert drawn.std() == pytest.approx(0.987, abs=0.03)  # of a normal cut at 3

    def test_less_than_no_deviation_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="0 or more"):
            fitted().draw(np.random.default_rng(0), -1)

    def test_two_slices_have_no_spread(self) -> None:
        with pytest.raises(InvalidRequest, match="2 slices"):
            ShapeModel.fit([chest(), chest(1.1)], HU)

    def test_a_file_and_back(self, tmp_path: Path) -> None:
        model, path = fitted(), tmp_path / "shapes.npz"
        model.save(path)
        assert [file.name for file in tmp_path.iterdir()] == ["shapes.npz"]
        loaded = ShapeModel.load(path)
        np.testing.assert_allclose(loaded.mean, model.mean, rtol=1e-5)
        np.testing.assert_allclose(loaded.components, model.components, atol=1e-5)
        assert np.array_equal(loaded.hu, model.hu)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "shapes.npz"
        for content in (b"", b"nothing of the kind"):
            path.write_bytes(content)
            with pytest.raises(DamagedFile, match="anatomy fit"):
                ShapeModel.load(path)
        np.savez(path, mean=1)
        with pytest.raises(DamagedFile, match="no shape model"):
            ShapeModel.load(path)


class TestMaps:
    def test_every_structure_has_its_level_and_its_area(self) -> None:
        grid = centred_grid()
        picture = rasterise(chest(), HU, grid)
        pixel_mm2 = float(np.prod(grid.spacing_mm))
        for k in (1, 2, 4):
            area = math.pi * RADII_MM[k][0] * RADII_MM[k][1]
            level = HU[k] if k == 4 else HU[1]
            found = np.count_nonzero(picture == level) * pixel_mm2 / (1 if k == 4 else 2)
            assert found == pytest.approx(area, rel=0.02)
        assert picture[0, 0] == AIR_HU

    def test_impossible_draws_are_refused_until_one_is_possible(self, monkeypatch) -> None:
        verdicts = iter([["crosses"], ["crosses"], []])
        monkeypatch.setattr(maps, "problems", lambda *_: next(verdicts))
        assert draw_valid(fitted(), np.random.default_rng(0), 1.0).refused == 2

    def test_a_model_without_possible_draws_says_why(self, monkeypatch) -> None:
        monkeypatch.setattr(maps, "problems", lambda *_: ["spine crosses itself"])
        with pytest.raises(InvalidRequest, match="spine crosses itself"):
            draw_valid(fitted(), np.random.default_rng(0), 1.0)

    def test_a_drawn_map_is_a_volume_with_front_and_right_where_they_belong(self) -> None:
        model = fitted()
        volume = map_volume(model.curves(np.zeros(len(model.deviations))), model)
        spine = np.argwhere(volume.array == HU[4]).mean(axis=0)
        x_mm, y_mm, _ = (volume.affine @ [*spine, 1])[:3]
        assert y_mm == pytest.approx(-60 * 1.11, abs=3)  # behind, at the mean scale
        assert x_mm == pytest.approx(0, abs=2)
        assert volume.shape == (256, 256, 1)


def phantom_slice() -> tuple[np.ndarray, np.ndarray, SliceGrid]:
    """HU and lung labels of the chest of ellipses, in pixels of 1 mm."""
    grid = centred_grid(300, 1.0)
    hu = rasterise(chest(), HU, grid)
    hu[ClosedCurve.through(ellipse(CENTRES_MM[4], (6, 6)), 12).mask(grid)] = 40  # the spinal canal
    labels = np.zeros(grid.shape, np.uint8)
    labels[chest()[1].mask(grid)], labels[chest()[2].mask(grid)] = RIGHT, LEFT
    return hu, labels, grid


class TestStructures:
    def test_a_made_up_chest_is_found_again(self) -> None:
        hu, labels, grid = phantom_slice()
        anatomy = anatomy_of(hu, labels, grid.spacing_mm)
        assert anatomy is not None
        assert problems(anatomy.curves) == []
        for k in (0, 1, 2, 4):
            wanted = chest()[k].mask(grid)
            assert (anatomy.masks[k] ^ wanted).sum() < 0.1 * wanted.sum()
        heart = chest()[3].mask(grid)
        assert (anatomy.masks[3] & heart).sum() > 0.9 * heart.sum()
        np.testing.assert_allclose(anatomy.medians_hu()[[1, 2, 4]], HU[[1, 2, 4]], atol=1)

    def test_a_slice_with_one_lung_has_no_anatomy(self) -> None:
        hu, labels, grid = phantom_slice()
        labels[labels == LEFT] = 0
        assert anatomy_of(hu, labels, grid.spacing_mm) is None

    def test_a_ct_without_lungs_gets_no_map(self) -> None:
        hu, labels, _ = phantom_slice()
        hu = np.where(labels > 0, 40, hu)
        flat = Volume(np.repeat(hu[:, :, None], 20, axis=2).astype(np.int16), np.diag([1, 1, 5, 1.0]))
        with pytest.raises(NoLungs):
            map_of(flat, fitted())
