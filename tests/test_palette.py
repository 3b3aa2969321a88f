"""Palette as a system: what is filled, what stays, how slices agree, what is told and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import ball, box, edit_region, grid
from lesionbrush.core.registry import find_model
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import EmptyMask, InvalidRequest, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.systems.palette.card import PaletteCard
from lesionbrush.systems.palette.fills import FILLS, OPEN, fill_number
from lesionbrush.systems.palette.hooks import boxes_around
from lesionbrush.systems.palette.model import Palette
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.slab import Agreement, calm
from palette_kit import (
    DEPTH,
    FULL,
    SIDE,
    Says,
    install_palette,
    liver_rois,
    make_liver,
    palette_card,
    palette_model,
    sampled,
    saying,
)
from test_promise import SPACINGS_MM, TURNS


def changed(reference: Volume, mask: Volume, model: Palette, **request: Any) -> np.ndarray:
    asked = PaletteRequest.model_validate({"steps": 2, **request})
    (made,) = synthesize(reference, mask, asked, model)
    found: np.ndarray = made.volume().array != reference.array
    return found


class TestThePromise:
    @pytest.mark.parametrize("spacing", SPACINGS_MM)
    @pytest.mark.parametrize("turn", TURNS)
    def test_outside_the_edit_region_nothing_changes(self, turn: str, spacing: str) -> None:
        ct = make_liver(affine=grid(SPACINGS_MM[spacing], TURNS[turn]))
        mask = ball(ct, (18, 16, 7), 5.0)
        where = changed(ct, mask, palette_model())
        assert not where[~edit_region(mask.array, ct.spacing_mm, 3.0)].any()
        assert where[mask.array > 0].mean() > 0.9

    @pytest.mark.parametrize("turn", ["RAS", "sagittal"])
    def test_nor_outside_boxes(self, turn: str) -> None:
        ct = make_liver(affine=grid((1.2, 1.2, 3.0), TURNS[turn]))
        mask = ball(ct, (18, 16, 7), 5.0)
        where = changed(ct, mask, palette_model(), region="box", box_mm=4.0)
        boxes = boxes_around(mask, 4.0)
        assert not where[~(boxes | edit_region(mask.array, ct.spacing_mm, 3.0))].any()
        assert where[boxes].mean() > 0.5

    def test_lesions_far_apart_are_filled_each_on_its_own_slices(self) -> None:
        ct = make_liver((90, 36, 40), grid((1.2, 1.2, 4.0)))
        both = np.maximum(ball(ct, (12, 16, 5), 5).array, ball(ct, (76, 18, 33), 5).array)
        where = changed(ct, ct.with_array(both), palette_model())
        assert not where[~edit_region(both, ct.spacing_mm, 3.0)].any()
        assert where[both > 0].mean() > 0.9

    def test_same_seed_same_voxels_whatever_else_is_in_the_batch(self) -> None:
        model = palette_model()
        two = sampled(model, liver_rois(2), (5, 6)).hu
        assert np.array_equal(two, sampled(model, liver_rois(2), (5, 6)).hu)
        np.testing.assert_allclose(two[1, 0], sampled(model, liver_rois(1), (6,)).hu[0, 0], atol=0.5)
        assert not np.allclose(two[0, 0], two[1, 0])


class TestWhatIsKnown:
    @pytest.mark.parametrize("sampler", ["dpm_solver_pp_2m", "ddim", "ddpm"])
    def test_it_is_shown_clean_at_every_level(self, sampler: str) -> None:
        """Not noised to the level, as others hold it: Palette's network never sees noise on it."""
        rois, model = liver_rois(), saying(0.1)
        sampled(model, rois, steps=5, sampler=sampler)
        clean = torch.from_numpy(model.scale.to_unit(rois.reference_hu[0, 1:4]))
        outside = ~torch.from_numpy(rois.editable[0, 1:4])
        assert isinstance(model.network, Says)
        assert len(model.network.asked) == 5
        for noisy, _, conditions, _ in model.network.asked:
            assert torch.equal(noisy[:, 0][outside], clean[outside])
            assert torch.equal(conditions[:, 0][outside], clean[outside])
            assert torch.equal(conditions[:, 1] > 0, ~outside)

    def test_the_hole_shows_nothing_of_what_was_there(self) -> None:
        rois, model = liver_rois(), palette_model()
        other = replace(rois, reference_hu=np.where(rois.editable, -100, rois.reference_hu))
        made, again = (sampled(model, one).hu[0] for one in (rois, other))
        assert np.array_equal(made[rois.editable], again[rois.editable])

    def test_in_the_hole_of_the_condition_is_noise_of_one_draw(self) -> None:
        model, rois = saying(0.1), liver_rois()
        sampled(model, rois, steps=3)
        hole = torch.from_numpy(rois.editable[0, 1:4])
        first, *others = [conditions[:, 0][hole] for _, _, conditions, _ in model.network.asked]
        assert float(first.std()) == pytest.approx(1, abs=0.15)
        assert all(torch.equal(first, one) for one in others)

    def test_levels_go_down_and_are_told_as_gamma(self) -> None:
        model = saying(0.1)
        sampled(model, liver_rois(), steps=4)
        gammas = [float(gamma[0]) for _, gamma, _, _ in model.network.asked]
        assert gammas == sorted(gammas)
        assert gammas[0] < 0.01
        assert gammas[-1] == pytest.approx(float(model.filler.schedule.alphas_bar[0]), rel=1e-6)

    def test_beyond_the_ct_there_is_air(self) -> None:
        rois, model = liver_rois(), saying(0.1)
        inside = rois.inside.copy()
        inside[..., :6] = False
        sampled(model, replace(rois, inside=inside), steps=1)
        assert (model.network.asked[0][0][..., :6] == -1).all()

    def test_only_slices_with_something_to_change_are_made(self) -> None:
        model, rois = saying(0.1), liver_rois()
        made = sampled(model, rois, steps=1).hu[0, 0]
        assert len(model.network.asked[0][0]) == 3
        for z in (0, DEPTH - 1):
            np.testing.assert_allclose(made[z], rois.reference_hu[0, z].clip(-150, 250), atol=1e-3)


