"""Lesion inpainting in soft tissue: the promise, the density asked for, what is drawn, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.core.hu import CompressiveHU
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.soft_tissue.card import TypicalContrast
from lesionbrush.systems.lesion_inpainting.soft_tissue.hold import Held, find_inner, hold_density
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import (
    NECROTIC_HU,
    RIM_HU,
    TYPICAL_AROUND_HU,
    Look,
    draw_field,
    draw_plan,
    lies_beside_fat,
    measure_around,
    measure_even,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest
from scipy import ndimage
from soft_tissue_kit import LIVER_HU, ball_in, body, soft_model

SYSTEM = "soft_tissue_inpainting"


def ball(side: int = 40, radius: float = 12.0) -> np.ndarray:
    away = np.indices((side,) * 3) - (side - 1) / 2
    return np.clip(radius + 0.5 - np.sqrt((away**2).sum(axis=0)), 0, 1).astype(np.float32)


def ask(ct: Volume, mask: Volume, seed: int = 0, variants: int = 1, **attributes: object) -> list[Synthesis]:
    values = {"steps": 3, "seed": seed, "variants": variants, "attributes": attributes}
    return synthesize(ct, mask, parse_request(values, SYSTEM), soft_model())


def inner(mask: Volume) -> np.ndarray:
    """Well inside a lesion, on the CT's own grid."""
    deep = ndimage.distance_transform_edt(mask.array > 0, sampling=mask.spacing_mm)
    return deep > 3.0


class TestPromise:
    @pytest.mark.parametrize("offset_mm", [(0, 0, 0), (22, 0, 6), (0, 28, 30)])
    def test_outside_the_edit_region_nothing_changes(self, offset_mm) -> None:
        ct = body()
        mask = ball_in(ct, 8.0, offset_mm)
        made = ask(ct, mask)[0].volume()
        changed = made.array != ct.array
        assert changed.any()
        assert not changed[~edit_region(mask.array > 0, ct.spacing_mm, SoftTissueRequest().margin_mm)].any()
        assert made.array.dtype == np.int16
        assert np.array_equal(made.affine, ct.affine)

    def test_the_same_request_gives_the_same_voxels_and_another_seed_others(self) -> None:
        ct = body()
        mask = ball_in(ct, 8.0)
        first, second, other = (ask(ct, mask, seed)[0].box for seed in (3, 3, 4))
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)

    def test_a_variant_is_the_request_with_its_seed(self) -> None:
        ct = body()
        mask = ball_in(ct, 8.0)
        both = ask(ct, mask, 5, variants=2)
        assert np.array_equal(both[1].box, ask(ct, mask, 6)[0].box)


