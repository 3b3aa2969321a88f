"""Lung-DDPM and Lung-DDPM+ as systems: what the network is told, what stays, how often it is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import tiny_card
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.schedules import cosine
from lesionbrush.errors import InvalidRequest, LesionBrushError, NoLungs, WeightsError
from lesionbrush.systems import parse_request
from lesionbrush.systems.lung_ddpm.column_scaling import ColumnScaling
from lesionbrush.systems.lung_ddpm.intensities import from_published_axes, to_published_axes
from lesionbrush.systems.lung_ddpm.layout import lung_layout, threshold
from lesionbrush.systems.lung_ddpm.model import LayoutDiffusion, network_config
from lesionbrush.systems.lung_ddpm.whole import LungDDPM
from lung_ddpm_kit import Witness, always, layout_card, layout_model, layout_network, rois, witness

BOTH = pytest.mark.parametrize("system", ["lung_ddpm", "lung_ddpm_plus"])
X0 = {"network": {"prediction": "x0"}}


def sampled(
    model: LayoutDiffusion, given: RoiBatch, seeds: tuple[int, ...] = (0,), **request: Any
) -> np.ndarray:
    asked = parse_request({"steps": 3, **request}, model.card.system)
    return model.sample(given, asked, seeds, lambda done, total: None).hu


def told(model: LayoutDiffusion) -> list[tuple[torch.Tensor, float]]:
    assert isinstance(model.network, Witness)
    return model.network.given


class TestWhatTheNetworkIsTold:
    def test_lung_without_the_nodule_then_the_nodule_as_plus_and_minus_one(self) -> None:
        model, given = witness("lung_ddpm", always(0)), rois()
        sampled(model, given)
        layout = told(model)[0][0][0, 1:].numpy()
        nodule = given.mask[0] > 0
        lungs = (given.own[0] > 0) & ~nodule
        assert np.array_equal(layout, np.where(np.stack((lungs, nodule)), 1, -1))

    def test_lung_ddpm_plus_is_told_the_nodule_alone(self) -> None:
        model, given = witness("lung_ddpm_plus", always(0)), rois(2)
        sampled(model, given)
        inputs = told(model)[0][0]
        assert inputs.shape[:2] == (2, 2)
        assert np.array_equal(inputs[:, 1].numpy(), np.where(given.mask > 0, 1, -1))

    @BOTH
    def test_timesteps_go_down_to_zero_within_those_it_was_trained_on(self, system: str) -> None:
        model = witness(system, always(0))
        sampled(model, rois(), steps=5)
        times = [timestep for _, timestep in told(model)]
        assert times == sorted(set(times), reverse=True)
        assert len(times) == 5
        assert times[-1] == 0
        assert 200 < times[0] < 250

    def test_a_published_network_sees_slabs_scaled_and_axes_as_published(self) -> None:
        """(z, y, x) to (z, x, y), with x to the left and y to the back."""
        volume = torch.arange(24.0).reshape(2, 3, 4)
        turned = to_published_axes(volume)
        assert turned.shape == (2, 4, 3)
        assert turned[1, 0, 2] == volume[1, 0, 3]
        assert torch.equal(from_published_axes(turned), volume)

    @pytest.mark.parametrize(("as_published", "axis"), [(False, 2), (True, 0)])
    def test_the_reference_is_scaled_by_slab(self, as_published: bool, axis: int) -> None:
        """A network sure of 0.25 gives what that is in each slab; the released sampler leaves 1.4 % noise."""
        model = witness("lung_ddpm_plus", always(0.25), scaling="columns", **X0)
        given = rois()
        hu = sampled(model, given, as_published=as_published)[0, 0]
        scaling = ColumnScaling.of(given.reference_hu[0], axis)
        wanted = scaling.from_unit(np.full(given.reference_hu[0].shape, 0.25))
        inside = given.mask[0] > 0
        np.testing.assert_allclose(hu[inside], wanted[inside], atol=70 if as_published else 0.5)


class TestPredictions:
    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    @pytest.mark.parametrize("system", ["lung_ddpm", "lung_ddpm_plus"])
    def test_a_network_that_knows_the_image_gets_its_way(self, system: str, prediction: str) -> None:
        schedule, unit = cosine(250), 0.04

        def says(inputs: torch.Tensor, timestep: float) -> torch.Tensor:
            x, t = inputs[:, :1], int(timestep)
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            eps = (x - alpha * unit) / sigma
            answers = {"eps": eps, "x0": torch.full_like(x, unit), "v": alpha * eps - sigma * unit}
            return answers[prediction]

        given = rois()
        hu = sampled(witness(system, says, network={"prediction": prediction}), given)[0]
        np.testing.assert_allclose(hu[given.editable], 40, atol=0.1)


class TestWhatStays:
    @BOTH
    @pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver_pp_2m"])
    def test_outside_the_edit_region_it_is_the_reference(self, system: str, sampler: str) -> None:
        given = rois(2)
        hu = sampled(layout_model(system), given, (0, 1), sampler=sampler)
        assert hu.shape == (2, 2, 16, 16, 16)
        assert hu.dtype == np.float32
        for variant in hu:
            np.testing.assert_allclose(
                variant[~given.editable], given.reference_hu[~given.editable], atol=0.01
            )
            assert not np.allclose(variant[given.editable], given.reference_hu[given.editable], atol=20)

    def test_as_published_everything_in_the_layout_is_made_and_noise_stays_outside(self) -> None:
        """The released blend: off by one, so that the reference keeps the first level's noise."""
        given, model = rois(), layout_model("lung_ddpm", timesteps=250, **X0)
        hu = sampled(model, given, as_published=True)[0, 0]
        outside = ~((given.own[0] > 0) | (given.mask[0] > 0))
        error = (hu - given.reference_hu[0])[outside] / 1000
        alpha, sigma = cosine(250).alpha(0), cosine(250).sigma(0)
        expected = np.hypot(sigma, (1 - alpha) * (given.reference_hu[0][outside] / 1000).std())
        assert error.std() == pytest.approx(expected, rel=0.1)

    def test_inverted_and_sampled_with_a_sure_network_the_surroundings_come_back(self) -> None:
        """A network that always says the reference; under the mask the last level's 1.4 % of noise stays."""
        given = rois()
        image = torch.from_numpy(given.reference_hu / 1000)[:, None]
        model = witness("lung_ddpm_plus", lambda inputs, t: image, **X0)
        hu = sampled(model, given, start="inversion", steps=6)[0]
        error, inside = np.abs(hu - given.reference_hu), given.mask > 0
        assert error[~inside].max() < 0.5
        assert error[inside].std() < 20


