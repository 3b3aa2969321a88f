"""A finding from a text in the lungs of a CT: where it is, how much of it, and that all else stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import FakeModel, grid, tiny_card
from lesionbrush.cli.synthesize import find_change
from lesionbrush.core.grain import draw_periodic, find_covariance
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.model import PLAIN
from lesionbrush.core.request import EditRequest
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.synthesize import Synthesis, find_scope, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, EmptyMask, InvalidRequest, NoLungs
from lesionbrush.systems.medsyn.channels import CT
from lesionbrush.systems.medsyn.field import ChestField
from lesionbrush.systems.medsyn.finding.averages import average
from lesionbrush.systems.medsyn.finding.evaluation import ASKED, Found, figures_of, read_hosts, show
from lesionbrush.systems.medsyn.finding.grain import BLOCK, cover, find_block, learn_grain
from lesionbrush.systems.medsyn.finding.hooks import AskedOfLungs, with_rim
from lesionbrush.systems.medsyn.finding.model import MedSynFinding
from lesionbrush.systems.medsyn.finding.placing import (
    DENSE_HU,
    ChestInRoi,
    FindingWish,
    expect_ml,
    let_fall,
    put_in,
    settle,
)
from lesionbrush.systems.medsyn.finding.topics import complete
from lesionbrush.systems.medsyn.held import HeldChannels
from lesionbrush.systems.medsyn.model import ChestJob, MedSyn
from lesionbrush.systems.medsyn.request import FindingRequest
from medsyn_kit import medsyn_model

TEXT = "Large right pleural effusion."
AGAINST = FindingRequest.model_fields["against"].default
SHAPE = (50, 40, 44)


def chest(seed: int = 0) -> tuple[Volume, Volume]:
    """Two boxes of lung in grainy soft tissue, 6 mm a voxel: the CT, and its lungs."""
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[4:20, 8:32, 4:40], lungs[28:44, 8:32, 4:40] = 2, 1  # left, right
    noise = np.random.default_rng(seed).normal(0, 12, SHAPE)
    hu = np.where(lungs > 0, -850, 40) + noise
    affine = grid((6.0,) * 3)
    return Volume(np.rint(hu).astype(np.int16), affine), Volume(lungs, affine)


class Fluid(MedSyn):
    """Its chests have fluid up to a height that the seed decides, where a text says what `TEXT` does."""

    def make(self, job: ChestJob, tokens: torch.Tensor, held: Mapping[int, HeldChannels]) -> torch.Tensor:
        unit = torch.full((4, *[max(held)] * 3), -0.8)
        fluid = torch.equal(tokens, self.encoder.encode([complete(TEXT, AGAINST)]))
        job.tell(unit[None])
        unit[CT, : 24 + 3 * job.seed] += 1.1 * fluid
        return unit


@pytest.fixture(scope="module")
def model() -> MedSynFinding:
    plain = medsyn_model()
    chests = Fluid(plain.card, plain.network, plain.encoder, plain.device)
    chests.card = chests.card.model_copy(update={"roi_voxels": (48,), "spacing_mm": 6.0, "tissue": None})
    return MedSynFinding(chests)


def ask(model: MedSynFinding, text: str = TEXT, mask: Volume | None = None, **wishes: Any) -> list[Synthesis]:
    ct, lungs = chest()
    request = FindingRequest(**{"steps": 2, "fine_steps": 1, **wishes})
    return synthesize(ct, mask, request, model, Inputs(text=text, lungs=lungs))


def test_outside_the_lungs_no_voxel_changes(model: MedSynFinding) -> None:
    (made,) = ask(model, margin_mm=0)
    ct, lungs = chest()
    changed = made.volume().array != ct.array
    assert changed.any()
    assert not (changed & (lungs.array == 0)).any()
    assert "Words that acted: large, right, pleural, effusion." in made.provenance.remarks


def test_the_same_request_gives_the_same_voxels_and_another_seed_others(model: MedSynFinding) -> None:
    first, second = ask(model, variants=2)
    (again,) = ask(model, seed=1)
    assert np.array_equal(second.volume().array, again.volume().array)
    assert not np.array_equal(first.volume().array, second.volume().array)
    assert first.provenance.remarks[-2].startswith("seed 0: ")


def test_what_is_said_against_itself_changes_nothing(model: MedSynFinding) -> None:
    (made,) = ask(model, against=complete(TEXT, AGAINST))
    assert made.provenance.voxels_changed == 0
    assert made.provenance.remarks[-1].endswith("ask for large fluid, and give amount_ml")


def test_more_than_there_is_place_for_is_told(model: MedSynFinding) -> None:
    (made,) = ask(model, amount_ml=5000)
    assert made.provenance.remarks[-1].endswith("5000 ml were asked for, for which the text names no place")


def test_a_painted_part_of_the_lungs_is_all_that_changes(model: MedSynFinding) -> None:
    ct, lungs = chest()
    painted = lungs.array.copy()
    painted[:, 20:] = 0
    (made,) = ask(model, mask=lungs.with_array((painted > 0).astype(np.uint8)), margin_mm=0)
    assert not ((made.volume().array != ct.array) & (painted == 0)).any()
    outside = np.zeros(SHAPE, np.uint8)
    outside[22:26, 2:6, 2:6] = 1
    with pytest.raises(EmptyMask, match="not in the lungs"):
        ask(model, mask=lungs.with_array(outside))


@pytest.mark.parametrize(
    ("text", "ml", "said"),
    [
        ("No pleural effusion.", 500.0, "says that there is nothing"),
        ("No emphysema, heart size is normal.", None, "says that there is nothing"),
        ("Severe emphysema.", 200.0, "amount_ml 200: the text speaks of nothing that takes the place"),
    ],
)
def test_what_contradicts_itself_is_refused(
    model: MedSynFinding, text: str, ml: float | None, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ask(model, text=text, amount_ml=ml)


def test_half_air_beside_a_painted_part_belongs_to_it(model: MedSynFinding) -> None:
    ct, lungs = chest()
    painted = lungs.array.copy()
    painted[:, 20:] = 0
    part = lungs.with_array((painted > 0).astype(np.uint8))
    scope = find_scope(ct, part, FindingRequest(), model.card, model.hooks, Inputs(text=TEXT, lungs=lungs))
    inside = with_rim(lungs.array > 0, ct)
    more = (scope.mask.array > 0) & (part.array == 0)
    assert (inside & (lungs.array == 0))[more].all(), "more lung than was painted"
    assert any("Half air at the wall" in remark for remark in scope.remarks)


def test_small_fluid_is_made_and_told(model: MedSynFinding) -> None:
    (made,) = ask(model, text=TEXT.replace("Large", "Small"))
    assert any("called small is 150 ml" in remark for remark in made.provenance.remarks)
    (more,) = ask(model, text=TEXT.replace("Large", "Small"), amount_ml=400)
    assert any("called small is 400 ml" in remark for remark in more.provenance.remarks)


def test_nodules_are_left_out_and_nodules_alone_refused(model: MedSynFinding) -> None:
    (made,) = ask(model, text=f"{TEXT} A 12 mm nodule in the right upper lobe.")
    assert any("Nodules are left out (1)" in remark for remark in made.provenance.remarks)
    with pytest.raises(InvalidRequest, match="nodules alone"):
        ask(model, text="A 12 mm nodule in the right upper lobe.")


@pytest.mark.parametrize(("text", "said"), [("bonjour", "none of its words is known"), (" ", "no text")])
def test_a_text_that_says_nothing_is_refused(model: MedSynFinding, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ask(model, text=text)


def test_empty_lungs_are_refused(model: MedSynFinding) -> None:
    ct, lungs = chest()
    nothing = lungs.with_array(np.zeros(SHAPE, np.uint8))
    with pytest.raises(NoLungs, match="empty"):
        synthesize(ct, None, FindingRequest(), model, Inputs(text=TEXT, lungs=nothing))


def in_field(change_hu: float, share: float) -> tuple[ChestInRoi, np.ndarray, np.ndarray]:
    """A box of lung in a ROI that is the field, and two chests that differ in its lowest `share`."""
    hu = np.full((32,) * 3, 40.0, np.float32)
    covered = np.zeros_like(hu)
    covered[4:28, 4:28, 4:28] = 1
    hu[covered > 0] = -850
    field = ChestField((-4.0,) * 3, (256.0,) * 3)
    case = ChestInRoi(field, hu, covered, covered, np.ones(hu.shape, bool), np.full(3, 8.0))
    other = hu.copy()
    other[4 : 4 + round(24 * share), 4:28, 4:28] += change_hu
    return case, other, hu


class TestPutIn:
    def test_where_two_chests_agree_the_ct_stays(self) -> None:
        case, _, hu = in_field(0, 0)
        made = put_in(case, hu, hu)
        assert (made.kept == 1).all()
        assert (made.shift == 0).all()

    def test_lung_that_becomes_fluid_is_replaced(self) -> None:
        made = put_in(*in_field(865, 0.5), FindingWish(falls=False))
        assert made.kept[6:12, 6:26, 6:26].max() < 0.01
        assert made.kept[21:].min() > 0.99
        assert (made.hu == DENSE_HU).all()

    def test_half_as_dense_is_half_as_much_and_not_thin(self) -> None:
        ml = [put_in(*in_field(hu, 0.5)).replaced[4:28, 4:28, 4:28].sum() for hu in (865.0, 442.5)]
        assert ml[1] / ml[0] == pytest.approx(0.5, abs=0.08)

    def test_an_amount_that_is_asked_for_is_met(self) -> None:
        case, other, hu = in_field(865, 0.5)
        for ml in (300.0, 1500.0):
            made = put_in(case, other, hu, FindingWish(amount_ml=ml))
            assert made.replaced[4:28, 4:28, 4:28].sum() * 0.512 == pytest.approx(ml, rel=0.15)

    def test_what_it_does_not_speak_of_stays(self) -> None:
        for hu, wish in ((865, FindingWish(fills=False)), (-60, FindingWish(lowers=False))):
            made = put_in(*in_field(hu, 0.5), wish)
            assert (made.kept == 1).all()
            assert not made.shift.any()

    def test_the_side_that_is_named_alone_changes(self) -> None:
        made = put_in(*in_field(865, 0.5), FindingWish(side="right", falls=False))
        assert (made.kept[:, :, :14] == 1).all()
        assert made.kept[6:12, 6:26, 18:26].max() < 0.01

    def test_lung_gives_way_to_fluid_and_to_nothing_else(self) -> None:
        case, other, hu = in_field(865, 0.5)
        fluid, consolidation = (put_in(case, other, hu, FindingWish(falls=falls)) for falls in (True, False))
        assert not consolidation.pull_mm.any()
        beside = (fluid.replaced < 0.01) & (fluid.kept < 0.7)
        assert beside.any()
        assert np.linalg.norm(fluid.pull_mm, axis=0)[beside].min() > 0
        assert not fluid.pull_mm[:, case.covered == 0].any()
        assert "ml pressed together beside it" in fluid.describe(case, FindingWish())

    def test_lower_density_is_a_shift_that_keeps_what_is_there(self) -> None:
        made = put_in(*in_field(-60, 0.5))
        assert (made.kept == 1).all()
        assert made.shift[6:12, 6:26, 6:26].mean() == pytest.approx(-60, abs=3)
        assert abs(made.shift[22:]).max() < 1


class TestSettle:
    def test_the_highest_places_are_filled_and_small_parts_are_not(self) -> None:
        covered = np.ones((24,) * 3)
        order = np.zeros_like(covered)
        order[2:14, 2:14, 2:14], order[18:20, 18:20, 18:20] = 400, 500
        filled = settle(order, covered, 1500) > 0
        assert filled[2:14, 2:14, 2:14].any()
        assert not filled[17:21, 17:21, 17:21].any()

    def test_of_nothing_comes_nothing(self) -> None:
        assert not settle(np.full((24,) * 3, 5.0), np.ones((24,) * 3), 900).any()
        case, other, hu = in_field(5, 0.5)
        assert expect_ml(other - hu, case, 865.0) == 0

    def test_of_equal_places_fluid_takes_those_at_the_back_and_the_wall(self) -> None:
        covered = np.zeros((32,) * 3)
        covered[2:30, 4:28, 4:28] = 1
        order = let_fall(700 * covered, covered, np.full(3, 5.0), 865.0)
        filled = settle(order, covered, covered.sum() / 4) > 0.5
        assert filled[8:24, 4:6, 6:26].mean() > 0.95
        middle, wall = filled[8:24, 4:28, 14:18].mean(), filled[8:24, 4:28, 4:6].mean()
        assert wall > 1.3 * middle  # it tapers off along the wall
        assert not filled[:, 24:, 8:24].any()


def test_lung_that_a_volume_cuts_off_is_laid_where_it_is_and_counts_to_its_end() -> None:
    covered = np.zeros((1, 40, 40, 40), np.float32)
    covered[:, 8:, 10:30, 4:36] = 1  # goes on beyond the volume, as in a ROI
    inside = np.zeros(covered.shape, bool)
    inside[:, 4:30] = True
    rois = RoiBatch(np.zeros_like(covered), covered, covered > 0, inside, spacing_mm=8.0)
    laid = ChestInRoi.of(rois, AskedOfLungs(TEXT, 0, covered[0]))
    assert laid.covered[30:].max() == 0
    assert laid.covered[8:30].sum() == covered[0, 8:30].sum()
    alone = ChestField.around(covered[0, 4:30] > 0, np.full(3, 8.0))
    assert laid.field.size_mm == alone.size_mm
    assert laid.field.first_mm[0] == pytest.approx(alone.first_mm[0] + 4 * 8.0)


def test_an_average_is_one_of_weights_and_goes_on_beyond_them() -> None:
    values, weights = np.full((16,) * 3, 7.0), np.zeros((16,) * 3)
    weights[4:8, 4:8, 4:8] = 1
    values[weights == 0] = 1e6
    assert average(values, weights, 1.0) == pytest.approx(np.full((16,) * 3, 7.0))
    assert not average(values, np.zeros_like(weights), 1.0).any()


def test_the_rim_of_the_lungs_belongs_to_them_and_the_wall_does_not() -> None:
    ct, lungs = chest()
    fine = replace(ct, affine=grid((1.0,) * 3))
    fine.array[3, 8:32, 4:40] = -400
    grown = with_rim(lungs.array > 0, fine)
    assert grown[3, 10:30, 6:38].all()
    assert not grown[21:27].any()


class TestGrain:
    def test_it_is_that_of_the_cts_soft_tissue(self) -> None:
        hu = np.random.default_rng(0).normal(40, 12, (40, 128, 128))
        hu[:, :, :40] = -850
        covariance = learn_grain(hu)
        assert covariance is not None
        box = (slice(3, 40), slice(5, 140), slice(0, 60))
        drawn = cover(covariance, box, np.random.default_rng(1))
        assert drawn.shape == (37, 135, 60)
        assert drawn.std() == pytest.approx(12, rel=0.1)

    def test_too_little_soft_tissue_teaches_nothing(self) -> None:
        assert learn_grain(np.full((40, 100, 100), -900)) is None

    def test_the_part_with_most_of_it_is_looked_at(self) -> None:
        hu = np.full((60, 240, 240), -900)
        hu[30:60, 120:240, 100:220] = 50
        z, y, x = find_block(hu)
        assert (hu[z, y, x] == 50).mean() > 0.95
        assert hu[z, y, x].shape == BLOCK

    def test_periodic_noise_goes_on_where_it_ends(self) -> None:
        where = np.ones((40,) * 3, bool)
        smooth = np.random.default_rng(0).normal(0, 1, (40,) * 3)
        smooth = smooth + np.roll(smooth, 1, 0) + np.roll(smooth, -1, 0)
        drawn = draw_periodic(find_covariance(smooth, where), (32,) * 3, np.random.default_rng(2))
        inner, across = (drawn[1:] * drawn[:-1]).mean(), (drawn[0] * drawn[-1]).mean()
        assert across == pytest.approx(inner, rel=0.25)


def test_a_shift_keeps_every_edge_and_goes_with_what_is_kept() -> None:
    ct, lungs = chest()

    class Shifts(FakeModel):
        def sample(self, rois: Any, *rest: Any, **more: Any) -> Sampled:
            whole = np.zeros((1, *rois.reference_hu.shape), np.float32)
            return Sampled(whole, "fake", kept=np.ones_like(whole), shift=whole - 25)

    fake = Shifts(lambda rois: rois.reference_hu, tiny_card(roi_voxels=(96,), spacing_mm=6.0), [], PLAIN)
    (made,) = synthesize(ct, lungs, EditRequest(margin_mm=0, label=1), fake)
    inside = lungs.array == 1
    change = made.volume().array.astype(int) - ct.array
    assert (change[inside] == -25).all()
    assert not change[~inside].any()


class TestEvaluation:
    def test_fluid_is_counted_by_side_and_against_what_was_there(self, model: MedSynFinding) -> None:
        ct, lungs = chest()
        ct.array[6:8, 10:20, 10:20] = 20
        (made,) = synthesize(ct, None, FindingRequest(steps=2), model, Inputs(text=TEXT, lungs=lungs))
        after = made.volume().array
        found = Found.of(made, lungs)
        for side, ml in zip((1, 2), found.fluid_ml, strict=True):
            more = [((hu >= -40) & (hu <= 70) & (lungs.array == side)).sum() for hu in (after, ct.array)]
            assert ml == pytest.approx(0.216 * (int(more[0]) - int(more[1])))
            assert (ml > 50) == (side == 1)  # the right one, as TEXT says

    def test_figures_name_the_side_that_was_asked_for(self) -> None:
        left = next(one for one in ASKED if one.name == "large_left")
        found = [Found((10.0, 300.0), 0.0), Found((50.0, 20.0), 0.0)]
        assert figures_of(left, found) == {
            "large_left_ml": 160.0,
            "large_left_other_side_ml": 30.0,
            "large_left_right_way": 0.5,
        }
        emphysema = next(one for one in ASKED if one.side is None)
        assert figures_of(emphysema, [Found((0.0, 0.0), 3.0)]) == {"emphysema_laa950_percent": 3.0}

    def test_without_a_host_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DamagedFile, match=r"chest_ct of .* has none of LIDC-IDRI-0314"):
            list(read_hosts(tmp_path))

    def test_a_slice_that_changed_most_is_shown(self, model: MedSynFinding) -> None:
        panels = list(show(ask(model)[0], TEXT))
        assert [panel.window.name for panel in panels] == ["lung", "lung", "soft tissue", "soft tissue"]


def test_a_picture_of_an_edit_of_the_lungs_is_of_what_changed(model: MedSynFinding) -> None:
    (made,) = ask(model, margin_mm=0)
    shown = find_change(made).array > 0
    change_hu = abs(made.volume().array.astype(int) - made.reference.array)
    assert np.array_equal(shown, change_hu > 100)
    (same,) = ask(model, against=complete(TEXT, AGAINST))
    assert find_change(same).array.any()
