"""Vessels and airways under ground glass: found, veiled, and kept while a lesion is sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.core.hu import HUWindow
from lesionbrush.diffusion import schedules
from lesionbrush.systems.lesion_inpainting.laws.vessels import VESSEL_HU, Seen, look_through, see_through

LUNG_HU, GLASS_HU = -860.0, -620.0
SHAPE = (40, 40, 40)
WHOLE = np.ones(SHAPE, np.float32)


def lung(noise_hu: float = 20.0) -> np.ndarray:
    return np.random.default_rng(0).normal(LUNG_HU, noise_hu, SHAPE).astype(np.float32)


def tube(radius_mm: float, at: tuple[int, int] = (20, 20)) -> np.ndarray:
    _, y, x = np.indices(SHAPE)
    return (y - at[0]) ** 2 + (x - at[1]) ** 2 <= radius_mm**2


def seen(hu: np.ndarray, glass: np.ndarray = WHOLE) -> Seen:
    return look_through(hu, glass, 1.0, LUNG_HU, GLASS_HU)


def test_a_vessel_is_found_in_noise_and_lung_alone_has_none() -> None:
    vessel = tube(1.5)
    found = seen(np.where(vessel, 0, lung(60)))
    assert found.vessels[vessel].mean() > 0.95
    assert found.vessels.sum() < 3 * vessel.sum()
    assert not seen(lung(60)).vessels.any()


def test_a_wall_and_a_large_nodule_are_no_vessels() -> None:
    z, y, x = np.indices(SHAPE)
    nodule = (z - 20) ** 2 + (y - 20) ** 2 + (x - 12) ** 2 <= 8**2
    found = seen(np.where(nodule | (x > 33), 30, lung()))
    assert found.vessels[nodule].mean() < 0.02
    assert found.vessels[x > 36].mean() < 0.02


def test_an_airway_is_found_and_the_lung_between_two_vessels_is_none() -> None:
    airway, between = tube(2.5, (10, 10)), tube(1.0, (27, 28)) | tube(1.0, (33, 28))
    hu = np.where(airway, -1000, np.where(between, 0, lung()))
    found = seen(hu)
    assert found.airways[tube(1.0, (10, 10))].mean() > 0.8
    assert not found.airways[~tube(3.5, (10, 10))].any()


def test_glass_veils_air_and_nothing_of_a_vessel() -> None:
    vessel = tube(2.2)
    hu = np.where(vessel, VESSEL_HU, np.full(SHAPE, LUNG_HU, np.float32))
    found, bare = seen(hu), seen(hu, np.zeros(SHAPE, np.float32))
    assert found.hu[20, 20, 20] == pytest.approx(bare.hu[20, 20, 20], abs=3)
    rim = found.vessels & (bare.hu < -300)
    gained = (found.hu - bare.hu)[rim]
    assert rim.any()
    expected = (GLASS_HU - LUNG_HU) * (VESSEL_HU - bare.hu[rim]) / (VESSEL_HU - LUNG_HU)
    np.testing.assert_allclose(gained, expected, atol=0.1)


def test_beyond_what_may_change_nothing_is_seen() -> None:
    editable = np.zeros(SHAPE, bool)
    editable[:20] = True
    found = seen(np.where(tube(1.5), 0, lung())).within(editable)
    assert found.vessels[:20].any()
    assert not found.vessels[20:].any()


def test_estimates_keep_what_is_seen_until_only_grain_is_left() -> None:
    vessel, airway = tube(1.5), tube(2.5, (8, 8))
    level = np.where(vessel, 0.0, -980.0).astype(np.float32)
    held = Seen.stack([Seen(level, vessel, airway)])
    window, schedule, cloud = HUWindow(-1000, 1000), schedules.cosine(1000), torch.full((1, 1, *SHAPE), -0.6)
    denoise = see_through(lambda x, t: cloud, held, window, schedule)
    found = denoise(cloud, 500)[0, 0].numpy()
    assert (found[vessel] == 0).all()
    assert found[airway] == pytest.approx(-0.98)
    assert (found[~vessel & ~airway] == np.float32(-0.6)).all()
    assert torch.equal(denoise(cloud, 3), cloud)
    dense = torch.full_like(cloud, 0.2)
    kept = see_through(lambda x, t: dense, held, window, schedule)(dense, 500)[0, 0].numpy()
    assert (kept[vessel] == np.float32(0.2)).all()  # never darker than the lesion
