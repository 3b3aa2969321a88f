"""A result that changed all of both lungs: a box nearly as large as the CT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from LesionBrushLib.client.boxes import Box, voxel_sha256
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.compose import difference
from logic_kit import LESION_HU, LUNG_HU, chest, offsets_mm
from mrml_kit import World, array_of

pytest_plugins = "logic_fixtures"
BOX_KJI = (slice(1, 31), slice(10, 80), slice(5, 95))


def lungs() -> np.ndarray:
    """(k, j, i) bool."""
    x, y, _ = np.moveaxis(offsets_mm(), -1, 0)
    return (np.hypot((np.abs(x) - 30) / 24, y / 44) < 1) & (np.abs(chest() - LUNG_HU) < 100)


@pytest.fixture
def results(ct: Any, lesion: np.ndarray) -> list[np.ndarray]:
    """(k, j, i) int16: two CTs with other lungs, and the lesion."""
    made = []
    for seed in range(2):
        hu = array_of(ct).copy()
        noise = np.random.default_rng(seed).normal(0, 40, hu.shape).astype(np.int16)
        inside = np.zeros_like(lesion)
        inside[BOX_KJI] = True
        hu[lungs() & inside] += noise[lungs() & inside]
        hu[lesion] = LESION_HU
        made.append(hu)
    return made


@pytest.fixture
def received(logic: LesionBrushLogic, ct: Any, results: list[np.ndarray]) -> LesionBrushLogic:
    known = voxel_sha256(array_of(ct).T)
    offset = tuple(at.start for at in BOX_KJI[::-1])
    boxes = [Box(np.asfortranarray(hu[BOX_KJI].T), offset, known) for hu in results]
    records = [{"model": "lung_ddpm", "seed": seed} for seed in range(2)]
    logic.receive(boxes, records, ct, logic.export().lesion_ijk)
    return logic


def test_each_variant_is_whole_and_the_ct_is_as_it_was(
    received: LesionBrushLogic, ct: Any, results: list[np.ndarray]
) -> None:
    variants = received.variants
    assert np.array_equal(array_of(variants.node), results[0])
    received.next()
    assert np.array_equal(array_of(variants.node), results[1])
    received.previous()
    assert np.array_equal(array_of(variants.node), results[0])
    assert np.array_equal(array_of(ct), chest())
    received.discard(0)
    assert np.array_equal(array_of(received.variants.node), results[1])


def test_variants_in_the_same_place_share_the_voxels_below(received: LesionBrushLogic) -> None:
    first, second = received.variants._reference_boxes
    assert first is second


def test_the_difference_is_that_of_all_lungs(
    received: LesionBrushLogic, ct: Any, results: list[np.ndarray]
) -> None:
    change, grid = difference(ct, received.variants.node)
    assert np.count_nonzero(change) == np.count_nonzero(results[0] != chest())
    assert min(grid.shape_ijk) > 20
    received.set_difference(True)
    received.set_difference(False)


def test_the_small_picture_is_cut_around_the_lesion(logic: LesionBrushLogic, ct: Any) -> None:
    """HU that rise from slice to slice and from right to left tell what of the box is seen."""
    k, _, i = np.indices(chest().shape)
    hu = (-900 + 20 * k + i).astype(np.int16)
    box = Box(np.asfortranarray(hu.T), (0, 0, 0), voxel_sha256(array_of(ct).T))

    def seen(lesion_ijk: tuple[float, float, float] | None) -> tuple[float, float]:
        """HU at the left and the right edge of the picture; one grey is 6 HU."""
        row = logic.receive([box], [{}], ct, lesion_ijk).thumbnail(0, 200)[100, :, 0].astype(float)
        shown = row[row > 0] / 255 * 1500 - 600 - 750
        return float(shown[0]), float(shown[-1])

    assert seen(None) == pytest.approx((-900 + 20 * 16, -900 + 20 * 16 + 99), abs=8)
    near = (-900 + 20 * 25 + 50 - 34, -900 + 20 * 25 + 50 + 34)  # 50 mm are 33.3 voxels
    assert seen((50, 45, 25)) == pytest.approx(near, abs=8)
    assert seen((2, 45, 25)) == pytest.approx((-900 + 20 * 25, -900 + 20 * 25 + 36), abs=8)
    elsewhere = logic.receive([box], [{}], ct, (500.0, 45.0, 99.0)).thumbnail(0, 200)
    assert elsewhere.shape == (200, 200, 3)


def test_the_middle_of_what_was_painted(received: LesionBrushLogic, lesion: np.ndarray) -> None:
    assert np.allclose(received.export().lesion_ijk, np.argwhere(lesion).mean(0)[::-1])


def test_a_kept_variant_and_a_second_answer(
    received: LesionBrushLogic, world: World, ct: Any, results: list[np.ndarray]
) -> None:
    kept = received.accepted(0, "synthetic-1")
    received.next()
    assert np.array_equal(array_of(kept), results[0])
    assert np.array_equal(array_of(received.variants.node), results[1])
