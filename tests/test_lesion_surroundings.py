"""What is around a lesion: ground glass stands out from its lung, and small ones are blurred into it."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.lesion_inpainting.laws.painted import TYPICAL_LUNG_HU, measure_surroundings
from scipy import ndimage


def ball() -> np.ndarray:
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return (distance <= 8.0).astype(np.float32)[None]


def in_lung(hu: np.ndarray) -> RoiBatch:
    return RoiBatch(hu[None], ball(), ball() > 0, np.ones_like(ball(), dtype=bool))


def test_the_lung_around_is_measured_beyond_the_margin_and_without_vessels() -> None:
    away_mm = ndimage.distance_transform_edt(ball()[0] == 0)
    hu = np.where(away_mm > 8, -300.0, np.where(away_mm > 3, -905.0, 40.0)).astype(np.float32)
    hu[:, 12:14, :] = 30.0  # a vessel, or the chest wall
    assert measure_surroundings(in_lung(hu)).lung_hu == pytest.approx([-905.0])


def test_the_lung_around_a_lesion_smaller_than_a_voxel() -> None:
    hu, dot = np.full((24,) * 3, -905.0, np.float32), np.zeros((1, 24, 24, 24), np.float32)
    dot[0, 12, 12, 12] = 0.3
    hu[:2, :2, :2] = -600  # far away
    found = measure_surroundings(RoiBatch(hu[None], dot, dot > 0, np.ones(dot.shape, bool))).lung_hu
    assert found == pytest.approx([-905.0])


def test_without_lung_around_it_is_taken_as_typical() -> None:
    hu = np.full((24,) * 3, 40.0, np.float32)
    assert measure_surroundings(in_lung(hu)).lung_hu == pytest.approx([TYPICAL_LUNG_HU])
    outside = RoiBatch(hu[None] - 900, ball(), ball() > 0, np.zeros((1, 24, 24, 24), bool))
    assert measure_surroundings(outside).lung_hu == pytest.approx([TYPICAL_LUNG_HU])
