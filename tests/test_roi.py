"""The way into the box a model sees, and back."""

from __future__ import annotations

import numpy as np
import pytest
from core_fixtures import edit_region, grid
from lesionbrush.core.boxes import box_of
from lesionbrush.core.roi import (
    Orientation,
    RoiGrid,
    axis_weights,
    from_roi,
    gather,
    inside_volume,
    keys_cubic,
    ramp,
    resample,
    to_roi,
    triangle,
)
from scipy.ndimage import map_coordinates
from volume_fixtures import OBLIQUE, ORIENTATIONS

SHAPE = (5, 4, 3)
SPACINGS_MM = [(1.0, 1.0, 1.0), (5.0, 0.5, 0.5), (1.0, 0.7, 0.7), (0.8, 2.5, 0.8)]


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], turn: np.ndarray | None = None) -> np.ndarray:
    """Stored axis k runs along world axis order[k], forwards or backwards."""
    axes = np.zeros((3, 3))
    axes[list(order), range(3)] = signs
    return grid((0.7, 0.8, 2.5), axes if turn is None else turn @ axes)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_view_runs_to_superior_anterior_and_right(order, signs) -> None:
    affine = affine_of(order, signs)
    turned = Orientation.of(affine)
    world = np.einsum("ab,bijk->aijk", affine[:3, :3], np.indices(SHAPE))
    for axis, world_axis in enumerate((2, 1, 0)):
        steps = np.diff(turned.view(world[world_axis]), axis=axis)
        assert (steps > 0).all()
    assert turned.spacing_mm((0.7, 0.8, 2.5)) == pytest.approx(
        np.array((0.7, 0.8, 2.5))[[order.index(a) for a in (2, 1, 0)]]
    )


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_stored_undoes_the_view_and_knows_where_a_box_lies(order, signs) -> None:
    turned = Orientation.of(affine_of(order, signs))
    array = np.arange(60).reshape(SHAPE)
    view = turned.view(array)
    assert np.shares_memory(view, array)
    assert np.array_equal(turned.to_stored(view), array)
    box = box_of([(0, 1), (1, 3), (1, 2)])
    part = turned.to_stored(view[box])
    offset = turned.stored_offset(box, view.shape)
    assert np.array_equal(
        array[tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))], part
    )


def test_an_oblique_grid_takes_the_nearest_axes() -> None:
    for order, signs in ORIENTATIONS:
        assert Orientation.of(affine_of(order, signs, OBLIQUE)) == Orientation.of(affine_of(order, signs))


def test_the_kernels_are_interpolating_and_reach_as_far_as_they_say() -> None:
    assert keys_cubic(np.array([0.0, 1, -1, 2, 2.5])).tolist() == [1, 0, 0, 0, 0]
    assert triangle(np.array([0.0, 0.25, -1, 1.5])).tolist() == [1, 0.75, 0, 0]


@pytest.mark.parametrize("kernel", [keys_cubic, triangle])
@pytest.mark.parametrize("target_mm", [0.4, 1.0, 3.7])
def test_weights_of_every_target_add_up_to_one(kernel, target_mm: float) -> None:
    weights = axis_weights(np.arange(20) * 1.3, np.arange(-4, 12) * target_mm, kernel)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_the_cubic_kernel_keeps_polynomials_up_to_the_second_degree() -> None:
    source, target = np.arange(30) * 1.5, np.linspace(6, 36, 41)
    weights = axis_weights(source, target)
    for degree in range(3):
        np.testing.assert_allclose(weights @ (source / 10) ** degree, (target / 10) ** degree, rtol=1e-5)


def test_going_down_averages_what_the_coarse_grid_cannot_show() -> None:
    source = np.arange(200) * 0.5
    weights = axis_weights(source, np.arange(20, 40) * 2.0)
    assert np.abs(weights @ np.cos(np.pi * np.arange(200))).max() < 0.01
    np.testing.assert_allclose(weights @ source, np.arange(20, 40) * 2.0, rtol=1e-4)


