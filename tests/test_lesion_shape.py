"""Lobes and spicules drawn into a mask: on balls, whose volume, hull and surface are known."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.core.roi import ramp
from lesionbrush.systems.lesion_inpainting.laws.rim import Rim
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import (
    CLEAR_MM,
    ROOT_RADIUS_MM,
    SHARP_MARGIN,
    TIP_RADIUS_MM,
    Body,
    Drawn,
    Shape,
    _cone,
    ball_radius_mm,
    choose_shape,
    draw_shape,
    find_deepest,
    move_outline,
)
from scipy import ndimage
from scipy.spatial import ConvexHull

SIDE, RADIUS_MM, MARGIN_MM = 40, 8.0, 4.0


def ball(radius_mm: float = RADIUS_MM, spacing_mm: float = 1.0) -> np.ndarray:
    places = (np.stack(np.indices((SIDE,) * 3), -1) - (SIDE - 1) / 2) * spacing_mm
    distance = np.linalg.norm(places, axis=-1) - radius_mm
    return np.clip(0.5 - distance / spacing_mm, 0, 1).astype(np.float32)


def editable(coverage: np.ndarray, margin_mm: float = MARGIN_MM) -> np.ndarray:
    return ramp(coverage >= 0.5, 1.0, margin_mm) > 0


def of(shape: Shape, seed: int = 0, margin_mm: float = MARGIN_MM) -> Drawn:
    coverage = ball()
    return draw_shape(coverage, editable(coverage, margin_mm), 1.0, shape, np.random.default_rng(seed))


def hollow(coverage: np.ndarray) -> float:
    """Share of the convex hull of the half-covered voxels' centres that they do not fill."""
    places = np.argwhere(coverage >= 0.5)
    hull = ConvexHull(places)
    inside = (hull.equations[:, :3] @ np.argwhere(coverage > -1).T + hull.equations[:, 3:] <= 1e-9).all(
        axis=0
    )
    return 1 - len(places) / inside.sum()


def test_nothing_asked_is_the_very_same_mask() -> None:
    coverage = ball()
    found = draw_shape(coverage, editable(coverage), 1.0, Shape(), np.random.default_rng(0))
    assert found.mask is coverage
    assert not found.dense.any()


def test_an_empty_mask_stays_empty() -> None:
    empty = np.zeros((8, 8, 8), np.float32)
    assert not draw_shape(empty, empty > 0, 1.0, Shape(1, 1), np.random.default_rng(0)).mask.any()


@pytest.mark.parametrize("shape", [Shape(1, 0), Shape(0, 1), Shape(0.6, 0.6)])
def test_nothing_grows_out_of_the_edit_region(shape: Shape) -> None:
    coverage = ball()
    for margin_mm in (0.0, 1.0, 4.0):
        room = editable(coverage, margin_mm)
        found = draw_shape(coverage, room, 1.0, shape, np.random.default_rng(1))
        new = found.mask > coverage
        assert room[new].all()
        depth_mm = ndimage.distance_transform_edt(room)
        assert not new[depth_mm <= CLEAR_MM].any()


def test_a_slight_wish_changes_little() -> None:
    """The painted, partly covered border stays where the surface hardly moves."""
    change = np.abs(of(Shape(lobulation=0.01)).mask - ball())
    assert change.max() < 0.1


def test_lobes_keep_the_volume() -> None:
    for seed in range(3):
        volume = of(Shape(lobulation=1.0), seed, margin_mm=8.0).mask.sum()
        assert volume == pytest.approx(ball().sum(), rel=0.03)


def test_creases_deepen_with_lobulation() -> None:
    found = [np.mean([hollow(of(Shape(lobulation=s), seed).mask) for seed in range(3)]) for s in (0, 0.5, 1)]
    assert found[0] == pytest.approx(0, abs=0.005)
    assert found[0] + 0.005 < found[1] < found[2] - 0.02


def test_spicules_grow_with_spiculation() -> None:
    reach = []
    for strength in (0.0, 0.5, 1.0):
        mask = of(Shape(spiculation=strength)).mask
        outside_mm = ndimage.distance_transform_edt(ball() < 0.5)
        reach.append(float(outside_mm[mask > 0.15].max()))
    assert reach[0] <= 1.0
    assert reach[0] < reach[1] < reach[2] <= MARGIN_MM


def test_spicules_are_thin() -> None:
    """They add little volume, and a small opening takes away what lies outside."""
    mask = of(Shape(spiculation=1.0)).mask
    assert 1.0 < mask.sum() / ball().sum() < 1.2
    opened = ndimage.binary_opening(mask > 0.3, np.ones((4, 4, 4)))
    assert not opened[ndimage.distance_transform_edt(ball() < 0.5) > 2].any()


def test_what_is_dense_starts_deep_inside_and_covers_what_grew() -> None:
    found = of(Shape(spiculation=1.0))
    assert (found.dense >= found.mask - ball() - 1e-6).all()
    depth_mm = ndimage.distance_transform_edt(ball() >= 0.5)
    assert depth_mm[found.dense > 0.5].max() > 2


def test_seeds_differ_and_repeat() -> None:
    for shape in (Shape(1, 0), Shape(0, 1)):
        assert np.array_equal(of(shape, 3).mask, of(shape, 3).mask)
        assert not np.array_equal(of(shape, 3).mask, of(shape, 4).mask)


