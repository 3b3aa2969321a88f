"""The system around the network: what the network is told, what is held fixed, tiles, seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import QUICK, tiny_card, tiny_model
from lesionbrush.core.rois import NativeMean, RoiBatch
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.choice import choose_engine
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES, as_input
from lesionbrush.systems.lesion_inpainting.model import (
    LesionInpainting,
)
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.running import LEAST_SIGNAL, first_timestep, in_tiles, mix_seed, visited_timesteps
from torch import Tensor, nn


class Witness(nn.Module):
    """A network that always predicts `unit`, and remembers what it was told."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.unit = unit
        self.told: list[tuple[Tensor, ...]] = []

    def forward(self, *given: Tensor) -> Tensor:
        self.told.append(given)
        return torch.full_like(given[0], self.unit)


@pytest.fixture
def rois() -> RoiBatch:
    """Two lesions in boxes of 16; the first box reaches beyond the CT."""
    rng = np.random.default_rng(0)
    hu = rng.uniform(-1000, 1000, (2, 16, 16, 16)).astype(np.float32)
    mask, inside = np.zeros((2, 16, 16, 16), np.float32), np.ones((2, 16, 16, 16), bool)
    mask[0, 6:10, 6:10, 6:10] = mask[1, 4:12, 7:9, 7:9] = 1
    mask[0, 10, 6:10, 6:10] = 0.25
    inside[0, :3] = False
    editable = np.zeros(mask.shape, bool)
    editable[:, 4:12, 4:12, 4:12] = True
    return RoiBatch(hu, mask, editable, inside)


def sampled(rois: RoiBatch, model: LesionInpainting, seeds=(0,), **request) -> np.ndarray:
    return model.sample(rois, parse_request({"steps": 3, **request}), seeds, lambda done, total: None).hu


def witness(unit: float = 0.04) -> LesionInpainting:
    return LesionInpainting(tiny_card(), Witness(unit), torch.device("cpu"))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver_pp_2m"])
def test_a_sure_network_gets_its_way_in_the_edit_region_alone(rois: RoiBatch, sampler: str) -> None:
    hu = sampled(rois, witness(), (0, 1), sampler=sampler)
    assert hu.shape == (2, 2, 16, 16, 16)
    assert hu.dtype == np.float32
    for variant in hu:
        np.testing.assert_allclose(variant[rois.editable], 40, atol=0.01)
        np.testing.assert_allclose(variant[~rois.editable], rois.reference_hu[~rois.editable], atol=0.01)


def test_the_network_is_told_the_context_where_it_is_known_and_the_lesion(rois: RoiBatch) -> None:
    model = witness()
    wanted = parse_request({"attributes": {"texture": "ground_glass", "mean_hu": -500}}).attributes
    sampled(rois, model, attributes=wanted, guidance_strength=1)
    x, alpha, sigma, conditions, attributes = model.network.told[0]
    visible = rois.inside & ~rois.editable
    unit = rois.reference_hu / 1000
    assert np.array_equal(conditions[:, 1].numpy(), visible)
    np.testing.assert_allclose(conditions[:, 0].numpy(), unit * visible, atol=1e-6)
    assert np.array_equal(conditions[:, 2].numpy(), rois.mask)
    expected = as_input(
        parse_request({"attributes": {"texture": "ground_glass", "mean_hu": -500}}).attributes.vector()
    )
    assert np.array_equal(attributes.numpy(), np.stack([expected] * 2))
    assert x.shape == (2, 1, 16, 16, 16)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(2))


def test_the_steps_go_from_almost_no_signal_to_the_first_level(rois: RoiBatch) -> None:
    model = witness()
    sampled(rois, model, steps=5)
    alphas = [float(told[1][0]) for told in model.network.told]
    assert alphas == sorted(alphas)
    assert len(alphas) == 5
    assert LEAST_SIGNAL <= alphas[0] < 1.2 * LEAST_SIGNAL
    assert alphas[-1] > 0.999


def test_the_first_noisy_image_is_standard_normal_and_belongs_to_seed_and_lesion(rois: RoiBatch) -> None:
    model = witness()
    sampled(rois, model, (7, 8))
    noise = model.network.told[0][0][:, 0].numpy()
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert len({item.tobytes() for item in noise}) == 4
    lone = RoiBatch(*(part[:1] for part in (rois.reference_hu, rois.mask, rois.editable, rois.inside)))
    again = witness()
    sampled(lone, again, (8,))
    assert np.array_equal(again.network.told[0][0][0, 0].numpy(), noise[2])