def test_what_lies_beyond_the_source_takes_its_edge() -> None:
    weights = axis_weights(np.arange(5.0), np.array([-9.0, -8.0, 11.0, 12.0]))
    np.testing.assert_allclose(weights @ np.array([3.0, 1, 1, 1, 7]), [3, 3, 7, 7], atol=1e-6)


def test_resampling_agrees_with_an_independent_linear_interpolation() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(9, 8, 7))
    positions = [np.sort(rng.uniform(0, n - 1, 2)) for n in array.shape]
    ends = [np.linspace(a, a + (b - a) / 9, 4) for a, b in positions]  # finer than the source: no averaging
    weights = [axis_weights(np.arange(n), p, triangle) for n, p in zip(array.shape, ends, strict=True)]
    expected = map_coordinates(array, np.meshgrid(*ends, indexing="ij"), order=1)
    np.testing.assert_allclose(resample(array, weights), expected, atol=1e-5)


def test_the_memory_layout_does_not_change_a_bit() -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (31, 29, 27), dtype=np.int16)
    weights = [axis_weights(np.arange(n), np.arange(0, n - 1, 0.7)) for n in array.shape]
    layouts = (array, np.asfortranarray(array), np.ascontiguousarray(array[::-1])[::-1])
    first, *others = (resample(layout, weights) for layout in layouts)
    assert all(np.array_equal(first, other) for other in others)