class TestDensity:
    @pytest.mark.parametrize("contrast_hu", [-60.0, 0.0, 80.0])
    def test_the_contrast_asked_for_is_met(self, contrast_hu: float) -> None:
        ct = body()
        mask = ball_in(ct, 12.0)
        made = ask(ct, mask, contrast_hu=contrast_hu)[0].volume()
        assert made.array[inner(mask)].mean() == pytest.approx(LIVER_HU + contrast_hu, abs=5)

    def test_left_open_it_is_typical_and_differs_from_seed_to_seed(self) -> None:
        ct = body()
        mask = ball_in(ct, 12.0)
        means = [ask(ct, mask, seed)[0].volume().array[inner(mask)].mean() for seed in range(4)]
        assert np.ptp(means) > 2
        assert all(0.7 * LIVER_HU - 25 < mean < 0.7 * LIVER_HU + 25 for mean in means)

    def test_in_fat_a_tumour_is_as_dense_as_a_tumour(self) -> None:
        typical = TypicalContrast(share=0.7, fat_below_hu=-20, fat_hu=40, spread_hu=0)
        assert typical.mean_hu(-100) == 40
        assert typical.mean_hu(100) == pytest.approx(70)

    def test_healthy_tissue_is_as_dense_as_what_is_around_whatever_was_there(self) -> None:
        ct = body()
        mask = ball_in(ct, 8.0)
        lesion = ct.with_array(np.where(mask.array > 0, np.int16(20), ct.array))
        result = ask(lesion, mask, lesion="none", contrast_hu=150.0, rim=1.0)[0]
        assert "contrast_hu, rim belong to a tumour: left aside" in " ".join(result.provenance.remarks)
        made = result.volume().array
        assert made[inner(mask)].mean() == pytest.approx(LIVER_HU, abs=6)

    def test_an_estimate_is_moved_as_a_whole_to_the_mean_of_the_plan(self) -> None:
        scale = CompressiveHU(50.0, 250.0, 400.0)
        mask, rng = ball()[None], np.random.default_rng(0)
        hu = torch.from_numpy(rng.normal(100, 10, (1, 1, 40, 40, 40)).astype(np.float32))
        plan = np.full(mask.shape, 60.0, np.float32)
        held = Held.of(mask, plan, 1.0, torch.device("cpu"))
        moved = scale.from_unit(hold_density(lambda x, t: scale.to_unit(hu), held, scale)(hu, 0))
        deep = find_inner(mask[0]) > 0
        assert float(moved[0, 0][torch.from_numpy(deep)].mean()) == pytest.approx(60, abs=0.1)
        far = torch.from_numpy(ndimage.distance_transform_edt(mask[0] == 0) > 4)
        assert torch.allclose(moved[0, 0][far], hu[0, 0][far], atol=1e-2)

    def test_a_lesion_without_an_inside_counts_as_painted(self) -> None:
        small = ball(16, 1.2)
        assert np.array_equal(find_inner(small), small)


class TestPlan:
    def plan(self, **look: float) -> np.ndarray:
        return draw_plan(ball(), 100.0, Look(-30.0, **look), 1.5, np.random.default_rng(0))

    def test_plain_it_is_one_density(self) -> None:
        assert np.allclose(self.plan(), 70.0)

    def test_a_rim_is_denser_than_the_tissue_around_a_dark_lesion(self) -> None:
        plan = draw_plan(ball(), 110.0, Look(-40.0, rim=1.0), 1.5, np.random.default_rng(0))
        depth = ndimage.distance_transform_edt(ball() >= 0.5)
        assert plan[(depth > 0) & (depth < 2)].mean() > 125
        assert plan[depth > 5].mean() < 80

    def test_a_rim_is_denser_than_the_middle(self) -> None:
        plan, depth = self.plan(rim=1.0), ndimage.distance_transform_edt(ball() >= 0.5)
        shell = plan[(depth > 0) & (depth < 2)]
        assert 70 + 0.3 * RIM_HU < shell.mean() < 70 + 1.5 * RIM_HU
        assert np.allclose(plan[depth > 9], 70, atol=1)

    def test_a_dead_middle_is_fluid_and_the_border_lives(self) -> None:
        plan, depth = self.plan(necrosis=1.0), ndimage.distance_transform_edt(ball() >= 0.5)
        assert plan[depth > 10].mean() == pytest.approx(NECROTIC_HU, abs=8)
        assert plan[depth == 1].mean() == pytest.approx(70, abs=8)

    def test_necrosis_makes_nothing_denser(self) -> None:
        dark = draw_plan(ball(), 100.0, Look(-130.0, necrosis=1.0), 1.5, np.random.default_rng(0))
        assert np.allclose(dark, -30)

    def test_calcifications_are_few_small_and_inside(self) -> None:
        plan = self.plan(calcification=1.0)
        dense = plan > 130
        assert 0 < dense.mean() < 0.05
        assert not (dense & (ndimage.distance_transform_edt(ball() < 0.5) > 3)).any()

    def test_the_same_numbers_draw_the_same_plan(self) -> None:
        assert np.array_equal(self.plan(rim=0.5, necrosis=0.5), self.plan(rim=0.5, necrosis=0.5))

    def test_fields_have_mean_0_and_spread_1(self) -> None:
        field = draw_field((24, 24, 24), 2.0, np.random.default_rng(0))
        assert field.mean() == pytest.approx(0, abs=1e-9)
        assert field.std() == pytest.approx(1)


