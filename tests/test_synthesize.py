"""The core with the tiny model and with fake ones whose answers have a closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import pytest
from core_fixtures import (
    QUICK,
    ball,
    box,
    edit_region,
    gives_back,
    grid,
    made,
    make_ct,
    paints,
    paints_where_editable,
    tiny_model,
)
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import Cancelled, WeightsError
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from volume_fixtures import OBLIQUE, ORIENTATIONS

CENTRE = (20, 17, 14)


@pytest.fixture
def ct() -> Volume:
    return make_ct()


@pytest.fixture
def mask(ct: Volume) -> Volume:
    return ball(ct, CENTRE, 6.0)


def constant(hu: int, spacing_mm=(1.0, 1.0, 1.5), shape=(40, 36, 30)) -> Volume:
    return Volume(np.full(shape, hu, np.int16), grid(spacing_mm))


# --- what is painted ---


def test_a_model_that_gives_back_what_it_got_changes_no_noise(ct: Volume, mask: Volume) -> None:
    """Noise beyond three sigma is cut to it: some three voxels in a thousand."""
    noise = np.random.default_rng(0).normal(-800, 30, ct.shape).round().astype(np.int16)
    reference = ct.with_array(noise)
    result = made(reference, mask, gives_back())
    region = edit_region(mask.array, ct.spacing_mm, 3.0).sum()
    assert result.provenance.voxels_changed < 0.01 * region
    assert np.abs(result.volume().array - noise).max() < 60


def test_a_lesion_taken_away_leaves_no_outline() -> None:
    """The edge of what was there is finer than the model's grid, and must not come back with the noise."""
    reference = constant(-850, (0.5, 0.5, 0.5), (60, 60, 60))
    mask = ball(reference, (30, 30, 30), 8.0)
    nodule = gaussian_filter(890.0 * (ball(reference, (30, 30, 30), 4.0).array > 0), 1.0)
    noise = np.random.default_rng(1).normal(0, 10, reference.shape)
    before = reference.with_array((reference.array + nodule + noise).round().astype(np.int16))
    after = made(before, mask, paints(-850)).volume().array[mask.array > 0]
    assert np.abs(before.array - reference.array).max() > 800
    assert np.abs(after + 850).max() < 40
    assert after.std() < 25


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.5), (0.5, 0.5, 5.0), (2.5, 0.7, 0.7)])
def test_a_constant_on_a_constant_is_the_ramp_in_closed_form(spacing_mm) -> None:
    reference = constant(-800, spacing_mm)
    mask = ball(reference, CENTRE, 4.0)
    result = made(reference, mask, paints(40)).volume().array
    distance = distance_transform_edt(mask.array == 0, sampling=spacing_mm)
    s = np.clip(1 - distance / 3, 0, 1)
    assert np.array_equal(result, np.rint(-800 + 840 * (3 * s**2 - 2 * s**3)))


def test_the_change_falls_with_the_distance_to_the_mask() -> None:
    reference = constant(-800)
    mask = ball(reference, CENTRE, 5.0)
    result = made(reference, mask, paints_where_editable(40), margin_mm=6.0).volume().array
    assert (result[mask.array > 0] > 0).all()
    distance = distance_transform_edt(mask.array == 0, sampling=reference.spacing_mm)
    rings = [result[(distance >= a) & (distance < a + 1)].mean() for a in range(7)]
    assert rings == sorted(rings, reverse=True)
    assert rings[-1] == -800


def test_on_an_even_slope_the_lesion_has_the_hu_it_was_painted_with() -> None:
    """The cubic kernel keeps lines, so that all of the slope is in the difference."""
    i, j, k = np.indices((40, 36, 30))
    reference = Volume((4 * i - 6 * j + 8 * k - 700).astype(np.int16), grid((2.0, 2.0, 2.0)))
    mask = ball(reference, CENTRE, 7.0)
    result = made(reference, mask, paints(40)).volume().array
    assert np.abs(result[mask.array > 0] - 40).max() <= 1


