"""The steps of the lung segmentation, on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lesionbrush.anatomy.lung_steps.air import gut_gas, lung_air, outside
from lesionbrush.anatomy.lung_steps.airways import find_airways
from lesionbrush.anatomy.lung_steps.closing import close_lungs, without_tubes
from lesionbrush.anatomy.lung_steps.grid import AIR_HU, CoarseGrid, block_means, refine
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT, between_lungs, label_sides, next_labels
from lesionbrush.core.volume import Volume

SHAPE = (150, 110, 90)
LPS_2MM = np.diag((-2.0, -2.0, 2.0, 1.0))


def ellipsoid(
    centre: tuple[float, ...], radii: tuple[float, ...], shape: tuple[int, int, int] = SHAPE
) -> np.ndarray:
    axes = np.indices(shape, sparse=True)
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1


BODY = ellipsoid((75, 55, 45), (70, 48, 4000))
RIGHT_LUNG = ellipsoid((42, 55, 45), (24, 32, 40))
LEFT_LUNG = ellipsoid((108, 55, 45), (24, 32, 40))
LABELS = (RIGHT_LUNG * RIGHT + LEFT_LUNG * LEFT).astype(np.uint8)
NOTHING = np.zeros(SHAPE, dtype=bool)


def grid_of(*parts: tuple[np.ndarray, float]) -> CoarseGrid:
    """2 mm voxels of air with parts of other HU."""
    hu = np.full(SHAPE, -1000, np.int16)
    for mask, value in parts:
        hu[mask] = value
    return CoarseGrid.of(Volume(hu, LPS_2MM))


CHEST = grid_of((BODY, 30), (RIGHT_LUNG | LEFT_LUNG, -850))


class TestGrid:
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_means_of_blocks_with_smaller_ones_at_the_end(self, order: str) -> None:
        array = np.asarray(np.random.default_rng(0).integers(-1000, 1000, (7, 5, 9)), np.int16, order=order)
        means = block_means(array, (3, 2, 4))
        assert means.shape == (3, 3, 3)
        for i, j, k in np.ndindex(3, 3, 3):
            block = array[3 * i : 3 * i + 3, 2 * j : 2 * j + 2, 4 * k : 4 * k + 4]
            assert means[i, j, k] == pytest.approx(block.mean(), abs=1e-3)

    def test_blocks_are_some_2_mm(self) -> None:
        ct = Volume(np.zeros((64, 64, 4), np.int16), np.diag((0.5, 0.7, 5.0, 1.0)))
        grid = CoarseGrid.of(ct)
        assert grid.blocks == (4, 3, 1)
        assert grid.spacing_mm == pytest.approx((2.0, 2.1, 5.0))
        assert grid.hu.shape == (16, 22, 4)

    def test_axes_run_to_the_left_the_back_and_the_head(self) -> None:
        affine = np.zeros((4, 4))
        affine[[2, 0, 1, 3], [0, 1, 2, 3]] = (-3, 4, 5, 1)  # stored: to the feet, the right, the front
        hu = np.zeros((6, 7, 8), np.int16)
        hu[0, -1, -1] = 100  # head, right, front
        grid = CoarseGrid.of(Volume(hu, affine))
        assert grid.hu.shape == (7, 8, 6)
        assert grid.spacing_mm == (4, 5, 3)
        assert grid.hu[0, 0, -1] == 100
        assert np.array_equal(grid.as_stored(grid.hu), hu)

    def test_distances_are_in_mm(self) -> None:
        seed = NOTHING.copy()
        seed[10, 10, 10] = True
        grid = replace(CHEST, spacing_mm=(1.0, 2.0, 3.0))
        distance_mm = grid.distance_mm(seed)
        assert distance_mm[13, 10, 10] == pytest.approx(3)
        assert distance_mm[10, 12, 11] == pytest.approx(5)
        assert np.isinf(grid.distance_mm(NOTHING)).all()

    def test_the_ct_decides_at_the_border_of_air(self) -> None:
        ball = ellipsoid((40, 40, 40), (30.4, 30.4, 30.4), (80, 80, 80))
        ct = Volume(np.where(ball, -850, 30).astype(np.int16), np.diag((-1.0, -1.0, 1.0, 1.0)))
        grid = CoarseGrid.of(ct)
        labels = (grid.hu < AIR_HU).astype(np.uint8)
        fine = refine(ct, grid, labels, labels > 0)
        assert np.count_nonzero((fine > 0) != ball) == 0


class TestAir:
    def test_around_the_patient_is_outside(self) -> None:
        assert np.array_equal(outside(CHEST), ~BODY)

    def test_an_open_mouth_does_not_lose_the_lungs(self) -> None:
        tube = NOTHING.copy()
        tube[70:80, 50:60, 30:] = True  # from the lungs up ...
        tube[70:80, :60, 80:] = True  # ... and out to the front
        tube[30:120, 50:60, 30:34] = True
        grid = grid_of((BODY, 30), (tube, -1000), (RIGHT_LUNG | LEFT_LUNG, -850))
        assert not outside(grid)[RIGHT_LUNG | LEFT_LUNG].any()

    def test_gas_in_soft_tissue_is_gut_and_gas_in_lung_is_a_bulla(self) -> None:
        stomach, bulla = ellipsoid((75, 30, 10), (8, 8, 8)), ellipsoid((42, 55, 45), (8, 8, 8))
        grid = grid_of((BODY, 30), (RIGHT_LUNG | LEFT_LUNG, -850), (stomach | bulla, -1000))
        gas = gut_gas(grid, (grid.hu < AIR_HU) & BODY)
        assert gas[stomach].all()
        assert not gas[bulla].any()

    def test_lung_is_told_from_gas(self) -> None:
        grid = grid_of((BODY, 30), (RIGHT_LUNG, -850), (LEFT_LUNG, -1000))
        found = lung_air(grid, RIGHT_LUNG | LEFT_LUNG, NOTHING, 75)
        assert np.array_equal(found, RIGHT_LUNG)

    def test_small_parts_count_near_the_lungs_only(self) -> None:
        near, far = ellipsoid((20, 85, 12), (4, 4, 4)), ellipsoid((110, 15, 45), (4, 4, 4))
        middle = ellipsoid((74, 55, 45), (3, 3, 8))
        grid = grid_of((BODY, 30), (RIGHT_LUNG | near | far | middle, -800))
        near_lung = RIGHT_LUNG | ellipsoid((42, 90, 45), (6, 2.5, 6))
        grid.hu[near_lung] = -800
        found = lung_air(grid, near_lung | near | far | middle, NOTHING, 75)
        assert np.array_equal(found, near_lung)


class TestAirways:
    TUBE = ellipsoid((75, 50, 60), (5, 5, 4000)) & (np.arange(90) > 40)

    def test_a_tube_is_found_with_its_wall(self) -> None:
        grid = grid_of((BODY, 30), (RIGHT_LUNG | LEFT_LUNG, -850), (self.TUBE, -1000))
        airways = find_airways(grid, (grid.hu < AIR_HU) & BODY, 75)
        assert airways[self.TUBE].all()
        assert not airways[RIGHT_LUNG | LEFT_LUNG].any()
        assert airways.sum() < 2.5 * self.TUBE.sum()

    def test_no_tube_no_airways(self) -> None:
        assert not find_airways(CHEST, RIGHT_LUNG | LEFT_LUNG, 75).any()

    def test_a_tube_at_the_flank_is_bowel(self) -> None:
        grid = grid_of((BODY, 30), (RIGHT_LUNG, -850), (np.roll(self.TUBE, 50, 0), -1000))
        assert not find_airways(grid, (grid.hu < AIR_HU) & BODY, 75).any()

    def test_a_hole_in_its_wall_does_not_empty_the_lung(self) -> None:
        hole = NOTHING.copy()
        hole[60:72, 48:52, 50:54] = True
        grid = grid_of((BODY, 30), (RIGHT_LUNG | LEFT_LUNG, -850), (hole, -870), (self.TUBE, -1000))
        assert find_airways(grid, (grid.hu < AIR_HU) & BODY, 75)[RIGHT_LUNG].mean() < 0.01


class TestSides:
    def test_two_lungs_have_a_gap_between_them(self) -> None:
        assert between_lungs(CHEST, RIGHT_LUNG | LEFT_LUNG) == pytest.approx(75, abs=9)

    @pytest.mark.parametrize("lung", [RIGHT_LUNG, LEFT_LUNG])
    def test_one_lung_has_none(self, lung: np.ndarray) -> None:
        assert between_lungs(CHEST, lung) is None

    def test_apart(self) -> None:
        assert np.array_equal(label_sides(CHEST, RIGHT_LUNG | LEFT_LUNG, 75), LABELS)

    @pytest.mark.parametrize(("lung", "side"), [(RIGHT_LUNG, RIGHT), (LEFT_LUNG, LEFT)])
    def test_one_alone(self, lung: np.ndarray, side: int) -> None:
        assert np.array_equal(label_sides(CHEST, lung, 75), lung * np.uint8(side))

    def test_joined_lungs_are_cut_where_they_are_thin(self) -> None:
        bridge = NOTHING.copy()
        bridge[60:90, 50:54, 30:70] = True
        labels = label_sides(CHEST, RIGHT_LUNG | LEFT_LUNG | bridge, 75)
        assert (labels[RIGHT_LUNG] == RIGHT).all()
        assert (labels[LEFT_LUNG] == LEFT).all()
        assert (labels[bridge] > 0).all()

    def test_the_next_label_along_a_row(self) -> None:
        row = np.array([0, 1, 0, 0, 2, 0], np.uint8).reshape(-1, 1, 1)
        assert next_labels(row, -1).ravel().tolist() == [0, 1, 1, 1, 2, 2]
        assert next_labels(row, 1).ravel().tolist() == [1, 1, 2, 2, 2, 0]


class TestClosing:
    def test_a_smooth_lung_stays_as_it_is(self) -> None:
        closed = close_lungs(CHEST, LABELS, NOTHING)
        assert np.count_nonzero(closed != LABELS) < 0.005 * np.count_nonzero(LABELS)

    def test_a_vessel_and_a_nodule_at_the_wall_are_filled(self) -> None:
        vessel = ellipsoid((42, 55, 45), (1.5, 1.5, 30))
        nodule = ellipsoid((21, 55, 45), (6, 6, 6)) & RIGHT_LUNG
        closed = close_lungs(CHEST, np.where(vessel | nodule, 0, LABELS), NOTHING)
        assert (closed[vessel] == RIGHT).all()
        assert (
            closed[nodule] == RIGHT
        ).mean() > 0.75  # a ball of 24 mm with a broad base, which stays outside

    def test_a_rib_of_the_same_shape_is_not(self) -> None:
        rib = ellipsoid((21, 55, 45), (6, 6, 6)) & RIGHT_LUNG
        grid = grid_of((BODY, 30), (RIGHT_LUNG | LEFT_LUNG, -850), (rib, 700))
        closed = close_lungs(grid, np.where(rib, 0, LABELS), NOTHING)
        assert (closed[rib] > 0).mean() < 0.3

    def test_the_same_bay_towards_the_heart_is_not(self) -> None:
        heart = ellipsoid((66, 55, 45), (9, 9, 9)) & RIGHT_LUNG
        closed = close_lungs(CHEST, np.where(heart, 0, LABELS), NOTHING)
        assert (closed[heart] > 0).mean() < 0.3

    def test_what_is_never_lung_is_not_filled(self) -> None:
        vessel = ellipsoid((42, 55, 45), (1.5, 1.5, 30))
        closed = close_lungs(CHEST, np.where(vessel, 0, LABELS), vessel)
        assert not closed[vessel].any()

    def test_thin_ends_of_bronchi_are_taken_off(self) -> None:
        tube = ellipsoid((68, 55, 45), (6, 1, 1)) & ~RIGHT_LUNG
        airway = ellipsoid((75, 55, 45), (2, 2, 20))
        tidy = without_tubes(CHEST, np.where(tube, RIGHT, LABELS).astype(np.uint8), airway)
        assert (tidy[tube] > 0).mean() < 0.2
        assert np.count_nonzero(tidy[RIGHT_LUNG] == 0) < 0.01 * RIGHT_LUNG.sum()