class TestAround:
    def test_it_is_the_soft_tissue_beside_the_lesion(self) -> None:
        hu = np.full((40, 40, 40), 80.0)
        hu[:, :, 34:] = -900.0
        hu[:, :6] = 900.0
        hu[ball() > 0] = 0.0
        assert measure_around(hu, ball(), 1.5) == 80.0

    def test_without_any_it_is_taken_for_typical(self) -> None:
        assert measure_around(np.full((40, 40, 40), -900.0), ball(), 1.5) == TYPICAL_AROUND_HU

    def test_beside_fat_it_is_the_organ_that_a_lesion_grows_from(self) -> None:
        hu = np.full((40, 40, 40), -100.0)
        hu[:16] = 150.0
        assert measure_around(hu, ball(), 1.5) == 150.0
        assert lies_beside_fat(hu, ball(), 1.5)

    def test_in_fat_it_is_fat(self) -> None:
        hu = np.full((40, 40, 40), -100.0)
        hu[:6] = 150.0
        assert measure_around(hu, ball(), 1.5) == -100.0
        assert not lies_beside_fat(hu, ball(), 1.5)

    def test_in_an_organ_nothing_is_said_of_fat(self) -> None:
        assert not lies_beside_fat(np.full((40, 40, 40), 110.0), ball(), 1.5)


class TestTypicalContrast:
    typical = TypicalContrast(share=0.7, fat_below_hu=-20, fat_hu=40, spread_hu=8, least_hu=25)

    @pytest.mark.parametrize(("around_hu", "mean_hu"), [(180, 126), (50, 25), (-100, 40)])
    def test_a_tumour_is_seen_in_any_tissue(self, around_hu: float, mean_hu: float) -> None:
        assert self.typical.mean_hu(around_hu) == pytest.approx(mean_hu)


class TestHealthyPlan:
    def test_it_is_the_even_tissue_around(self) -> None:
        hu = np.where(ball() > 0, -900.0, 110.0)
        hu[:, :, 30:] += 30  # a vessel
        assert measure_even(hu, ball(), 1.5) == pytest.approx(110)

    def test_at_the_border_of_an_organ_there_is_none(self) -> None:
        hu = np.full((40, 40, 40), 110.0)
        hu[:20] = -100.0
        assert measure_even(hu, ball(), 1.5) is None

    def test_without_soft_tissue_there_is_none(self) -> None:
        assert measure_even(np.full((40, 40, 40), -900.0), ball(), 1.5) is None

    def test_without_a_plan_an_estimate_stays(self) -> None:
        scale, mask = CompressiveHU(50.0, 250.0, 400.0), ball()[None]
        held = Held.of(mask, np.full(mask.shape, np.nan, np.float32), 1.0, torch.device("cpu"))
        units = torch.randn(1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.2
        assert torch.allclose(hold_density(lambda x, t: units, held, scale)(units, 0), units, atol=1e-5)


class TestRequest:
    def test_ct_and_mask_alone_are_enough(self) -> None:
        request = parse_request({}, SYSTEM)
        assert isinstance(request, SoftTissueRequest)
        assert request.steps == 8
        assert request.attributes.contrast_hu is None

    def test_quality_is_a_number_of_steps(self) -> None:
        assert parse_request({"quality": "fast"}, SYSTEM).steps == 3
        with pytest.raises(InvalidRequest, match="quality fine is 16 steps, not 5"):
            parse_request({"quality": "fine", "steps": 5}, SYSTEM)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("contrast_hu", -200),
            ("rim", 1.5),
            ("necrosis", -0.1),
            ("texture", "solid"),
            ("calcification", "popcorn"),
        ],
    )
    def test_what_there_is_not_is_refused_by_its_name(self, name: str, value: object) -> None:
        with pytest.raises(InvalidRequest, match=f"attributes.{name}"):
            parse_request({"attributes": {name: value}}, SYSTEM)
