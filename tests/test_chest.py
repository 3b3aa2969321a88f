"""The tools the chest phantom is drawn with: soft solids, tubes, trees, scanner noise."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.phantom.parts.canvas import (
    Canvas,
    capsule,
    draw_capsule,
    ellipsoid,
    smooth_curve,
    smooth_min,
)
from lesionbrush.phantom.parts.scanner import scanner_noise
from lesionbrush.phantom.parts.trees import beside, grow_tree


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_noise_has_unit_spread_and_little_power_at_low_frequency() -> None:
    noise = scanner_noise((128, 128, 8), generator())
    assert noise.std() == pytest.approx(1, abs=1e-3)
    power = (np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2).mean(axis=2)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    low, middle, high = (
        power[(frequency > a) & (frequency < b)].mean() for a, b in ((0, 0.03), (0.1, 0.2), (0.45, 0.5))
    )
    assert low < 0.3 * middle
    assert high < 0.3 * middle


def canvas(pitch_mm: float = 1.0, half_mm: float = 12.0) -> Canvas:
    return Canvas.blank([np.arange(-half_mm, half_mm + pitch_mm / 2, pitch_mm)] * 3)


@pytest.mark.parametrize("radius", [0.3, 0.5, 0.7, 2.0])
def test_a_tube_has_the_volume_of_its_calibre(radius: float) -> None:
    drawn = canvas()
    draw_capsule(drawn, (0.3, 0.2, -20), (0.3, 0.2, 20), (radius, radius), hu=1.0)
    assert drawn.hu[:, :, 5:20].sum() / 15 == pytest.approx(np.pi * radius**2, rel=0.06)


def test_a_tube_beside_the_canvas_draws_nothing() -> None:
    drawn = canvas()
    draw_capsule(drawn, (50, 50, 50), (60, 60, 60), (2, 2), hu=1.0)
    assert not drawn.hu.any()


def test_capsule_is_the_distance_to_the_nearest_point_of_its_axis() -> None:
    start, end = np.array((-5.0, -3, 2)), np.array((6.0, 4, -1))
    grid = canvas(pitch_mm=3)
    axis = np.linspace(start, end, 2001)
    points = np.stack(np.meshgrid(*grid.axes, indexing="ij"), axis=-1)
    nearest = np.min([np.linalg.norm(points - point, axis=-1) for point in axis], axis=0)
    assert np.allclose(capsule(grid, start, end, (2, 2)), nearest - 2, atol=1e-3)


def test_ellipsoid_with_equal_radii_is_a_ball() -> None:
    grid = canvas(pitch_mm=3, half_mm=13.5)
    x, y, z = grid.grid
    assert np.allclose(ellipsoid(grid, (0, 0, 0), (5, 5, 5)), np.sqrt(x**2 + y**2 + z**2) - 5, atol=1e-4)


def test_smooth_min_is_the_minimum_away_from_the_seam_and_lower_on_it() -> None:
    a, b = np.array((0.0, 0.0, 3.0)), np.array((10.0, 0.0, 2.0))
    assert smooth_min(a, b, 4).tolist() == pytest.approx([0, -1, 2 - 9 / 16])


def test_refine_keeps_a_linear_field() -> None:
    fine = Canvas.blank((np.linspace(-20, 20, 40), np.linspace(0, 30, 21), np.linspace(0, 50, 17)))
    nodes = fine.coarse()

    def field(on: Canvas) -> np.ndarray:
        x, y, z = on.grid
        return 2 * x - y + 0.5 * z + 1

    assert np.allclose(fine.refine(field(nodes), nodes), field(fine), atol=1e-3)


def test_a_smooth_curve_goes_through_its_points() -> None:
    path = ((0, 0, 0, 1), (5, 2, 1, 2), (9, 9, 9, 3))
    curve = smooth_curve(path, pieces=4)
    assert np.allclose(curve[::4], path)


def test_a_tree_reaches_every_tip_and_obeys_murray() -> None:
    tips = generator().uniform(0, 50, (300, 3))
    tree = grow_tree(np.zeros(3), tips, (tips[:, 0] > 25).astype(int), generator(1))
    ends = tree.end[tree.supplies == 1]
    assert np.allclose(np.sort(ends, axis=0), np.sort(tips, axis=0))
    assert (tree.parent == -1).sum() == 2
    inner = np.nonzero(tree.parent >= 0)[0]
    assert (tree.parent[inner] < inner).all()
    assert np.allclose(tree.start[inner], tree.end[tree.parent[inner]])
    cubes = tree.radius_mm(0.5) ** 3
    children = np.bincount(tree.parent[inner], cubes[inner], minlength=len(cubes))
    assert np.allclose(children[tree.supplies > 1], cubes[tree.supplies > 1])


def test_the_trunk_of_a_tree_hangs_together_beside_it() -> None:
    tips = generator().uniform(0, 50, (300, 3))
    tree = grow_tree(np.zeros(3), tips, np.zeros(300), generator(1))
    trunk = beside(tree, tree.radius_mm(0.5), np.array((0.0, 1, 0))).trunk(20)
    assert trunk.supplies.min() >= 20
    inner = np.nonzero(trunk.parent >= 0)[0]
    assert np.allclose(trunk.start[inner], trunk.end[trunk.parent[inner]])
