"""mDDPM as systems in 2D and 3D: what is followed, what stays, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import ball, make_ct
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.synthesize import synthesize
from lesionbrush.diffusion.guidance import low_pass
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.mddpm.card import BoxCard
from lesionbrush.systems.mddpm.guidance_images import guidance_images, with_lesion
from lesionbrush.systems.mddpm.guided import GuidedDiffusion
from lesionbrush.systems.mddpm.hooks import Followed
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest
from lesionbrush.systems.mddpm.slices import network_config
from lesionbrush.systems.slab import SliceNoise, average
from mddpm_kit import INPUTS, SIDE, following, guided_card, guided_model, guided_rois, install_guided

BOTH = pytest.mark.parametrize("system", ["mddpm", "mddpm_3d"])
OFF = Guide(factor=0)


def sampled(
    model: GuidedDiffusion, rois: RoiBatch, seeds: tuple[int, ...] = (0,), **request: Any
) -> np.ndarray:
    asked = MDDPMRequest(**{"steps": 3, **request})
    return model.sample(rois, asked, seeds, lambda done, total: None).hu


class TestWhatIsFollowed:
    @BOTH
    @pytest.mark.parametrize("factor", [1, 2, 4])
    def test_to_the_end_the_low_pass_is_the_image_s(self, system: str, factor: int) -> None:
        """Where all may change: what is coarser than the factor is the image's, and with 1 all of it."""
        rois = replace(guided_rois(), editable=np.ones((1, *(SIDE,) * 3), bool))
        made = sampled(guided_model(system), rois, pathology=Guide(factor=factor))[0, 0]
        wanted = with_lesion(rois.reference_hu, rois)[0]
        if system == "mddpm":
            pair = (torch.from_numpy(a)[:, None] for a in (made, wanted))
        else:
            pair = (torch.from_numpy(a)[None, None] for a in (made, wanted))
        low, high = (low_pass(a, factor).numpy() for a in pair)
        # The filter is no projection: what it leaves is at most its own overlap of the change.
        assert np.abs(low - high).mean() < (1e-2 if factor == 1 else 30)

    @BOTH
    def test_a_lesion_becomes_dense_where_the_other_one_is(self, system: str) -> None:
        rois = guided_rois()
        made = sampled(guided_model(system), rois, pathology=Guide(factor=2))[0, 0]
        assert made[rois.own.pathology_mask[0] > 0].mean() > -200
        assert made[~rois.editable[0]].mean() < -700

    @BOTH
    def test_stopping_early_leaves_more_to_the_network(self, system: str) -> None:
        rois, model = guided_rois(), guided_model(system)
        wanted = with_lesion(rois.reference_hu, rois)[0][rois.mask[0] > 0]
        errors = [
            np.abs(
                sampled(model, rois, steps=6, pathology=Guide(factor=1, stop=a))[0, 0][rois.mask[0] > 0]
                - wanted
            )
            for a in (0.0, 0.5, 1.0)
        ]
        assert errors[0].mean() < errors[1].mean() <= errors[2].mean() + 1e-3

    def test_every_image_shows_the_lesion_so_that_none_takes_it_away(self) -> None:
        rois = guided_rois(anatomy=True)
        images = guidance_images(rois, MDDPMRequest(reference=Guide(factor=4)), (1, 2, 3))
        assert [image.name for image in images] == ["reference", "anatomy", "pathology"]
        inside = rois.own.pathology_mask > 0
        assert all(np.allclose(image.hu[inside], 200, atol=0.01) for image in images)
        far = ~rois.editable
        assert (images[1].hu[far] == -400).all()
        assert np.array_equal(images[2].hu[far], rois.reference_hu[far])

    @BOTH
    def test_shared_bands_are_another_sample(self, system: str) -> None:
        rois, model = guided_rois(anatomy=True), guided_model(system)
        by_sum, by_mean = (sampled(model, rois, shared_bands=way) for way in ("sum", "mean"))
        assert not np.allclose(by_sum, by_mean)
        alone = [sampled(model, rois, anatomy=OFF, shared_bands=way) for way in ("sum", "mean")]
        np.testing.assert_allclose(*alone, atol=0.01)