class TestEvaluations:
    def evaluations(self, **request: Any) -> int:
        model = witness("lung_ddpm_plus", always(0))
        sampled(model, rois(), **request)
        return len(told(model))

    def test_blended_takes_half_of_what_inversion_takes(self) -> None:
        assert self.evaluations(steps=7) == 7
        assert self.evaluations(steps=7, start="inversion") == 14

    def test_as_published(self) -> None:
        assert self.evaluations(as_published=True) == 100
        model = witness("lung_ddpm", always(0))
        sampled(model, rois(), as_published=True)
        assert [timestep for _, timestep in told(model)] == list(range(249, -1, -1))

    def test_as_published_lung_ddpm_plus_is_told_four_times_the_timestep(self) -> None:
        model = witness("lung_ddpm_plus", always(0))
        sampled(model, rois(), as_published=True)
        assert max(timestep for _, timestep in told(model)) == 249 * 4

    @BOTH
    @pytest.mark.parametrize("start", ["blended", "inversion"])
    def test_progress_counts_every_one_of_them(self, system: str, start: str) -> None:
        settings = {"steps": 3} | ({"start": start} if system == "lung_ddpm_plus" else {})
        seen: list[tuple[int, int]] = []
        request = parse_request(settings, system)
        given = rois(2)
        layout_model(system).sample(given, request, (0, 1), lambda *step: seen.append(step))
        dones, totals = zip(*seen, strict=True)
        assert set(totals) == {4 * (6 if settings.get("start") == "inversion" else 3)}
        assert list(dones) == sorted(dones)
        assert dones[-1] == totals[0]

    @BOTH
    def test_it_can_be_cancelled(self, system: str) -> None:
        class Cancelled(Exception):
            pass

        def cancel(done: int, total: int) -> None:
            raise Cancelled

        model = witness(system, always(0))
        with pytest.raises(Cancelled):
            model.sample(rois(), parse_request({}, system), (0,), cancel)
        assert len(told(model)) == 1

    @BOTH
    def test_estimates_are_shown_with_what_is_known_around_them(self, system: str) -> None:
        given = rois(2)
        shown: list[np.ndarray] = []
        model = layout_model(system)
        request = parse_request({"steps": 3}, system)
        model.sample(given, request, (0, 1), lambda done, total: None, shown.append)
        assert len(shown) == 3
        keep = ~given.editable[0]
        for estimate in shown:
            assert estimate.dtype == np.float32
            np.testing.assert_allclose(estimate[keep], given.reference_hu[0][keep], atol=0.01)