class TestCalm:
    def test_of_coarse_noise_a_share_is_left_and_fine_noise_stays(self) -> None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((3, 1, 64, 64), generator=generator)
        made = calm(noise, 0.3)
        blocks, left = (part.unfold(2, 16, 16).unfold(3, 16, 16).mean((-1, -2)) for part in (noise, made))
        left_share = float(left.std() / blocks.std())
        assert left_share == pytest.approx(0.53, abs=0.05)  # the edges of blocks are fine
        assert float(made.std()) == pytest.approx(1, abs=0.03)

    def test_all_of_it_is_the_noise_itself(self) -> None:
        noise = torch.randn((1, 1, 16, 16), generator=torch.Generator().manual_seed(0))
        assert calm(noise, 1.0) is noise


class TestWindows:
    def test_what_the_window_cannot_hold_keeps_the_values_of_the_ct(self) -> None:
        """The network says white, 250 HU or anything above: a rib in the mask is a rib, liver is liver."""
        ct = make_liver()
        mask = box(ct, (15, 25), (24, 33), (5, 9))
        assert (ct.array[mask.array > 0] == 900).any()
        asked = PaletteRequest(steps=2)
        for said in (1.0, -1.0):
            (made,) = synthesize(ct, mask, asked, saying(said))
            assert np.array_equal(made.volume().array, ct.array)
            (told,) = made.provenance.remarks
            assert told.startswith("up to 100% of the mask kept the CT's values: what was made there lies")
            assert "-150 to 250 HU" in told

    def test_what_it_can_hold_is_made(self) -> None:
        ct = make_liver()
        mask = box(ct, (15, 25), (24, 33), (5, 9))
        (made,) = synthesize(ct, mask, PaletteRequest(steps=2), saying(0.0))
        inside = made.volume().array[mask.array > 0]
        assert abs(float(np.median(inside)) - 50) < 5
        assert not any("kept" in remark for remark in made.provenance.remarks)

    def test_bone_beside_the_mask_is_no_darker_than_before(self) -> None:
        ct = make_liver()
        mask = ball(ct, (20, 20, 7), 6)
        (made,) = synthesize(ct, mask, PaletteRequest(steps=2), palette_model())
        bone = (ct.array == 900) & ~edit_region(mask.array, ct.spacing_mm, 3.0)
        assert (made.volume().array[bone] == 900).all()

    def test_single_grains_at_the_window_s_end_are_no_air(self) -> None:
        rng = np.random.default_rng(0)
        grains = torch.from_numpy(np.where(rng.random((3, 1, SIDE, SIDE)) < 0.2, -1.0, -0.9)).float()
        made = sampled(saying(lambda noisy: grains), liver_rois(), steps=1)
        assert made.kept is None

    def test_all_of_the_scale_keeps_nothing(self) -> None:
        model = saying(2.5, scale=FULL)
        made = sampled(model, liver_rois(), steps=2)
        assert made.kept is None
        said = model.scale.from_unit(np.array([min(2.5, model.filler.clip[1])]))[0]
        assert made.hu[0][liver_rois().mask > 0].mean() == pytest.approx(said, rel=0.01)
        assert model.scale.from_unit(np.array(model.filler.clip)) == pytest.approx([-1024, 3071], abs=0.1)


