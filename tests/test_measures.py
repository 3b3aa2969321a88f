"""Border roughness and concavity of nodules whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.systems.lesion_inpainting.measures import (
    CONCAVITY_DECILES,
    ROUGHNESS_DECILES,
    Surroundings,
    rank,
)

SIDE = 40
Z, Y, X = np.mgrid[:SIDE, :SIDE, :SIDE] - (SIDE - 1) / 2
RADIUS = np.sqrt(Z**2 + Y**2 + X**2)


def around(inside: np.ndarray, hu: np.ndarray | None = None) -> Surroundings:
    return Surroundings(np.where(inside, 40.0, -850.0) if hu is None else hu, inside)


def spiculated(reach_mm: float = 14.0) -> np.ndarray:
    """A ball with rays of one voxel along the axes."""
    rays = [np.abs(a) + np.abs(b) < 1.1 for a, b in ((Z, Y), (Z, X), (Y, X))]
    return (RADIUS < 8) | (np.any(rays, axis=0) & (reach_mm > RADIUS))


def test_a_ball_is_smooth_and_hardly_concave() -> None:
    ball = around(RADIUS < 8)
    assert ball.border_roughness() == 0
    assert ball.concavity() < 0.2  # the corners of its voxels


def test_strands_beyond_the_mask_make_the_border_rough() -> None:
    hu = np.where(spiculated(10.4), 40.0, -850.0)
    assert around(RADIUS < 8, hu).border_roughness() > 0.05


def test_spicules_and_notches_make_it_concave() -> None:
    plain = around(RADIUS < 8).concavity()
    notched = around((RADIUS < 8) & ~((np.abs(X) < 2) & (Y > 0))).concavity()
    assert around(spiculated()).concavity() > plain + 0.2
    assert notched > plain + 0.1


def test_a_pleura_beside_the_nodule_does_not_count() -> None:
    ball = RADIUS < 8
    hu = np.where(ball | (X > 8), 40.0, -850.0)
    beside = around(ball, hu)
    assert beside.border_roughness() < 0.1
    shell = hu[(RADIUS > 8.5) & (RADIUS < 11)]
    assert shell.std() / beside.contrast_hu > 0.25


def test_without_lung_around_it_nothing_is_known() -> None:
    buried = around(RADIUS < 8, np.zeros((SIDE,) * 3))
    assert np.isnan(buried.border_roughness())
    assert np.isnan(buried.concavity())


def test_a_few_voxels_have_no_shape() -> None:
    assert np.isnan(around(RADIUS < 1).concavity())


@pytest.mark.parametrize("deciles", [ROUGHNESS_DECILES, CONCAVITY_DECILES])
def test_ranks_follow_the_deciles(deciles: tuple[float, ...]) -> None:
    assert len(deciles) == 11
    assert list(deciles) == sorted(deciles)
    assert [rank(deciles[k], deciles) for k in (0, 5, 10)] == [0, 0.5, 1]
    assert rank(-1, deciles) == 0
    assert rank(9, deciles) == 1
    assert np.isnan(rank(np.nan, deciles))
