"""What a model is shown of a CT and a mask, and which of them are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_fixtures import FakeModel, ball, gives_back, grid, made, make_ct, tiny_card
from lesionbrush.core.roi import ramp
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.volume import Volume
from lesionbrush.errors import AmbiguousMask, EmptyMask, GeometryMismatch, NotACT
from volume_fixtures import moved


@pytest.fixture
def ct() -> Volume:
    return make_ct()


@pytest.fixture
def mask(ct: Volume) -> Volume:
    return ball(ct, (20, 17, 14), 6.0)


def test_the_model_sees_the_lesion_in_the_middle_and_the_ct_around_it(ct: Volume, mask: Volume) -> None:
    model = gives_back()
    made(ct, mask, model)
    (rois,) = model.asked
    assert rois.reference_hu.shape == (1, 24, 24, 24)
    assert rois.inside[rois.editable].all()
    centre = np.argwhere(rois.mask[0] > 0.5).mean(axis=0)
    assert centre == pytest.approx([11.5] * 3, abs=0.5)
    volume_mm3 = rois.mask.sum() * 8
    assert volume_mm3 == pytest.approx((mask.array > 0).sum() * ct.voxel_volume_mm3, rel=0.02)
    assert rois.editable[rois.mask > 0].all()


def test_beyond_the_volume_there_is_no_data(ct: Volume) -> None:
    model = gives_back()
    made(ct, ball(ct, (0, 17, 14), 5.0), model)
    (rois,) = model.asked
    x_mm, z_mm = 2.5 + 2 * (np.arange(24) - 11.5), 21 + 2 * (np.arange(24) - 11.5)
    assert np.array_equal(rois.inside.any(axis=(0, 1, 2)), x_mm >= -0.5)
    assert np.array_equal(rois.inside.any(axis=(0, 2, 3)), (z_mm >= -0.75) & (z_mm <= 44.25))


@pytest.mark.parametrize(("gap", "count"), [(1, 1), (13, 1), (14, 2), (30, 2)])
def test_lesions_share_a_box_when_margin_and_4_mm_around_them_meet(gap: int, count: int) -> None:
    reference = make_ct((64, 30, 30), grid((1.0, 1.0, 1.0)))
    array = np.zeros(reference.shape, np.uint8)
    array[8:12, 8:12, 8:12] = array[12 + gap : 16 + gap, 8:12, 8:12] = 1
    model = gives_back()
    made(reference, reference.with_array(array), model)
    assert len(model.asked[0].mask) == count


def test_lesions_of_one_request_get_boxes_of_one_shape() -> None:
    reference = make_ct((64, 48, 30), grid((2.0, 2.0, 2.0)))
    mask = reference.with_array(
        np.maximum(ball(reference, (9, 9, 9), 3).array, ball(reference, (50, 36, 20), 12).array)
    )
    model = gives_back()
    made(reference, mask, model)
    assert model.asked[0].mask.shape == (2, 24, 24, 24)


def test_a_model_with_finer_voxels_sees_the_same_lesion(ct: Volume, mask: Volume) -> None:
    seen: list[RoiBatch] = []

    def look(rois: RoiBatch) -> np.ndarray:
        seen.append(rois)
        return rois.reference_hu

    made(ct, mask, FakeModel(look, tiny_card(spacing_mm=1.0, roi_voxels=(32, 48)), []))
    assert seen[0].mask.shape == (1, 48, 48, 48)
    weight = ramp(mask.array > 0, ct.spacing_mm, 3.0) > 0
    edited_mm3 = weight.sum() * ct.voxel_volume_mm3
    assert seen[0].editable.sum() == pytest.approx(edited_mm3, rel=0.15)


@pytest.mark.parametrize("superior", [0, 2])
def test_a_model_is_told_how_far_apart_the_slices_are_however_they_are_stored(superior: int) -> None:
    """The axis of the CT that runs along the patient counts, also where it is stored first."""
    spacing_mm = [0.8, 0.8, 0.8]
    spacing_mm[superior] = 2.5
    reference = make_ct((40, 40, 40), grid(spacing_mm, np.roll(np.eye(3), superior - 2, axis=1)))
    model = gives_back()
    made(reference, ball(reference, (20, 20, 20), 6), model)
    assert model.asked[0].slice_mm == pytest.approx(2.5)


def test_one_seed_draws_anew_for_every_lesion_and_ct_and_the_same_for_the_same(
    ct: Volume, mask: Volume
) -> None:
    model = gives_back()
    elsewhere = mask.with_array(np.roll(mask.array, 3, axis=0))
    brighter = ct.with_array(ct.array + np.int16(1))
    other_label = mask.with_array(5 * mask.array)
    flipped = [Volume(v.array[::-1], v.affine @ flip_of(v)) for v in (ct, mask)]
    for reference, lesion in ((ct, mask), (ct, elsewhere), (brighter, mask), (ct, other_label), flipped):
        made(reference, lesion, model)
    first, *others, relabelled, turned = (rois.entropy(7, 0) for rois in model.asked)
    assert len({first, *others}) == 3
    assert relabelled == turned == first
    assert model.asked[0].entropy(8, 0) != first


def flip_of(volume: Volume) -> np.ndarray:
    """Voxel index of a volume stored backwards along its first axis to that of the volume."""
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.array.shape[0] - 1
    return flip


def test_a_lesion_is_drawn_the_same_whatever_else_is_painted(ct: Volume, mask: Volume) -> None:
    alone, both = gives_back(), gives_back()
    low, high = (ball(ct, tuple(int(share * n) for n in ct.array.shape), 3) for share in (0.2, 0.8))
    made(ct, high, alone)
    made(ct, ct.with_array(np.maximum(low.array, high.array)), both)
    assert alone.asked[0].entropy(7, 0) in {both.asked[0].entropy(7, k) for k in range(2)}


def test_an_empty_mask_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(EmptyMask):
        made(ct, mask.with_array(np.zeros_like(mask.array)))


def test_a_mask_of_another_place_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(GeometryMismatch):
        made(ct, moved(mask, (0.0, 2.0, 0.0)))


def test_of_several_labels_one_has_to_be_chosen(ct: Volume, mask: Volume) -> None:
    labels = mask.array.copy()
    labels[2:5, 2:5, 2:5] = 7
    with pytest.raises(AmbiguousMask):
        made(ct, mask.with_array(labels))
    chosen = made(ct, mask.with_array(labels), label=7)
    assert max(part.stop for part in chosen.slices) < 10


def test_a_ct_without_hu_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(NotACT):
        made(ct.with_array(ct.array.clip(0)), mask)


class Drawing(FakeModel):
    """Says that all of its samples count in full, as far as they may."""

    def sample(self, rois, *given, **named) -> Sampled:
        found = super().sample(rois, *given, **named)
        return replace(found, drawn=np.ones_like(found.hu))


def test_what_a_model_draws_into_the_margin_counts_in_full_and_ends_with_it(ct: Volume, mask: Volume) -> None:
    flat = Drawing(lambda rois: rois.reference_hu * 0 + 300.0, tiny_card(), [])
    calm = ct.with_array(np.full(ct.shape, -800, np.int16))
    synthetic = made(calm, mask, flat, margin_mm=4.0).volume().array
    edit = ramp(mask.array > 0, ct.spacing_mm, 4.0) > 0
    assert (synthetic[edit] == 300).all()
    assert (synthetic[~edit] == -800).all()
