"""What may change, and what one ROI holds: a lesion, a field, or slices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from core_fixtures import FakeModel, ball, box, edit_region, grid, make_ct, paints_where_editable, tiny_card
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.lesions import CONTEXT_MM, Lesions
from lesionbrush.core.model import EditHooks, place_mask
from lesionbrush.core.region import Region, Scope
from lesionbrush.core.request import EditRequest
from lesionbrush.core.roi import RoiGrid
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from scipy.ndimage import binary_erosion, distance_transform_edt

MARGIN_MM = 3.0
CT = make_ct((40, 36, 30), grid((1.0, 1.0, 1.5)))
MASK = ball(CT, (12, 20, 15), 5)
ALSO = box(CT, (26, 36), (8, 20), (4, 20)).array > 0


def slab(scope: Scope, reference: Volume = CT, reach_mm: float | None = None, **card: object) -> RoiGrid:
    (only,) = Lesions.find(reference, scope, MARGIN_MM, reach_mm).grids(tiny_card(**card))
    return only


def middle_mm(of: RoiGrid) -> np.ndarray:
    return np.array([of.positions_mm(axis).mean() for axis in range(3)])


def rows_of(mask: Volume) -> tuple[int, int]:
    rows = np.flatnonzero(mask.array.any(axis=(0, 1)))
    return int(rows[0]), int(rows[-1]) + 1


class TestSlabs:
    """Of a CT of 40 x 36 mm a slice; along z the mask, margin and context, in slices 1.5 mm apart."""

    low, high = rows_of(MASK)
    grown = int(np.ceil(MARGIN_MM / 1.5))
    deep_mm = (high - low + 2 * grown) * 1.5 + 2 * CONTEXT_MM

    @pytest.mark.parametrize(("side", "spacing_mm"), [(20, 2.0), (16, 2.5), (64, 1.0)])
    def test_whole_slices_as_fine_as_their_width_allows(self, side: int, spacing_mm: float) -> None:
        found = slab(Scope(MASK, holds="slab"), roi_voxels=(side,), spacing_mm=1.0)
        assert found.spacing_mm == pytest.approx(spacing_mm)
        assert found.shape == (int(np.ceil(self.deep_mm / spacing_mm)), side, side)

    def test_never_finer_than_the_model(self) -> None:
        assert slab(Scope(MASK, holds="slab"), roi_voxels=(64,), spacing_mm=3.0).spacing_mm == 3.0

    def test_its_middle_is_that_of_the_slices_and_along_z_of_what_may_change(self) -> None:
        found = slab(Scope(MASK, holds="slab"), roi_voxels=(20,), spacing_mm=1.0)
        z_mm = (self.low + self.high - 1) / 2 * 1.5
        assert middle_mm(found) == pytest.approx([z_mm, 35 / 2, 39 / 2])

    def test_a_field_makes_it_as_wide_as_the_field_and_the_mask(self) -> None:
        body = box(CT, (10, 30), (10, 30), (0, 30)).array > 0
        found = slab(Scope(MASK, holds="slab", field=body), roi_voxels=(20,), spacing_mm=1.0)
        left = int(np.flatnonzero(MASK.array.any(axis=(1, 2)))[0])
        assert left < 10
        assert found.spacing_mm == pytest.approx((30 - left) / 20)
        assert middle_mm(found)[1:] == pytest.approx([39 / 2, (left + 29) / 2])

    def test_it_goes_through_all_that_may_change(self) -> None:
        plain = slab(Scope(MASK, holds="slab"), roi_voxels=(20,), spacing_mm=1.0)
        more = slab(Scope(MASK, ALSO, "slab"), roi_voxels=(20,), spacing_mm=1.0)
        low, high = min(self.low - self.grown, 4), max(self.high + self.grown, 20)
        assert more.shape[0] == int(np.ceil(((high - low) * 1.5 + 2 * CONTEXT_MM) / 2))
        assert more.shape[0] > plain.shape[0]
        assert middle_mm(more)[0] == pytest.approx((low + high - 1) / 2 * 1.5)

    def test_lesions_far_apart_share_it(self) -> None:
        both = MASK.with_array(np.maximum(ball(CT, (4, 4, 3), 2).array, ball(CT, (36, 32, 26), 2).array))
        lesions = Lesions.find(CT, Scope(both, holds="slab"), MARGIN_MM)
        assert len(lesions.parts) == 2
        assert len(lesions.grids(tiny_card())) == len(lesions.boxes) == len(lesions.edit_boxes) == 1

    def test_the_same_slab_however_the_ct_is_stored(self) -> None:
        turned = np.flip(CT.array.transpose(2, 0, 1), 0)
        affine = CT.affine[:, [2, 0, 1, 3]].copy()
        affine[:3, 3] += affine[:3, 0] * (CT.shape[2] - 1)
        affine[:3, 0] *= -1
        stored = Volume(turned, affine)
        mask = stored.with_array(np.flip(MASK.array.transpose(2, 0, 1), 0))
        ours, theirs = (
            slab(Scope(one, holds="slab"), ct, roi_voxels=(20,)) for ct, one in ((CT, MASK), (stored, mask))
        )
        assert ours.shape == theirs.shape
        assert ours.origin_mm == pytest.approx(theirs.origin_mm)

    @pytest.mark.parametrize("also", [None, ALSO])
    def test_an_edit_in_slabs_changes_only_what_may_change(self, also: np.ndarray | None) -> None:
        def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: EditRequest) -> Scope:
            return Scope(place_mask(reference, mask, request), also, "slab")

        model = paints_where_editable(300.0, EditHooks(region=region), roi_voxels=(20,), spacing_mm=1.0)
        made = synthesize(CT, MASK, EditRequest(margin_mm=MARGIN_MM), model)[0]
        changed = made.volume().array != CT.array
        allowed = edit_region(MASK.array, CT.spacing_mm, MARGIN_MM)
        if also is not None:
            allowed = allowed | also
        assert model.asked[0].reference_hu.shape == (1, *slab(Scope(MASK, also, "slab"), **SLAB).shape)
        assert not (changed & ~allowed).any()
        assert changed[MASK.array > 0].all()
        assert also is None or changed[also].mean() > 0.5


SLAB = {"roi_voxels": (20,), "spacing_mm": 1.0}


class TestSlices:
    """Each lesion with its surroundings on slices of the CT itself, 1.5 mm apart."""

    low, high = rows_of(MASK)
    beyond = int(np.ceil(CONTEXT_MM / 1.5))

    @staticmethod
    def grids(mask: Volume = MASK, also: np.ndarray | None = None, **card: object) -> list[RoiGrid]:
        lesions = Lesions.find(CT, Scope(mask, also, "slices"), MARGIN_MM)
        return lesions.grids(tiny_card(**{"roi_voxels": (24, 40), "spacing_mm": 1.5, **card}))

    def test_their_places_are_those_of_the_ct(self) -> None:
        (found,) = self.grids()
        slices = found.positions_mm(0) / 1.5
        grown = int(np.ceil(MARGIN_MM / 1.5))
        assert slices == pytest.approx(
            np.arange(self.low - grown - self.beyond, self.high + grown + self.beyond)
        )
        assert found.steps_mm == (1.5, 1.5, 1.5)

    @pytest.mark.parametrize(("spacing_mm", "every"), [(0.5, 1), (2.0, 1), (2.3, 2), (4.0, 3)])
    def test_of_thin_slices_so_many_that_they_are_as_far_apart_as_pixels(
        self, spacing_mm: float, every: int
    ) -> None:
        (found,) = self.grids(spacing_mm=spacing_mm)
        assert found.steps_mm[0] == pytest.approx(every * 1.5)
        assert found.positions_mm(0) / 1.5 == pytest.approx(np.round(found.positions_mm(0) / 1.5))
        assert found.positions_mm(0)[-1] + found.steps_mm[0] > (self.high + 1) * 1.5 + CONTEXT_MM

    def test_the_smallest_size_that_holds_the_lesion_and_else_a_coarser_one(self) -> None:
        assert self.grids(roi_voxels=(24, 40))[0].shape[1:] == (24, 24)
        assert self.grids(roi_voxels=(16, 40))[0].shape[1:] == (40, 40)
        (coarse,) = self.grids(roi_voxels=(8, 16))
        assert coarse.shape[1:] == (16, 16)
        assert coarse.spacing_mm > 1.5
        assert coarse.steps_mm[0] == 1.5

    def test_lesions_far_apart_have_their_own_of_one_shape_and_share_one_with_more_that_may_change(
        self,
    ) -> None:
        both = MASK.with_array(ball(CT, (4, 4, 3), 2).array | ball(CT, (36, 32, 24), 4).array)
        first, second = self.grids(both)
        assert first.shape == second.shape
        assert not np.allclose(middle_mm(first), middle_mm(second), atol=5)
        assert len(self.grids(both, ALSO)) == 1

    def test_what_a_slice_holds_comes_back_as_it_was(self) -> None:
        """Where nothing is between two slices, nothing is mixed: along z each keeps its own grain."""
        made = synthesize(CT, MASK, EditRequest(margin_mm=MARGIN_MM), _striped())[0]
        inside = binary_erosion(MASK.array, iterations=2)
        hu = made.volume().array
        for k in np.flatnonzero(inside.any(axis=(0, 1))):
            assert float(np.median(hu[:, :, k][inside[:, :, k]])) == pytest.approx(
                200 if k % 2 else -200, abs=40
            )


def _striped() -> FakeModel:
    """Every other slice of the CT dark."""

    def paint(rois: RoiBatch) -> np.ndarray:
        (found,) = Lesions.find(CT, Scope(MASK, holds="slices"), MARGIN_MM).grids(tiny_card(**STRIPES))
        odd = np.round(found.positions_mm(0) / 1.5).astype(int) % 2
        return np.broadcast_to(np.where(odd, 200.0, -200.0)[:, None, None], rois.reference_hu.shape)

    def region(reference: Volume, mask: Volume | None, inputs: Inputs, request: EditRequest) -> Scope:
        return Scope(place_mask(reference, mask, request), holds="slices")

    return FakeModel(paint, tiny_card(**STRIPES), [], EditHooks(region=region))


STRIPES = {"roi_voxels": (24, 40), "spacing_mm": 1.5}


class TestKept:
    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_where_a_model_keeps_the_ct_not_one_voxel_changes(self, share: float) -> None:
        class Keeping(FakeModel):
            def sample(self, rois: RoiBatch, *args: Any) -> Sampled:
                made = super().sample(rois, *args)
                return replace(made, kept=np.full_like(made.hu, share))

        model = Keeping(lambda rois: np.full(rois.reference_hu.shape, 300.0), tiny_card(), [])
        made = synthesize(CT, MASK, EditRequest(margin_mm=MARGIN_MM), model)[0]
        changed = made.volume().array != CT.array
        assert changed[MASK.array > 0].all() if share == 0 else not changed.any()


class TestRegion:
    spacing_mm = np.array([1.5, 1.0, 1.0])
    mask = np.zeros((20, 30, 30), np.uint8)
    mask[8:12, 5:9, 5:9] = 3
    also = np.zeros(mask.shape, bool)
    also[4:16, 16:28, 14:30] = True
    whole = (slice(0, 20), slice(0, 30), slice(0, 30))

    def region(self, also: np.ndarray | None, reach_mm: float = MARGIN_MM) -> Region:
        return Region(self.mask, MARGIN_MM, reach_mm, self.spacing_mm, also)

    def test_around_the_mask_it_fades_to_the_margin(self) -> None:
        weight = self.region(None).weight(self.whole)
        assert weight.dtype == np.float32
        assert (weight[self.mask > 0] == 1).all()
        away_mm = distance_transform_edt(self.mask == 0, sampling=self.spacing_mm)
        assert not weight[away_mm >= MARGIN_MM].any()
        assert (weight[away_mm < MARGIN_MM] > 0).all()

    def test_what_may_change_as_well_fades_in_below_its_surface(self) -> None:
        weight = self.region(self.also).weight(self.whole)
        assert np.array_equal(weight[:, :, :12], self.region(None).weight(self.whole)[:, :, :12])
        s = np.clip(np.arange(1, 7) / MARGIN_MM, 0, 1)  # of the depth, from the surface in y
        np.testing.assert_allclose(weight[10, 16:22, 22], s * s * (3 - 2 * s), atol=1e-6)
        assert not weight[~self.also & (self.region(None).weight(self.whole) == 0)].any()

    def test_where_both_are_the_larger_counts(self) -> None:
        over = self.also | (self.mask > 0)
        weight = self.region(over).weight(self.whole)
        assert (weight[self.mask > 0] == 1).all()

    def test_drawn_shapes_reach_further_than_the_margin(self) -> None:
        reached = self.region(None, reach_mm=6.0).find_reach(self.whole)
        away_mm = distance_transform_edt(self.mask == 0, sampling=self.spacing_mm)
        assert np.array_equal(reached, away_mm < 6.0)

    def test_its_box_holds_all_of_it(self) -> None:
        lesion = (slice(8, 12), slice(5, 9), slice(5, 9))
        assert self.region(None).around(lesion) == (slice(6, 14), slice(2, 12), slice(2, 12))
        assert self.region(None, 6.0).around(lesion) == (slice(4, 16), slice(0, 15), slice(0, 15))
        assert self.region(self.also).around(lesion) == (slice(4, 16), slice(2, 28), slice(2, 30))


def test_what_may_change_as_well_is_editable_where_a_voxel_is_mostly_in_it() -> None:
    model = FakeModel(lambda rois: rois.reference_hu, tiny_card(roi_voxels=(32,)), [])
    for also in (None, ALSO):
        model.hooks = EditHooks(region=lambda ct, mask, inputs, request, also=also: Scope(mask, also, "slab"))
        synthesize(CT, MASK, EditRequest(margin_mm=MARGIN_MM), model)
    plain, more = model.asked
    added = more.editable.sum() - plain.editable.sum()
    assert added * 2.0**3 == pytest.approx(ALSO.sum() * CT.voxel_volume_mm3, rel=0.15)
    assert plain.mask.sum() == pytest.approx(more.mask.sum(), rel=0.01)