def test_the_radius_is_that_of_the_ball() -> None:
    for spacing_mm in (1.0, 2.0):
        coverage = ball(8.0, spacing_mm)
        body = Body.of(coverage, coverage >= 0, spacing_mm)
        assert body.radius_mm == pytest.approx(8.0, rel=0.02)
        assert body.distance_mm.min() == pytest.approx(-8.0, abs=1.5 * spacing_mm)


def test_the_cone_covers_what_its_formula_says() -> None:
    """Beside the axis it falls off at the radius; a strand thinner than a voxel fills its share of it."""
    root, tip = np.zeros(3), np.array([10.0, 0.0, 0.0])
    places = np.array([[0.0, 0.0, 0.0], [0.0, ROOT_RADIUS_MM, 0.0], [10.0, 0.0, 0.0], [5.0, 3.0, 4.0]])
    body = Body.of(ball(), editable(ball()), 1.0)
    middle, border, at_tip, beside = _cone(body, places, (root, tip), 1.0)
    assert middle == 1
    assert border == pytest.approx(0.5)
    assert at_tip == pytest.approx(np.pi * TIP_RADIUS_MM**2)
    assert beside == 0


def test_a_soft_border_is_blurred_as_much_as_was_asked_and_uneven() -> None:
    inside_mm = ndimage.distance_transform_edt(ball() >= 0.5)
    widths, volumes = [], []
    for softness in (0.0, 0.5, 1.0):
        mask = of(Shape(softness=softness)).mask
        widths.append(int(((mask > 0.1) & (mask < 0.9)).sum()))
        volumes.append(mask.sum() / ball().sum())
        assert mask[inside_mm > 6].min() > 0.95
    assert widths[0] * 1.3 < widths[1] < widths[2]
    assert volumes == pytest.approx([1, 1, 1], abs=0.06)
    assert np.allclose(ball(), np.flip(ball()))
    assert np.abs(mask - np.flip(mask)).max() > 0.05


def test_where_lesions_are_deepest_is_told_lesion_by_lesion() -> None:
    coverage = np.array([0.2, 0.95, 1.0, 0.5, 0.46, 0.1]).reshape(2, 1, 1, 3)
    assert find_deepest(coverage).ravel() == pytest.approx([0, 0.95, 1, 0.5, 0.46, 0])


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({"margin": 0.0}, Shape(0, 0, 1)),
        ({"margin": SHARP_MARGIN}, Shape()),
        ({"margin": 1.0, "lobulation": 0.5}, Shape(0.5, 0, 0)),
        ({"spiculation": 0.5}, Shape(0, 0.5, 0)),
        ({"margin": 0.0, "spiculation": 0.5, "lesion": "none"}, Shape()),
    ],
)
def test_what_is_drawn_is_what_was_asked(asked: dict, shape: Shape) -> None:
    assert choose_shape(SynthesisRequest(attributes=Attributes(**asked))) == shape
    assert choose_shape(SynthesisRequest(attributes=Attributes(**asked), draw_shape=False)) == Shape()


@pytest.mark.parametrize(
    ("asked", "reach_mm"),
    [({}, 3.0), ({"spiculation": 0.5}, 5.5), ({"lobulation": 1.0, "spiculation": 0.5}, 8.0)],
)
def test_shapes_reach_beyond_the_margin(asked: dict, reach_mm: float) -> None:
    request = SynthesisRequest(attributes=Attributes(**asked))
    assert request.reach_mm == pytest.approx(reach_mm)
    assert request.model_copy(update={"draw_shape": False}).reach_mm == request.margin_mm
    assert request.model_copy(update={"shape_mm": 0.0}).reach_mm == request.margin_mm
    healthy = Attributes(lesion="none", **asked)
    assert request.model_copy(update={"attributes": healthy}).reach_mm == request.margin_mm


@pytest.mark.parametrize("outwards_mm", [-1.0, -0.25, 0.25, 1.0])
def test_a_moved_ball_is_a_ball_of_that_much_more_radius(outwards_mm: float) -> None:
    volume = move_outline(ball(), 1.0, outwards_mm).sum()
    assert volume == pytest.approx(4 / 3 * np.pi * (RADIUS_MM + outwards_mm) ** 3, rel=0.05)
    assert (volume > ball().sum()) == (outwards_mm > 0)


def test_not_moved_is_the_very_same_mask() -> None:
    coverage = ball()
    assert move_outline(coverage, 1.0, 0.0) is coverage


@pytest.mark.parametrize(
    ("slice_mm", "radius_mm", "outwards_mm"),
    [
        (0.5, 3.0, 0.0),  # small, in thin slices: as painted
        (1.0, 12.0, 0.1),  # its rim is sharper than a network makes it
        (0.6, 12.0, 0.1),
        (1.5, 7.5, 0.5 * 0.5 * 0.1 - 0.5 * 1.0 * 0.2),
        (2.5, 4.0, -2.0 * 0.2),  # the blur of thick slices is much of it
        (2.5, 7.5, -2.0 * 0.2 * 0.5),
        (2.5, 12.0, 0.0),
    ],
)
def test_the_rim_is_moved_by_size_and_slices(slice_mm: float, radius_mm: float, outwards_mm: float) -> None:
    assert Rim(slice_mm, -0.2, 0.1).outwards_mm(radius_mm) == pytest.approx(outwards_mm)


def test_the_radius_of_a_ball_of_this_volume() -> None:
    assert ball_radius_mm(ball(6.0), 1.0) == pytest.approx(6.0, rel=0.01)
    assert ball_radius_mm(ball(6.0, 0.5), 0.5) == pytest.approx(6.0, rel=0.01)