class TestSeeds:
    @BOTH
    def test_the_same_seed_gives_the_same_voxels_alone_or_in_a_batch(self, system: str) -> None:
        model, given = layout_model(system), rois()
        together = sampled(model, given, (3, 4))
        assert np.array_equal(sampled(model, given, (3,)), sampled(model, given, (3,)))
        np.testing.assert_allclose(sampled(model, given, (4,))[0], together[1], atol=2)
        assert not np.allclose(together[0], together[1], atol=20)


class TestRefusals:
    def refused(self, given: RoiBatch, kind: type[LesionBrushError], words: str, **request: Any) -> None:
        with pytest.raises(kind, match=words):
            sampled(layout_model("lung_ddpm"), given, **request)

    def test_a_layout_without_a_nodule(self) -> None:
        empty = replace(rois(), mask=np.zeros_like(rois().mask))
        self.refused(empty, InvalidRequest, "no nodule")
        with pytest.raises(InvalidRequest, match="no nodule"):
            sampled(layout_model("lung_ddpm_plus"), empty)

    def test_no_lungs(self) -> None:
        self.refused(replace(rois(), own=None), NoLungs, "no lung")
        self.refused(replace(rois(), own=np.zeros_like(rois().mask)), NoLungs, "no lung")

    def test_more_steps_than_levels(self) -> None:
        self.refused(rois(), InvalidRequest, "noise levels", steps=251)

    def test_a_network_of_another_system(self) -> None:
        with pytest.raises(WeightsError, match=r"'tiny' does not fit 'lung_ddpm': network: "):
            network_config(tiny_card(system="lung_ddpm"))
        for other in ({"dims": 2}, {"variance": "learned_range"}):
            with pytest.raises(WeightsError, match="another system"):
                network_config(layout_card("lung_ddpm", network=other))

    def test_fewer_levels_than_the_released_sampler_visits(self) -> None:
        card = layout_card("lung_ddpm", timesteps=100)
        model = LungDDPM(card, layout_network(card), torch.device("cpu"))
        with pytest.raises(InvalidRequest, match="100 noise levels"):
            sampled(model, rois(), as_published=True)


def test_as_published_fixes_what_the_paper_fixes() -> None:
    request = parse_request({"as_published": True, "steps": 3, "sampler": "ddim"}, "lung_ddpm")
    assert request.model_dump()["steps"] == 250
    assert request.model_dump()["sampler"] == "ddpm"
    plus = parse_request({"as_published": True}, "lung_ddpm_plus")
    assert plus.model_dump()["start"] == "inversion"
    assert parse_request(request.model_dump_json(), "lung_ddpm") == request


def test_a_nodule_smaller_than_a_voxel_is_kept() -> None:
    coverage = np.zeros((4, 4, 4), np.float32)
    coverage[1, 1, 1], coverage[1, 1, 2] = 0.3, 0.1
    nodule = threshold(coverage)
    assert np.argwhere(nodule).tolist() == [[1, 1, 1]]
    assert lung_layout(np.ones_like(nodule), nodule)[:, 1, 1, 1].tolist() == [-1, 1]
    assert not threshold(np.zeros_like(coverage)).any()