def test_guidance_goes_from_without_attributes_to_beyond_them(rois: RoiBatch) -> None:
    """One step leaves the network's own prediction: at strength s it is open + s (given - open)."""

    def at(strength: float) -> np.ndarray:
        values = {"attributes": {"texture": "solid", "margin": 0.9}, "steps": 1}
        return sampled(rois, tiny_model(), guidance_strength=strength, **values)

    none, given, beyond = (at(strength) for strength in (0, 1, 2.5))
    assert np.abs(given - none).max() > 2
    np.testing.assert_allclose(beyond, none + 2.5 * (given - none), atol=0.5)


def test_guidance_without_attributes_still_knows_that_there_is_a_lesion(rois: RoiBatch) -> None:
    model = witness()
    sampled(rois, model, guidance_strength=2, attributes={"lesion": "present", "mean_hu": 40})
    without, given = (told[4][0].numpy() for told in model.network.told[:2])
    count = len(ATTRIBUTES)
    assert without.tolist() == [1] + [0] * (count - 1) + [1] + [0] * (count - 1)
    assert given[6] == pytest.approx(0.04)
    assert given[count + 6] == 1


@pytest.mark.parametrize("native", [False, True])
def test_the_mean_that_was_asked_for_comes_out(rois: RoiBatch, native: bool) -> None:
    """Also as it will be counted on the CT's own grid, where part of the mean stays what it was."""
    counted = rois.mask / rois.mask.sum(axis=(1, 2, 3), keepdims=True)
    kept = np.array([100.0, -50.0]) if native else np.zeros(2)
    asked = replace(rois, native=NativeMean(counted, kept) if native else None)
    hu = sampled(asked, tiny_model(), (0, 1), attributes={"mean_hu": -321})
    means = (hu * counted).sum(axis=(2, 3, 4)) + kept
    np.testing.assert_allclose(means, -321, atol=1)


def test_attributes_and_their_absence_change_what_is_painted(rois: RoiBatch) -> None:
    outcomes = [
        {},
        {"texture": None},
        {"texture": "ground_glass"},
        {"calcification": "solid"},
        {"lesion": "none"},
    ]
    made = [sampled(rois, tiny_model(), attributes=wish).tobytes() for wish in outcomes]
    assert len(set(made)) == len(outcomes)


def test_a_pointwise_prediction_is_the_same_in_tiles() -> None:
    inputs = torch.randn(2, 3, 40, 16, 33)
    sizes: list[tuple[int, ...]] = []

    def predict(tile: Tensor) -> Tensor:
        sizes.append(tuple(tile.shape))
        return tile[:, :1] * 2 + tile[:, 1:2]

    torch.testing.assert_close(in_tiles(predict, inputs, 24), predict(inputs), atol=1e-5, rtol=1e-5)
    assert set(sizes[:-1]) == {(1, 3, 24, 16, 24)}


def test_a_box_that_fits_is_one_tile() -> None:
    inputs = torch.randn(2, 4, 24, 24, 16)
    sizes = []
    in_tiles(lambda tile: sizes.append(tile.shape) or tile[:, :1], inputs, 24)
    assert sizes == [inputs.shape]


def test_tiles_are_averaged_where_they_overlap() -> None:
    """Each tile answers with its own number: the seams lie between the two, nowhere beyond."""
    answers = iter(range(1, 99))
    found = in_tiles(
        lambda tile: torch.full_like(tile[:, :1], next(answers)), torch.zeros(1, 1, 24, 24, 40), 24
    )
    line = found[0, 0, 12, 12]
    assert (line.diff() >= -1e-6).all()
    assert (float(line[0]), float(line[-1])) == pytest.approx((1, 2), abs=1e-5)
    assert ((line > 1.01) & (line < 1.99)).sum() >= 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_sampling_starts_where_enough_signal_is_left(name: str) -> None:
    schedule = SCHEDULES[name]()
    start = first_timestep(schedule)
    assert schedule.alpha(start) >= LEAST_SIGNAL
    assert start == schedule.T - 1 or schedule.alpha(start + 1) < LEAST_SIGNAL


@pytest.mark.parametrize("name", SCHEDULES)
def test_more_steps_than_levels_are_refused(name: str) -> None:
    schedule = SCHEDULES[name]()
    levels = first_timestep(schedule) + 1
    assert visited_timesteps(schedule, levels).tolist() == list(range(levels))[::-1]
    with pytest.raises(InvalidRequest, match=rf"{levels} noise levels.*got {levels + 1}"):
        visited_timesteps(schedule, levels + 1)


def test_too_many_steps_are_refused_before_anything_runs(rois: RoiBatch) -> None:
    model = witness()
    with pytest.raises(InvalidRequest, match="steps"):
        sampled(rois, model, steps=1000)
    assert not model.network.told