def test_detail_finer_than_the_model_can_see_stays_on_top() -> None:
    """40 HU + native - smoothed native; of a checkerboard the smoothed image keeps nothing."""
    checkers = 50 * (-1) ** np.indices((60, 60, 60)).sum(axis=0)
    reference = Volume((checkers - 800).astype(np.int16), grid((0.5, 0.5, 0.5)))
    mask = ball(reference, (30, 30, 30), 6.0)
    result = made(reference, mask, paints(40)).volume().array
    inside = mask.array > 0
    assert np.abs(result[inside] - (40 + checkers[inside])).max() <= 1


def test_hu_stay_in_the_range_of_ct_unless_the_ct_went_further(ct: Volume, mask: Volume) -> None:
    inside = mask.array > 0
    assert made(ct, mask, paints(9000)).volume().array[inside].max() == 3071
    assert made(ct, mask, paints(-9000)).volume().array[inside].min() == -1024
    odd = ct.array.copy()
    odd[CENTRE] = 12000
    odd[CENTRE[0], CENTRE[1], CENTRE[2] + 1] = -3000
    wider = ct.with_array(odd)
    assert made(wider, mask, paints(30000)).volume().array[inside].max() == 12000
    assert made(wider, mask, paints(-30000)).volume().array[inside].min() == -3000


def test_structures_thinner_than_the_grid_of_the_model_are_painted_too() -> None:
    """A line of 0.3 mm beside a ball: on the model's 2 mm it covers next to nothing."""
    reference = constant(-800, (0.3, 0.3, 0.6), (80, 80, 40))
    mask = ball(reference, (30, 40, 20), 4.0)
    mask.array[30:70, 40, 20] = 1
    for margin_mm in (0.0, 3.0):
        result = made(reference, mask, paints_where_editable(40), margin_mm=margin_mm).volume().array
        assert result[mask.array > 0].min() > -200


def test_every_voxel_of_a_lesion_larger_than_any_box_changes() -> None:
    reference = make_ct(affine=grid((2.0, 2.0, 2.0)))
    mask = ball(reference, CENTRE, 26.0)
    result = made(reference, mask)
    changed = result.volume().array != reference.array
    assert changed[mask.array > 0].mean() > 0.999
    assert not changed[~edit_region(mask.array, reference.spacing_mm, 3.0)].any()