def smooth(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 100 * np.sin(z / 15) * np.cos(y / 12) + 40 * np.sin(x / 9 + 1)


def sampled(shape: tuple[int, ...], spacing_mm: np.ndarray, origin_mm=(0.0, 0.0, 0.0)) -> np.ndarray:
    axes = [o + s * np.arange(n) for n, s, o in zip(shape, spacing_mm, origin_mm, strict=True)]
    return smooth(*np.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_a_smooth_image_survives_the_way_there_and_back(spacing_mm) -> None:
    spacing = np.array(spacing_mm)
    shape = tuple(np.ceil(70 / spacing).astype(int))
    image = sampled(shape, spacing)
    roi_grid = RoiGrid.around(np.array([35.0, 35.0, 35.0]), (48, 48, 48), 1.0)
    roi = to_roi(image, spacing, roi_grid)
    inner = (slice(6, -6),) * 3
    expected = sampled(roi_grid.shape, np.ones(3), roi_grid.origin_mm)
    assert np.abs(roi - expected)[inner].max() < 1.5
    box = box_of((int(24 // s), int(46 // s) + 1) for s in spacing_mm)
    assert np.abs(from_roi(roi, roi_grid, box, spacing) - image[box]).max() < 4  # of 140: 5 mm averages


@pytest.mark.parametrize(("volume_mm", "sharper"), [(0.6, True), (1.0, True), (2.5, False)])
def test_the_way_back_returns_what_resampling_took_where_the_volume_is_the_finer(
    volume_mm: float, sharper: bool
) -> None:
    """What a wave of 4 mm loses there and back is more than halved; a coarser volume gets the plain way."""
    count = int(48 / volume_mm)
    spacing, box = np.full(3, volume_mm), box_of([(0, 1), (0, 1), (count // 4, 3 * count // 4)])
    wave = np.cos(2 * np.pi * np.arange(count) * volume_mm / 4)
    roi_grid = RoiGrid((8, 8, 48), 1.0, (0.0, 0.0, 0.3))
    roi = to_roi(np.broadcast_to(wave, (16, 16, count)), spacing, roi_grid)
    back = axis_weights(roi_grid.positions_mm(2), np.arange(count) * volume_mm)[box[2]]
    plain, found = back @ roi[0, 0], from_roi(roi, roi_grid, box, spacing)[0, 0]
    plain_error, error = (np.abs(line - wave[box[2]]).max() for line in (plain, found))
    assert plain_error > 0.05
    if sharper:
        assert error < 0.5 * plain_error
    else:
        np.testing.assert_allclose(found, plain, atol=1e-5)


def test_gathered_is_the_transpose_of_the_way_back() -> None:
    rng = np.random.default_rng(3)
    grid_, box = (
        RoiGrid.around(np.array([12.0, 9.0, 11.0]), (16, 16, 24), 1.0),
        box_of([(3, 12), (4, 18), (5, 21)]),
    )
    spacing = np.array([2.5, 0.7, 0.7])
    roi, weights = rng.normal(size=grid_.shape), rng.normal(size=(9, 14, 16))
    forth = (weights * from_roi(roi, grid_, box, spacing)).sum()
    assert (gather(weights, grid_, box, spacing) * roi).sum() == pytest.approx(forth, rel=1e-4)


def test_a_roi_beside_the_volume_takes_the_nearest_voxels() -> None:
    view = np.random.default_rng(0).normal(size=(4, 5, 6))
    roi = to_roi(view, np.ones(3), RoiGrid((2, 5, 6), 1.0, (20.0, 0.0, 0.0)))
    np.testing.assert_allclose(roi, np.broadcast_to(view[-1], (2, 5, 6)), atol=1e-6)


def test_one_slice_gets_the_same_as_it_would_among_others() -> None:
    roi = np.random.default_rng(0).normal(size=(24, 24, 24))
    roi_grid = RoiGrid((24, 24, 24), 1.0, (0.0, 0.0, 0.0))
    spacing = np.array([5.0, 0.5, 0.5])
    three = from_roi(roi, roi_grid, box_of([(1, 4), (10, 20), (10, 20)]), spacing)
    one = from_roi(roi, roi_grid, box_of([(2, 3), (10, 20), (10, 20)]), spacing)
    np.testing.assert_allclose(one[0], three[1], atol=1e-6)


def test_inside_volume_ends_half_a_voxel_beyond_the_last_centre() -> None:
    spacing = np.array([5.0, 1.0, 0.5])
    found = inside_volume(RoiGrid((20, 6, 8), 1.0, (-4.0, -2.0, -3.0)), (2, 3, 4), spacing)
    z, y, x = np.arange(20) - 4.0, np.arange(6) - 2.0, np.arange(8) - 3.0
    assert np.array_equal(found.any(axis=(1, 2)), (z >= -2.5) & (z <= 7.5))
    assert np.array_equal(found.any(axis=(0, 2)), (y >= -0.5) & (y <= 2.5))
    assert np.array_equal(found.any(axis=(0, 1)), (x >= -0.25) & (x <= 1.75))
    assert found.sum() == found.any(axis=(1, 2)).sum() * 3 * 2


def test_the_ramp_is_the_closed_form_of_the_distance() -> None:
    mask = np.zeros((1, 1, 30), bool)
    mask[0, 0, :5] = True
    distance = np.maximum((np.arange(30) - 4) * 0.7, 0)
    s = np.clip(1 - distance / 6, 0, 1)
    np.testing.assert_allclose(ramp(mask, (5, 0.7, 0.7), 6.0)[0, 0], 3 * s**2 - 2 * s**3, atol=1e-6)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("margin_mm", [0.0, 0.3, 3.0, 7.3])
def test_the_ramp_is_above_zero_exactly_in_the_edit_region(spacing_mm, margin_mm: float) -> None:
    mask = np.random.default_rng(0).random((14, 15, 16)) < 0.004
    weight = ramp(mask, spacing_mm, margin_mm)
    assert (weight[mask] == 1).all()
    assert np.array_equal(weight > 0, edit_region(mask, spacing_mm, margin_mm))


def test_without_a_lesion_there_is_no_ramp() -> None:
    assert not ramp(np.zeros((4, 4, 4), bool), 1.0, 3.0).any()