class TestWhatStays:
    @BOTH
    def test_known_tissue_is_the_reference(self, system: str) -> None:
        rois = guided_rois()
        made = sampled(guided_model(system), rois)[0]
        np.testing.assert_allclose(made[~rois.editable], rois.reference_hu[~rois.editable], atol=1e-3)
        assert np.abs(made - rois.reference_hu)[rois.editable].mean() > 50

    @BOTH
    def test_same_seed_same_voxels_whatever_else_is_in_the_batch(self, system: str) -> None:
        model = guided_model(system)
        two = sampled(model, guided_rois(2), (5, 6))
        assert np.array_equal(two, sampled(model, guided_rois(2), (5, 6)))
        alone = sampled(model, guided_rois(1), (6,))
        np.testing.assert_allclose(two[1, 0], alone[0, 0], atol=0.5)
        assert not np.allclose(two[0, 0], two[1, 0])

    def test_only_slices_with_something_to_change_are_sampled(self) -> None:
        model, seen = guided_model("mddpm"), []
        network = model.network
        network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
        sampled(model, guided_rois(), steps=1)
        assert seen == [int(guided_rois().editable[0].any(axis=(1, 2)).sum())]

    @BOTH
    def test_in_a_ct_nothing_outside_mask_and_margin_changes(self, system: str) -> None:
        ct, other = make_ct(), make_ct(seed=4)
        mask, lesion = ball(ct, (20, 18, 15), 5), ball(other, (15, 20, 14), 5)
        inputs = Inputs(pathology=other, pathology_mask=lesion)
        model = guided_model(system)
        (made,) = synthesize(ct, mask, MDDPMRequest(steps=2), model, inputs)
        (again,) = synthesize(ct, mask, MDDPMRequest(steps=2), model, inputs)
        assert made.provenance.voxels_changed > 0
        assert np.array_equal(made.volume().array, again.volume().array)
        near = np.array(np.nonzero(mask.array)).T @ np.diag(ct.spacing_mm)
        changed = np.array(np.nonzero(made.volume().array != ct.array)).T @ np.diag(ct.spacing_mm)
        distance = np.sqrt(((changed[:, None] - near[None]) ** 2).sum(axis=2)).min(axis=1)
        assert distance.max() <= MDDPMRequest().margin_mm

    @BOTH
    def test_steps_are_counted_and_estimates_shown(self, system: str) -> None:
        steps, shown = [], []
        guided_model(system).sample(
            guided_rois(2),
            MDDPMRequest(steps=3),
            (0,),
            lambda done, total: steps.append((done, total)),
            shown.append,
        )
        assert steps == [(2, 6), (4, 6), (6, 6)]
        assert len(shown) == 3
        assert all(estimate.shape == (SIDE,) * 3 for estimate in shown)


class TestWhatIsRefused:
    @BOTH
    def test_nothing_to_follow(self, system: str) -> None:
        with pytest.raises(InvalidRequest, match="something to follow"):
            sampled(guided_model(system), guided_rois(pathology=False))

    @BOTH
    @pytest.mark.parametrize("factor", [3, 32])
    def test_a_factor_that_does_not_divide_the_roi(self, system: str, factor: int) -> None:
        with pytest.raises(
            InvalidRequest, match=rf"pathology\.factor: {factor} does not divide .* 1, 2, 4, 8, 16"
        ):
            sampled(guided_model(system), guided_rois(), pathology=Guide(factor=factor))

    def test_slices_need_no_factor_along_z(self) -> None:
        rois = guided_rois()
        cut = {name: getattr(rois, name)[:, 1:] for name in ("reference_hu", "mask", "editable", "inside")}
        own = {name: getattr(rois.own, name)[:, 1:] for name in ("pathology_hu", "pathology_mask")}
        odd = RoiBatch(**cut, own=Followed(**own))
        assert sampled(guided_model("mddpm"), odd).shape == (1, 1, SIDE - 1, SIDE, SIDE)
        with pytest.raises(InvalidRequest, match="15 x 16 x 16"):
            sampled(guided_model("mddpm_3d"), odd)

    @BOTH
    @pytest.mark.parametrize("name", ["anatomy", "pathology"])
    def test_a_guide_whose_image_was_not_sent(self, system: str, name: str) -> None:
        rois = guided_rois(pathology=name != "pathology")
        with pytest.raises(InvalidRequest, match=f"send the volume '{name}'"):
            sampled(guided_model(system), rois, **{name: Guide(factor=4, stop=0.25)})

    def test_corrections_that_run_away(self) -> None:
        """Three guides on the same bands, summed: the error doubles and changes its sign at every step."""
        rois, model = guided_rois(anatomy=True), guided_model("mddpm_3d")
        guides = {name: Guide(factor=1) for name in ("reference", "anatomy", "pathology")}
        with pytest.raises(InvalidRequest, match="out of the range of CT: use shared_bands 'mean'"):
            sampled(model, rois, steps=25, shared_bands="sum", **guides)
        assert np.isfinite(sampled(model, rois, steps=25, **guides)).all()

    def test_more_steps_than_there_are_levels(self) -> None:
        with pytest.raises(InvalidRequest, match="noise levels"):
            sampled(guided_model("mddpm", timesteps=20), guided_rois(), steps=21)

    def test_a_network_of_another_system(self) -> None:
        with pytest.raises(WeightsError, match=r"'mddpm_3d' does not fit .*: network"):
            network_config(guided_card("mddpm_3d"))
        for other in ({"dims": 3}, {"in_channels": 2}):
            with pytest.raises(WeightsError, match="another system"):
                network_config(guided_card("mddpm", network=other))