class TestSlab:
    """Slices of one lesion are made side by side, and agree."""

    def difference(self, agreement: Agreement, slice_mm: float) -> float:
        model, rois = palette_model(), liver_rois(slice_mm=slice_mm)
        model.agreement = agreement
        made = sampled(model, rois, steps=4).hu[0, 0]
        inside = rois.mask[0] > 0
        return float(np.abs(np.diff(made, axis=0))[inside[1:] & inside[:-1]].mean())

    def test_neighbours_are_more_alike_than_on_their_own_the_nearer_the_more(self) -> None:
        alone = self.difference(Agreement(alike_mm=0.0, neighbour_weight=0.0), 1.0)
        near, far = (self.difference(Agreement(), mm) for mm in (1.0, 5.0))
        assert near < 0.8 * alone
        assert near < far

    @pytest.mark.parametrize(
        ("slice_mm", "ratio", "weight"),
        [(1.0, 1.0, 0.25), (1.5, 1.0, 0.25), (3.0, 1.0, 0.125), (1.0, 0.2, 0.0)],
    )
    def test_neighbours_count_by_their_distance_and_not_for_grain(
        self, slice_mm: float, ratio: float, weight: float
    ) -> None:
        agreement = Agreement(neighbour_weight=0.25, near_mm=1.5, above_ratio=0.3)
        assert agreement.weight(slice_mm, ratio) == pytest.approx(weight)
        assert Agreement(alike_mm=2.0).smoothness(4.0) == 0.5

    def test_the_slices_of_the_ct_beyond_the_lesion_count_too(self) -> None:
        """A network of one answer: the outer slices are drawn towards the CT's 250 HU, the middle not."""
        rois, model = liver_rois(slice_mm=1.0), saying(0.0)
        model.agreement = Agreement(above_ratio=0.0)
        white = replace(rois, reference_hu=np.full_like(rois.reference_hu, 250.0))
        made = sampled(model, white, steps=1).hu[0, 0]
        middle = made[:, SIDE // 2, SIDE // 2]
        assert middle[1:4] == pytest.approx([100, 50, 100], abs=0.01)


class TestFills:
    def test_open_is_the_default_and_each_has_its_number(self) -> None:
        assert PaletteRequest().fill is None
        assert fill_number(None) == OPEN == 0
        assert [fill_number(fill) for fill in FILLS] == list(range(1, len(FILLS) + 1))

    def test_the_network_is_told(self) -> None:
        for fill in (None, "liver", "tumour"):
            model = saying(0.1)
            sampled(model, liver_rois(), fill=fill, steps=1)
            assert model.network.asked[0][3].tolist() == [fill_number(fill)] * 3

    def test_another_fill_is_another_sample(self) -> None:
        model, inside = palette_model(), liver_rois().mask > 0
        open_, tumour = (sampled(model, liver_rois(), fill=fill).hu[0][inside] for fill in (None, "tumour"))
        assert not np.allclose(open_, tumour)

    def test_one_that_it_was_not_trained_for_is_refused(self) -> None:
        said = r"fill: 'palette' was not trained to make lung; it makes liver, tumour, healthy; null leaves"
        with pytest.raises(InvalidRequest, match=said):
            sampled(palette_model(), liver_rois(), fill="lung")

    @pytest.mark.parametrize(
        ("wish", "said"),
        [({"fill": "bone"}, "fill"), ({"region": "slice"}, "region"), ({"box_mm": -1}, "box_mm")],
    )
    def test_what_there_is_not_is_refused(self, wish: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            PaletteRequest.model_validate(wish)

    def test_more_steps_than_levels_are_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="noise levels"):
            sampled(palette_model(timesteps=20), liver_rois(), steps=21)

    def test_a_mask_is_needed(self) -> None:
        with pytest.raises(EmptyMask):
            synthesize(make_liver(), None, PaletteRequest(), palette_model())


class TestBoxes:
    def test_every_part_has_its_own_within_its_slices(self) -> None:
        ct = make_liver()
        near, far = box(ct, (5, 8), (5, 9), (3, 5)), box(ct, (30, 31), (20, 24), (9, 10))
        found = boxes_around(ct.with_array(near.array | far.array), 2.5)
        wider = box(ct, (2, 11), (2, 12), (3, 5)), box(ct, (27, 34), (17, 27), (9, 10))
        wanted = wider[0].array | wider[1].array
        assert np.array_equal(found, wanted > 0)

    def test_slices_stay_slices_however_the_ct_is_stored(self) -> None:
        ct = make_liver((14, 40, 36), grid((4.0, 1.2, 1.2), TURNS["sagittal"]))
        along = int(np.abs(ct.affine[2, :3]).argmax())
        mask = ball(ct, (7, 18, 16), 4.0)
        box_, inside = boxes_around(mask, 5.0), mask.array > 0
        others = tuple(axis for axis in range(3) if axis != along)
        assert np.array_equal(box_.any(axis=others), inside.any(axis=others))


def test_estimates_are_shown() -> None:
    shown: list[np.ndarray] = []
    palette_model().sample(
        liver_rois(2), PaletteRequest(steps=3), (0,), lambda done, total: None, shown.append
    )
    assert [estimate.shape for estimate in shown] == [(DEPTH, SIDE, SIDE)] * 3


class TestCards:
    def test_a_window_and_a_compressed_scale_are_told_apart(self) -> None:
        assert PaletteCard.of(palette_card()).scale.to_unit(np.array([250.0])) == 1
        scale = PaletteCard.of(palette_card(scale=FULL)).scale
        assert scale.to_unit(np.array([250.0])) == pytest.approx(math.asinh(1))

    @pytest.mark.parametrize(
        ("section", "said"),
        [
            ({"scale": {"lo_hu": 250, "hi_hu": -150}}, "scale"),
            ({"fills": ("liver", "bone")}, "fills"),
            ({"network": {"level": "steps"}}, r"network\.level"),
        ],
    )
    def test_a_wrong_one_is_refused(self, section: dict[str, Any], said: str) -> None:
        with pytest.raises(WeightsError, match=said):
            PaletteCard.of(palette_card(**section))

    def test_a_folder_of_weights_becomes_a_model(self, tmp_path: Path) -> None:
        install_palette(tmp_path)
        model = load_model(find_model("palette", tmp_path), "cpu")
        assert np.array_equal(sampled(model, liver_rois()).hu, sampled(palette_model(), liver_rois()).hu)

    def test_weights_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        path = install_palette(tmp_path) / "configs" / "metadata.json"
        metadata = json.loads(path.read_text())
        metadata["lesionbrush"]["section"]["network"]["blocks"] = 2
        path.write_text(json.dumps(metadata))
        with pytest.raises(WeightsError, match="do not fit"):
            load_model(find_model("palette", tmp_path), "cpu")