# --- seeds, variants, steps ---


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others(ct: Volume, mask: Volume) -> None:
    first, again, other = (made(ct, mask, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.box, again.box)
    assert first.provenance.seed == 5
    inside = mask.array[first.slices] > 0
    assert (first.box != other.box)[inside].mean() > 0.5


def test_a_variant_is_what_its_seed_gives_alone(ct: Volume, mask: Volume) -> None:
    """In bfloat16 bit for bit; in float32 convolutions of other batch sizes differ by 1e-6, a HU at most."""
    batch = synthesize(ct, mask, SynthesisRequest(steps=2, seed=3, variants=3), tiny_model())
    assert [result.provenance.seed for result in batch] == [3, 4, 5]
    for result in batch:
        alone = made(ct, mask, seed=result.provenance.seed)
        assert np.abs(alone.box.astype(int) - result.box).max() <= 1


def test_a_batch_gives_the_same_bits_again(ct: Volume, mask: Volume) -> None:
    request = SynthesisRequest(steps=2, variants=10)  # more than a CPU gets at once
    first, again = (synthesize(ct, mask, request, tiny_model()) for _ in range(2))
    assert len(first) == 10
    assert all(np.array_equal(a.box, b.box) for a, b in zip(first, again, strict=True))
    assert len({result.box.tobytes() for result in first}) == 10


@pytest.mark.parametrize("variants", [1, 3, 10])
def test_steps_are_counted_up_to_the_total(ct: Volume, mask: Volume, variants: int) -> None:
    seen: list[tuple[int, int]] = []
    request = SynthesisRequest(steps=3, variants=variants)
    synthesize(ct, mask, request, tiny_model(), on_step=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {3 * variants}
    assert seen[-1][0] == 3 * variants


def test_who_raises_in_a_step_cancels_and_leaves_nothing_behind(ct: Volume, mask: Volume) -> None:
    before = made(ct, mask)

    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        synthesize(ct, mask, QUICK, tiny_model(), on_step=stop)
    assert np.array_equal(made(ct, mask).box, before.box)


# --- what it does not depend on ---


def test_ct_and_mask_are_never_written_to(ct: Volume, mask: Volume) -> None:
    for volume in (ct, mask):
        volume.array.setflags(write=False)
    before = ct.array.copy()
    result = made(ct, mask)
    whole = result.volume().array
    whole[...] = 0
    assert np.array_equal(ct.array, before)
    assert not np.shares_memory(result.box, ct.array)


def test_the_result_is_stored_as_the_ct_is(ct: Volume, mask: Volume) -> None:
    assert made(ct, mask).volume().array.flags.f_contiguous
    turned = ct.with_array(np.ascontiguousarray(ct.array))
    assert made(turned, mask).volume().array.flags.c_contiguous


def test_what_lies_far_away_does_not_matter() -> None:
    reference = make_ct((90, 36, 30))
    mask = ball(reference, (16, 17, 14), 5.0)
    other = reference.array.copy()
    other[70:] = 900
    assert np.array_equal(made(reference, mask).box, made(reference.with_array(other), mask).box)


def stored_differently(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same voxels at the same places, with axes in another order, some of them backwards."""
    flipped = [axis for axis in range(3) if signs[axis] < 0]
    array = np.flip(volume.array.transpose(order), flipped)
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for axis in range(3):
        step[order[axis], axis] = signs[axis]
        step[order[axis], 3] = array.shape[axis] - 1 if signs[axis] < 0 else 0
    return Volume(np.asfortranarray(array), volume.affine @ step)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[1::7])
def test_the_order_in_which_voxels_are_stored_does_not_change_one_of_them(order, signs) -> None:
    reference = make_ct(affine=grid((0.8, 1.1, 2.5), OBLIQUE))
    mask = ball(reference, CENTRE, 6.0)
    expected = made(reference, mask).volume()
    found = made(*(stored_differently(volume, order, signs) for volume in (reference, mask))).volume()
    assert np.array_equal(found.array, stored_differently(expected, order, signs).array)


def test_memory_stays_flat_over_many_calls(ct: Volume, mask: Volume) -> None:
    sizes = []
    for _ in range(20):
        synthesize(ct, mask, QUICK, tiny_model())[0].volume()
        sizes.append(psutil.Process().memory_info().rss)
    assert sizes[-1] - sizes[4] < 10e6


def test_a_ct_of_another_whole_type_comes_back_as_int16(ct: Volume, mask: Volume) -> None:
    wide = replace(ct, array=ct.array.astype(np.float32))
    assert np.array_equal(made(wide, mask).volume().array, made(ct, mask).volume().array)


def test_a_box_in_the_corner_is_put_where_it_was_cut(ct: Volume) -> None:
    result = made(ct, box(ct, (37, 40), (0, 3), (28, 30)))
    assert result.slices == (slice(34, 40), slice(0, 6), slice(26, 30))
    assert np.array_equal(result.volume().array[result.slices], result.box)
    assert np.array_equal(result.box_volume().array, result.box)
    assert result.box_volume().affine[:3, 3] == pytest.approx((ct.affine @ [34, 0, 26, 1])[:3])


def test_what_is_no_number_is_refused_and_never_stored() -> None:
    ct = make_ct()
    with pytest.raises(WeightsError, match="'tiny' made values that are no numbers"):
        made(ct, ball(ct, (20, 18, 15), 6.0), paints(float("nan")))