class TestRemarks:
    def remarks(self, rois: RoiBatch, **request: Any) -> str:
        model = guided_model("mddpm_3d")
        asked = MDDPMRequest(steps=1, **request)
        return " ".join(model.sample(rois, asked, (0,), lambda done, total: None).remarks)

    def test_a_lesion_smaller_than_the_painted_one(self) -> None:
        assert "of the painted mask got no lesion" in self.remarks(guided_rois())

    def test_a_lesion_that_is_cut_off(self) -> None:
        large = following(guided_rois(), pathology_mask=ball_like(8.0))
        assert "is cut off" in self.remarks(large)

    def test_no_pathology(self) -> None:
        said = self.remarks(guided_rois(pathology=False), reference=Guide(factor=4))
        assert "no lesion was put in" in said

    def test_a_volume_that_is_not_followed(self) -> None:
        said = self.remarks(guided_rois(anatomy=True), anatomy=OFF)
        assert "anatomy was sent but is not followed" in said

    def test_nothing_to_say(self) -> None:
        assert self.remarks(following(guided_rois(), pathology_mask=guided_rois().mask)) == ""


def ball_like(radius: float) -> np.ndarray:
    index = np.indices((SIDE,) * 3) - 8
    return (np.sqrt((index**2).sum(axis=0)) <= radius).astype(np.float32)[None]


class TestSlices:
    @staticmethod
    def noise(smoothness: float, depth: int = 200) -> torch.Tensor:
        source = SliceNoise([torch.Generator().manual_seed(0)], depth, smoothness)
        return source((depth, 1, 24, 24), torch.float32)

    @pytest.mark.parametrize("smoothness", [0.0, 1.0, 2.5])
    def test_noise_stays_standard_normal_and_is_as_alike_as_a_gaussian_makes_it(
        self, smoothness: float
    ) -> None:
        drawn = self.noise(smoothness)
        assert float(drawn.mean()) == pytest.approx(0, abs=0.03)
        assert float(drawn.std()) == pytest.approx(1, abs=0.02)
        alike = float((drawn[1:] * drawn[:-1]).mean())
        wanted = np.exp(-1 / (4 * smoothness**2)) if smoothness else 0.0
        assert alike == pytest.approx(wanted, abs=0.03)

    def test_each_box_has_its_own_generator(self) -> None:
        pair = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        both = SliceNoise(pair, 5, 1.0)((10, 1, 4, 4), torch.float32)
        alone = SliceNoise([torch.Generator().manual_seed(2)], 5, 1.0)((5, 1, 4, 4), torch.float32)
        assert torch.equal(both[5:], alone)

    def test_noise_of_another_depth_is_refused(self) -> None:
        with pytest.raises(ValueError, match="asked 7"):
            SliceNoise([torch.Generator()], 5, 1.0)((7, 1, 4, 4), torch.float32)

    def test_estimates_are_averaged_within_a_box_alone(self) -> None:
        slices = torch.tensor([0.0, 4.0, 0.0, 100.0, 100.0, 100.0])[:, None, None, None]
        assert average(slices, 3, 0.25).flatten().tolist() == [1.0, 2.0, 1.0, 100.0, 100.0, 100.0]
        assert torch.equal(average(slices, 3, 0.0), slices)


@BOTH
def test_a_folder_of_weights_becomes_a_model(system: str, tmp_path: Path) -> None:
    install_guided(tmp_path, system)
    model = load_model(find_model(system, tmp_path), "cpu")
    made = model.sample(guided_rois(), MDDPMRequest(steps=1), (0,), lambda done, total: None)
    assert np.array_equal(made.hu, sampled(guided_model(system), guided_rois(), steps=1))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = install_guided(tmp_path, "mddpm")
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["lesionbrush"]["section"]["network"]["blocks"] = 2
    path.write_text(json.dumps(metadata))
    with pytest.raises(WeightsError, match="do not fit"):
        load_model(find_model("mddpm", tmp_path), "cpu")


class TestShipped:
    @BOTH
    def test_weights_card_and_papers_are_there(self, system: str) -> None:
        installed = find_model(system)
        verify_weights(installed)
        assert installed.weights.stat().st_size < 40_000_000
        assert (installed.folder / "LICENSE").is_file()
        assert (installed.folder / "docs" / "README.md").is_file()
        assert [one.name for one in load_model(installed, "cpu").hooks.inputs] == list(INPUTS)

    def test_the_3d_model_uses_the_weights_lung_lesion_has_now(self) -> None:
        """Whoever exports lung_lesion anew has to look at mddpm_3d again, and name its weights there."""
        ours, theirs = (find_model(name).card for name in ("mddpm_3d", "lung_lesion"))
        assert ours.weights_from == "lung_lesion"
        assert ours.weights_sha256 == theirs.weights_sha256
        assert BoxCard.of(ours).network == LesionCard.of(theirs).network
