"""Med-DDPM as a system: what stays, how the known is held, what the network is shown, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import ball, edit_region, grid, make_ct
from lesionbrush.core.registry import InstalledModel, find_model, load_card
from lesionbrush.core.synthesize import synthesize
from lesionbrush.diffusion.samplers import SAMPLERS, ddpm
from lesionbrush.diffusion.schedules import SCHEDULES, step_variances
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems import load_model, parse_request
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.known import hold_known
from lesionbrush.systems.med_ddpm.model import MedDDPM, binarise
from lesionbrush.systems.med_ddpm.request import Known, MedDDPMRequest
from med_ddpm_kit import SIDE, SOFT, install_med, liver_rois, med_card, med_model, sampled, saying
from test_promise import SPACINGS_MM, TURNS

WAYS: tuple[Known, ...] = ("renoised", "blended", "clean")


def always(unit: float) -> Any:
    return lambda inputs, timestep: torch.full_like(inputs[:, :1], unit)


def hu_at(model: MedDDPM, unit: float) -> float:
    return float(model.section.scale.from_unit(np.full(1, unit))[0])


class TestThePromise:
    @pytest.mark.parametrize("known", WAYS)
    @pytest.mark.parametrize("turn", TURNS)
    def test_outside_the_edit_region_nothing_changes(self, turn: str, known: str) -> None:
        ct = make_ct(affine=grid(SPACINGS_MM["third axis coarse"], TURNS[turn]))
        mask = ball(ct, (20, 18, 15), 5.0)
        asked = MedDDPMRequest.model_validate({"steps": 2, "known": known})
        (made,) = synthesize(ct, mask, asked, med_model())
        where = made.volume().array != ct.array
        assert not where[~edit_region(mask.array, ct.spacing_mm, 3.0)].any()
        assert where[mask.array > 0].mean() > 0.9

    def test_same_seed_same_voxels_whatever_else_is_in_the_batch(self) -> None:
        model = med_model()
        two = sampled(model, liver_rois(2), (5, 6)).hu
        assert np.array_equal(two, sampled(model, liver_rois(2), (5, 6)).hu)
        np.testing.assert_allclose(two[1, 0], sampled(model, liver_rois(1), (6,)).hu[0, 0], atol=0.5)
        assert not np.allclose(two[0, 0], two[1, 0])

    @pytest.mark.parametrize("scale", [SOFT, None])
    def test_of_a_roi_all_but_the_hole_is_the_cts(self, scale: dict[str, float] | None) -> None:
        rois = liver_rois()
        hu = sampled(med_model(**({"scale": scale} if scale else {})), rois).hu[0]
        assert np.array_equal(hu[~rois.editable], rois.reference_hu[~rois.editable])

    def test_what_the_window_cannot_hold_stays(self) -> None:
        """Bone in the hole is bone; without a window it is filled like the rest."""
        rois = liver_rois()
        bone = rois.editable & (rois.reference_hu > 250)
        assert bone.any()
        for scale, stays in ((SOFT, True), (None, False)):
            model, _ = saying(always(0.1), **({"scale": scale} if scale else {}))
            hu = sampled(model, rois).hu[0]
            assert np.array_equal(hu[bone], rois.reference_hu[bone]) is stays
            assert (hu[rois.editable & ~bone] < 150).all()


class TestHolding:
    """Sedykh 2024, Sec. 4.3, read in two ways, and Lung-DDPM's."""

    REFERENCE = torch.linspace(-0.5, 0.5, 8**3).reshape(1, 1, 8, 8, 8)
    EDITABLE = torch.zeros(1, 1, 8, 8, 8)
    EDITABLE[..., :4] = 1

    def visited(self, way: Known, sampler: Any = ddpm) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The result of four steps with a network that says 0.25, and each x it was asked about."""
        schedule, times, asked = SCHEDULES["cosine"](250), [249, 160, 80, 10], []

        def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
            asked.append(x)
            return torch.full_like(x, 0.25)

        generator = torch.Generator().manual_seed(0)
        held, hooks = hold_known(way, denoise, self.REFERENCE, self.EDITABLE, schedule, times, generator)
        x = torch.randn(self.REFERENCE.shape, generator=generator)
        return sampler(held, x, schedule, times, generator=generator, after_step=hooks), asked

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("way", WAYS)
    def test_at_the_end_the_known_is_exact(self, way: Known, sampler: str) -> None:
        made, _ = self.visited(way, SAMPLERS[sampler])
        outside = self.EDITABLE == 0
        torch.testing.assert_close(made[outside], self.REFERENCE[outside], atol=1e-6, rtol=0)
        assert made[~outside].numpy() == pytest.approx(0.25, abs=1e-5)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("known", WAYS)
    def test_a_request_chooses_how_and_with_which_sampler(self, known: str, sampler: str) -> None:
        rois = liver_rois()
        model, network = saying(always(0.1))
        hu = sampled(model, rois, steps=4, known=known, sampler=sampler).hu[0]
        assert len(network.given) == 4
        assert np.array_equal(hu[~rois.editable], rois.reference_hu[~rois.editable])
        wanted = hu_at(model, 0.1)
        np.testing.assert_allclose(hu[rois.editable], wanted, atol=0.05)

    def test_two_ways_have_the_noise_of_the_level_and_one_has_that_of_a_step(self) -> None:
        schedule, outside = SCHEDULES["cosine"](250), self.EDITABLE == 0
        step = step_variances(schedule, 160, 80)["fixed_small"] ** 0.5
        wanted = {"renoised": schedule.sigma(80), "blended": schedule.sigma(80), "clean": step}
        share = {"renoised": schedule.alpha(80), "blended": schedule.alpha(80), "clean": 1.0}
        for way in WAYS:
            x = self.visited(way)[1][2]
            noise = (x - share[way] * self.REFERENCE)[outside]
            assert float(noise.std()) == pytest.approx(wanted[way], rel=0.2), way
            assert float(noise.mean()) == pytest.approx(0, abs=0.12), way


class TestWhatIsShown:
    def test_it_is_the_known_ct_the_mask_and_the_class(self) -> None:
        rois, (model, network) = liver_rois(), saying(always(0.1))
        for fill, number in (("tumour", 1.0), ("healthy", -1.0), (None, 0.0)):
            sampled(model, rois, steps=1, fill=fill)
            inputs, _ = network.given[-1]
            assert inputs.shape == (1, 4, SIDE, SIDE, SIDE)
            known = model.section.scale.to_unit(rois.reference_hu) * ~rois.editable
            np.testing.assert_allclose(inputs[:, 1], known, atol=1e-6)
            assert np.array_equal(inputs[:, 2], rois.mask)
            assert np.array_equal(inputs[:, 3], rois.mask * number)

    def test_the_hole_shows_nothing_of_what_was_there(self) -> None:
        rois, model = liver_rois(), med_model()
        other = replace(rois, reference_hu=np.where(rois.editable, -100, rois.reference_hu))
        made, again = (sampled(model, one).hu[0] for one in (rois, other))
        np.testing.assert_allclose(made[rois.editable], again[rois.editable], atol=1e-3)

    def test_beyond_the_ct_nothing_is_shown(self) -> None:
        rois, (model, network) = liver_rois(), saying(always(0.1))
        inside = rois.inside.copy()
        inside[..., :3] = False
        sampled(model, replace(rois, inside=inside), steps=1)
        assert not network.given[0][0][:, 1, ..., :3].any()

    def test_a_network_of_no_classes_is_told_none(self) -> None:
        model, network = saying(always(0.1), network={"in_channels": 3})
        sampled(model, liver_rois(), steps=1)
        assert network.given[0][0].shape[1] == 3

    def test_a_small_mask_is_not_lost(self) -> None:
        faint = np.zeros((4, 4, 4))
        faint[1, 1, 1:3] = 0.2, 0.05
        assert np.argwhere(binarise(faint)).tolist() == [[1, 1, 1]]
        assert not binarise(np.zeros((4, 4, 4))).any()

    def test_noise_and_v_are_read_as_they_are(self) -> None:
        """A network that knows the image and says it as eps or as v: the image comes out."""
        schedule = SCHEDULES["cosine"](250)

        def eps(inputs: torch.Tensor, t: float) -> torch.Tensor:
            return (inputs[:, :1] - schedule.alpha(int(t)) * 0.1) / schedule.sigma(int(t))

        def v(inputs: torch.Tensor, t: float) -> torch.Tensor:
            return schedule.alpha(int(t)) * eps(inputs, t) - schedule.sigma(int(t)) * 0.1

        rois = liver_rois()
        for prediction, says in (("eps", eps), ("v", v)):
            model, _ = saying(says, network={"prediction": prediction})
            hu = sampled(model, rois).hu[0][rois.editable]
            np.testing.assert_allclose(hu, hu_at(model, 0.1), atol=0.5)


class TestRefusals:
    def test_healthy_of_a_network_without_classes(self) -> None:
        model = med_model(network={"in_channels": 3})
        with pytest.raises(InvalidRequest, match=r"fill: med_ddpm was not taught .* \(got 'healthy'\)"):
            sampled(model, liver_rois(), fill="healthy")

    @pytest.mark.parametrize(
        ("wish", "named"),
        [
            ({"fill": "liver"}, r"fill: .*\(got 'liver'\)"),
            ({"known": "soft"}, r"known: .*\(got 'soft'\)"),
            ({"attributes": {}}, "attributes: unknown parameter"),
        ],
    )
    def test_what_it_does_not_know(self, wish: dict[str, Any], named: str) -> None:
        with pytest.raises(InvalidRequest, match=named):
            parse_request(wish, "med_ddpm")

    def test_more_steps_than_levels(self) -> None:
        with pytest.raises(InvalidRequest, match="steps"):
            sampled(med_model(timesteps=5), liver_rois(), steps=6)

    @pytest.mark.parametrize(
        ("network", "why"),
        [
            ({"dims": 2}, "a network of another system"),
            ({"variance": "learned_range"}, "a network of another system"),
            ({"in_channels": 2}, "takes 2 channels, this system gives it 3 or 4"),
        ],
    )
    def test_a_card_of_another_network(self, network: dict[str, Any], why: str) -> None:
        with pytest.raises((WeightsError, ValueError), match=why):
            MedDDPMCard.of(med_card(network=network))

    def test_weights_of_another_size(self, tmp_path: Path) -> None:
        folder = install_med(tmp_path)
        other = load_card(install_med(tmp_path / "other", network={"channels": (16, 16)}))
        card = other.model_copy(update={"weights_sha256": load_card(folder).weights_sha256})
        with pytest.raises(WeightsError, match="do not fit its network"):
            load_model(InstalledModel(card, folder), "cpu")


def test_an_installed_model_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_med(tmp_path)
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    model = load_model(find_model("med_ddpm"), "cpu")
    assert isinstance(model, MedDDPM)
    assert np.array_equal(sampled(model, liver_rois()).hu, sampled(med_model(), liver_rois()).hu)


def test_who_watches_sees_estimates_with_the_ct_around_them() -> None:
    rois, model, seen = liver_rois(), med_model(), list[np.ndarray]()
    asked = MedDDPMRequest(steps=3)
    model.sample(rois, asked, (0,), lambda done, total: None, seen.append)
    assert seen
    assert all(np.array_equal(hu[~rois.editable[0]], rois.reference_hu[~rois.editable]) for hu in seen)