def test_seeds_and_lesions_never_share_their_noise() -> None:
    seeds = {mix_seed(seed, lesion) for seed in range(200) for lesion in range(20)}
    assert len(seeds) == 4000


def test_the_result_says_where_it_was_made(rois: RoiBatch) -> None:
    result = tiny_model().sample(rois, QUICK, [0], lambda done, total: None)
    assert result.remarks == ()
    assert result.device == f"cpu ({choose_engine()})"


def test_a_model_is_left_ready_for_the_next_request(rois: RoiBatch) -> None:
    model = tiny_model()
    assert not model.network.training
    hu = model.sample(rois, SynthesisRequest(steps=1), [0], lambda done, total: None).hu
    assert np.isfinite(hu).all()
    assert isinstance(hu, np.ndarray)


def test_lobes_and_spicules_are_drawn_into_the_mask_and_differ_by_seed(rois: RoiBatch) -> None:
    model, wish = witness(), {"attributes": {"lobulation": 1, "spiculation": 1}}
    request = parse_request({"steps": 3, "guidance_strength": 1, **wish})
    made = model.sample(rois, request, (0, 1), lambda done, total: None)
    masks = model.network.told[0][3][:, 2].numpy().reshape(2, *rois.mask.shape)
    assert not np.array_equal(masks[0], rois.mask)
    assert not np.array_equal(masks[0], masks[1])
    assert made.drawn.shape == masks.shape
    assert ((masks - rois.mask > 1e-6) <= (made.drawn > 0)).all()
    assert not made.drawn[:, ~rois.editable].any()


@pytest.mark.parametrize(
    "wish", [{"draw_shape": False}, {"attributes": {"lesion": "none", "spiculation": 1}}, {"attributes": {}}]
)
def test_nothing_is_drawn_unless_asked_for(rois: RoiBatch, wish: dict) -> None:
    model = witness()
    request = parse_request({"steps": 3, "attributes": {"spiculation": 1}, **wish})
    made = model.sample(rois, request, (0,), lambda done, total: None)
    assert made.drawn is None
    assert np.array_equal(model.network.told[0][3][:, 2].numpy(), rois.mask)


@pytest.mark.parametrize(("grain", "expected"), [(None, 0.0), (1.0, 1.0)])
def test_grain_may_have_a_temperature_of_its_own(
    rois: RoiBatch, grain: float | None, expected: float
) -> None:
    """With all structure at temperature 0 the last noisy images hold the grain's noise, or none."""
    card = tiny_card(temperature=0.0, grain_temperature=grain)
    model = LesionInpainting(card, Witness(0.0), torch.device("cpu"))
    sampled(rois, model, steps=12, sampler="ddpm")
    x, _, sigma, *_ = model.network.told[-2]
    noise = x[0, 0][torch.from_numpy(rois.editable[0])] / sigma[0]
    assert float(noise.std()) == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize(
    ("lesion", "slice_mm", "low", "high"),
    [("present", 3, 0.3, 0.6), ("present", 2, 0.6, 0.9), ("present", None, 1, 1), ("none", 3, 1, 1)],
)
def test_the_card_may_narrow_the_mask_in_thick_slices_but_not_of_a_removal(
    rois: RoiBatch, lesion: str, slice_mm: float | None, low: float, high: float
) -> None:
    card = tiny_card(outline_of_blur=-0.25)
    model = LesionInpainting(card, Witness(0.0), torch.device("cpu"))
    sampled(replace(rois, slice_mm=slice_mm), model, attributes={"lesion": lesion})
    told = model.network.told[0][3][:, 2].numpy()
    assert (told <= rois.mask + 1e-6).all()
    assert low <= told.sum() / rois.mask.sum() <= high


def test_a_lesion_is_as_large_as_what_of_it_lies_in_the_ct(rois: RoiBatch) -> None:
    """Its mask goes on beyond the first and last slice; a long one would count as large."""
    card = tiny_card(outline_of_blur=-0.25)
    mask, inside = np.zeros((1, 16, 16, 16), np.float32), np.zeros((1, 16, 16, 16), bool)
    mask[0, :, 5:9, 5:9] = 1
    inside[0, 7:9] = True
    told = []
    for known in (inside, np.ones_like(inside)):
        model = LesionInpainting(card, Witness(0.0), torch.device("cpu"))
        one = RoiBatch(rois.reference_hu[:1], mask, mask > 0, known, spacing_mm=2.0, slice_mm=3.0)
        sampled(one, model)
        told.append(model.network.told[0][3][:, 2].numpy().sum())
    assert told[0] < told[1]
