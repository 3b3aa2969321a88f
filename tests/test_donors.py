"""Healthy tissue from nearby: the search, what may be a donor, and what becomes of it in a removal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from core_fixtures import ball, edit_region, made, make_ct, paints, tiny_card, tiny_network
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.model import Prepared
from lesionbrush.core.region import Scope
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.donors import (
    APART_MM,
    COMPARED_HU,
    MOST_DONORS,
    NOTHING_FITS,
    Donated,
    EditSurroundings,
    Field,
    donors,
    find_donors,
    level_lung,
    misfits,
)
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.lesion_inpainting.removal import join_timesteps
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

REMOVED = {"lesion": "none"}
SIDE, REACH = 13, 4


def toy_rois(hu: np.ndarray) -> RoiBatch:
    """One ROI with a crooked lesion in the middle."""
    mask = np.zeros(hu.shape, np.float32)
    mask[5:8, 6, 6] = mask[5, 6, 7] = mask[6, 5, 6] = 1
    editable = np.zeros(hu.shape, bool)
    editable[4:9, 5:8, 5:8] = editable[4, 5, 8] = True
    return RoiBatch(hu[None], mask[None], editable[None], np.ones((1, *hu.shape), bool))


@pytest.fixture
def field() -> Field:
    """Noise, with a lesion beside and an edge of the CT."""
    rng = np.random.default_rng(0)
    shape = (SIDE + 2 * REACH,) * 3
    hu = rng.uniform(-1200, 400, shape).astype(np.float32)
    hu[:5, :, 15:] = -100
    lesion, inside = np.zeros(shape, bool), np.ones(shape, bool)
    lesion[16:18, 10, 10] = True
    inside[:, -6:] = False
    return Field(hu, lesion, inside, REACH, 1.0)


def middle(field: Field) -> np.ndarray:
    return field.hu[REACH:-REACH, REACH:-REACH, REACH:-REACH]


def searched(field: Field, around: EditSurroundings) -> dict[tuple[bool, ...], np.ndarray]:
    """The misfits as their definition has them, one shift after the other."""
    found = {}
    share = (around.weight * middle(replace(field, hu=field.thick))).sum() / around.weight.sum()
    for mirrored in product((False, True), repeat=3):
        axes = tuple(axis for axis in range(3) if mirrored[axis])
        misfit = np.full((2 * REACH + 1,) * 3, np.inf)
        for start in np.ndindex(misfit.shape):
            piece = tuple(slice(s, s + SIDE) for s in start)
            hu, forbidden, thick = (
                np.flip(array[piece], axes) for array in (field.hu, field.forbidden, field.thick)
            )
            wall = (thick & around.mask).sum() <= max(0.02, share) * around.mask.sum()
            if wall and not (forbidden & around.editable).any():
                square = (np.clip(hu, *COMPARED_HU) - around.hu) ** 2
                misfit[start] = np.sqrt((around.weight * square).sum() / around.weight.sum())
        found[mirrored] = misfit
    return found


def test_the_search_is_what_trying_every_place_gives(field: Field) -> None:
    around = EditSurroundings.of(toy_rois(middle(field)), 0)
    assert around is not None
    expected = searched(field, around)
    for mirrored, misfit in misfits(field, around):
        assert 0 < np.isfinite(misfit).sum() < misfit.size
        np.testing.assert_allclose(misfit, expected[mirrored], rtol=1e-3, atol=0.5)


def test_donors_are_the_best_places_and_lie_apart(field: Field) -> None:
    rois = toy_rois(middle(field))
    around = EditSurroundings.of(rois, 0)
    assert around is not None
    best = min(misfit.min() for misfit in searched(field, around).values())
    found = donors(field, rois, 0)
    assert 1 <= len(found) <= MOST_DONORS
    assert found[0].misfit_hu == pytest.approx(best, rel=1e-3, abs=0.5)
    assert [d.misfit_hu for d in found] == sorted(d.misfit_hu for d in found)
    for first, second in product(found, found):
        apart_mm = np.linalg.norm(np.subtract(first.offset_mm, second.offset_mm))
        assert first is second or apart_mm >= APART_MM


@pytest.mark.parametrize("part", ["lesion", "inside", "thick"])
def test_no_donor_where_all_is_lesion_beyond_the_ct_or_wall(field: Field, part: str) -> None:
    rois = toy_rois(middle(field))
    assert donors(field, rois, 0)
    everywhere = np.ones(field.hu.shape, bool)
    changes = {
        "lesion": {"lesion": everywhere},
        "inside": {"inside": ~everywhere},
        "thick": {"hu": np.full(field.hu.shape, 30, np.float32)},
    }
    assert donors(replace(field, **changes[part]), rois, 0) == ()


def test_no_donor_where_hardly_anything_is_known_around(field: Field) -> None:
    rois = toy_rois(middle(field))
    inside = rois.inside.copy()
    inside[:, :8] = False
    assert donors(field, replace(rois, inside=inside), 0) == ()


def test_no_donor_where_nothing_is_like_the_surroundings(field: Field) -> None:
    lung = replace(field, hu=np.full(field.hu.shape, -850, np.float32), inside=np.ones(field.hu.shape, bool))
    assert donors(lung, toy_rois(middle(lung)), 0)
    assert donors(lung, toy_rois(np.full((SIDE,) * 3, -400, np.float32)), 0) == ()


def test_a_donor_becomes_as_dense_as_its_new_place() -> None:
    rng = np.random.default_rng(1)
    here = rng.normal(-800, 10, (SIDE,) * 3).astype(np.float32)
    around = EditSurroundings.of(toy_rois(here), 0)
    assert around is not None
    piece = level_lung(here - 50, around, 1.0)
    assert piece[around.editable].mean() == pytest.approx(here[around.editable].mean(), abs=5)
    vessel = here.copy()
    vessel[6, 6] = 0  # is no reason to make the lung denser
    np.testing.assert_allclose(level_lung(vessel, around, 1.0), vessel, atol=10)


def vessels_ct(seed: int = 0) -> tuple[Volume, Volume]:
    """Lung with vessels along the first axis every 12 mm, and a nodule around one; a mask of the nodule."""
    noise = np.random.default_rng(seed).normal(0, 15, (60, 60, 60))
    _, j, k = np.indices(noise.shape)
    from_vessel = np.hypot((j + 6) % 12 - 6, (k + 6) % 12 - 6)
    hu = noise - 850 + 850 * np.exp(-0.5 * (from_vessel / 1.2) ** 2)
    ct = Volume(hu.astype(np.int16), np.eye(4))
    nodule = ball(ct, (30, 36, 36), 5)
    ct.array[nodule.array > 0] = 40
    return ct, nodule


def given(
    ct: Volume, mask: Volume, seeds: Sequence[int], spacing_mm: float = 1.0
) -> tuple[Donated, RoiBatch]:
    card = tiny_card(spacing_mm=spacing_mm)
    lesions = Lesions.find(ct, Scope(mask), 3.0)
    grids = lesions.grids(card)
    hu = lesions.reference_hu(grids, card)
    rois = lesions.rois(grids, hu, lesions.details(grids, hu))
    return find_donors(lesions, grids, rois, seeds), rois


def test_a_vessel_goes_on_through_the_removed_nodule() -> None:
    donor, rois = given(*vessels_ct(), [0])
    x = np.arange(rois.mask.shape[-1]) - (rois.mask.shape[-1] - 1) / 2
    in_vessel = np.broadcast_to(np.hypot(x[:, None], x[None])[..., None] <= 1.0, rois.mask.shape[1:])
    filled, inside = donor.hu[0, 0], rois.mask[0] > 0.5
    assert np.all(filled[inside & in_vessel] > -300)
    beside = inside & (np.hypot(x[:, None], x[None])[..., None] > 3.5)
    assert beside.sum() > 20
    assert filled[beside].mean() == pytest.approx(-850, abs=15)
    assert "mm" in donor.remarks(0)[0]


def test_seeds_take_turns() -> None:
    donor, _ = given(*vessels_ct(), range(6))
    chosen = [row[0] for row in donor.donors]
    count = len({id(one) for one in chosen})
    assert 2 <= count <= MOST_DONORS
    assert [chosen.index(one) for one in chosen] == [seed % count for seed in range(6)]
    np.testing.assert_array_equal(donor.hu[1], donor.hu[1 + count])


def test_details_are_those_of_the_donors_place() -> None:
    ct, mask = vessels_ct()
    donor, _ = given(ct, mask, [0], spacing_mm=2.0)
    (fine,) = donor.fine_hu[0]
    own = [np.zeros((17, 17, 17))]
    assert Prepared(details=donor.fine_hu).details_of(0, own)[0] is fine
    assert fine.shape == own[0].shape
    assert 5 < fine.std() < 60
    assert Prepared(details=[[None]]).details_of(0, own)[0] is own[0]
    assert Prepared().details_of(0, own)[0] is own[0]


def removed(ct: Volume, mask: Volume, **request: object) -> Synthesis:
    return made(ct, mask, attributes=REMOVED, **request)


def test_nothing_outside_mask_and_margin_changes_and_it_repeats() -> None:
    ct, mask = vessels_ct()
    first, again = (removed(ct, mask, seed=2) for _ in range(2))
    outside = ~edit_region(mask.array, ct.spacing_mm, 3.0)
    after = first.volume().array
    np.testing.assert_array_equal(after[outside], ct.array[outside])
    np.testing.assert_array_equal(after, again.volume().array)
    assert (after != removed(ct, mask, seed=3).volume().array).any()
    assert "lung of this CT from" in first.provenance.remarks[0]


def test_the_nodule_is_gone_and_the_vessel_goes_on() -> None:
    ct, mask = vessels_ct()
    request = SynthesisRequest.model_validate({"steps": 2, "attributes": REMOVED})
    seen: list[np.ndarray] = []
    fine = LesionInpainting(tiny_card(spacing_mm=1.0, roi_voxels=(32,)), tiny_network(), torch.device("cpu"))
    (synthesis,) = synthesize(ct, mask, request, fine, on_estimate=seen.append)
    after = synthesis.volume().array[28:33].astype(float)
    _, j, k = np.indices(after.shape)
    from_vessel = np.hypot(j - 36, k - 36)
    assert after[from_vessel < 1].mean() > -300
    assert after[(from_vessel > 3) & (from_vessel < 4)].mean() == pytest.approx(-850, abs=40)
    assert len(seen) == len(join_timesteps(fine.schedule, 2))


def test_without_a_donor_the_model_does_it_alone_and_says_so() -> None:
    ct = make_ct((24, 24, 24), np.eye(4))
    mask = ball(ct, (12, 12, 12), 7)
    nearby, alone = (removed(ct, mask, healthy_from=source) for source in ("nearby", "model"))
    assert any(NOTHING_FITS in remark for remark in nearby.provenance.remarks)
    assert not alone.provenance.remarks
    np.testing.assert_array_equal(nearby.volume().array, alone.volume().array)


def test_where_healthy_tissue_comes_from_counts_for_removals_alone() -> None:
    ct, mask = vessels_ct()
    model = paints(-850, HOOKS)
    made(ct, mask, model, healthy_from="nearby")
    made(ct, mask, model, attributes=REMOVED, healthy_from="model")
    made(ct, mask, model, attributes=REMOVED)
    assert [rois.own is None for rois in model.asked] == [True, True, False]
    with pytest.raises(InvalidRequest, match="healthy_from"):
        parse_request({"healthy_from": "elsewhere"})
