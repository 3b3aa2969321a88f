"""Lesion inpainting in soft tissue: the network fills the edit region by a plan of densities.

Outside the edit region the network sees the CT clean, and keep_known holds the noisy image to it at every
step. Arrays are (z, y, x) on the ROI.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import SAMPLERS, draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.lesion_inpainting.attributes import as_input
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue.card import SoftTissueCard
from lesionbrush.systems.lesion_inpainting.soft_tissue.grain import match_grain
from lesionbrush.systems.lesion_inpainting.soft_tissue.hold import Held, hold_density
from lesionbrush.systems.lesion_inpainting.soft_tissue.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import (
    Look,
    draw_plan,
    lies_beside_fat,
    measure_around,
    measure_even,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest, TumourAttributes
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD, blur_mm, tell
from lesionbrush.systems.lesion_inpainting.steps import lesion_timesteps
from lesionbrush.systems.running import (
    OutOfMemoryFallback,
    SamplingWatch,
    as_batch,
    in_channels_last,
    in_tiles,
    lesion_generators,
    pick_device,
    with_weights,
)

CONDITIONS = 5
"""Beside x_t: the visible context, where it is visible, the mask, the plan, where there is one."""
USUAL_MARGIN = 0.6
GRAIN = 1
"""Of the entropy of a lesion: its grain is drawn apart from its plan."""


class SoftTissueInpainting:
    """A trained network ready to fill ROIs."""

    hooks = HOOKS

    def __init__(self, card: ModelCard, network: LesionUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, SoftTissueCard.of(card), device
        self.network = in_channels_last(network.to(device).eval())
        self.evaluate = Evaluator(self.network)
        self.scale = self.section.hu_scale.build()
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> SoftTissueInpainting:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        shape = SoftTissueCard.of(installed.card).network.model_dump()
        network = LesionUNet(LesionUNetConfig(len(TOLD), conditions=CONDITIONS, **shape))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: SoftTissueRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, as one batch. See `synthesize.Model`."""
        items = rois.items(seeds)
        job = _Job(self, rois, request, items, (on_step, on_estimate))
        run = OutOfMemoryFallback(self.evaluate, self.device).run(range(len(items)), job.sample)
        hu = run.results.numpy().reshape(len(seeds), *rois.reference_hu.shape)
        remarks = (*run.remarks, *remarks_of(request.attributes), *remarks_around(rois, request.attributes))
        return Sampled(hu, run.where, remarks)

    def plan(self, rois: RoiBatch, request: SoftTissueRequest, item: tuple[int, int]) -> np.ndarray:
        """(Z, Y, X) HU of an item (seed, lesion): a lesion drawn from its own numbers, or healthy tissue.

        Of healthy tissue the network is told no plan; its mean and grain are held to those of the tissue
        around, and to nothing where that is not even: the plan is NaN then.
        """
        wish, lesion = request.attributes, item[1]
        mask = rois.mask[lesion]
        if wish.lesion == "none":
            even = measure_even(rois.reference_hu[lesion], mask, rois.spacing_mm)
            return np.full(mask.shape, np.nan if even is None else even, np.float32)
        rng = np.random.default_rng(rois.entropy(*item))
        around = measure_around(rois.reference_hu[lesion], mask, rois.spacing_mm)
        drawn = self.section.typical.mean_hu(around) - around
        drawn += self.section.typical.spread_hu * float(rng.standard_normal())
        contrast = drawn if wish.contrast_hu is None else wish.contrast_hu
        look = Look(contrast, wish.rim, wish.necrosis, wish.calcification)
        return draw_plan(mask, around, look, rois.spacing_mm, rng)


def remarks_of(wish: TumourAttributes) -> tuple[str, ...]:
    """What a request says and what is made do not always agree."""
    if not wish.left_aside:
        return ()
    words = ", ".join(wish.left_aside)
    return (f"lesion: none makes healthy tissue; {words} belong to a tumour: left aside",)


def remarks_around(rois: RoiBatch, wish: TumourAttributes) -> tuple[str, ...]:
    """A contrast is to one tissue; a user who sees two should know to which."""
    if wish.lesion == "none":
        return ()
    pairs = zip(rois.reference_hu, rois.mask, strict=True)
    denser = [
        measure_around(*pair, rois.spacing_mm) for pair in pairs if lies_beside_fat(*pair, rois.spacing_mm)
    ]
    said = ", ".join(f"{hu:.0f} HU" for hu in denser)
    return (f"fat lies beside denser tissue around; the contrast is to the denser: {said}",) if denser else ()


class _Job:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: SoftTissueInpainting,
        rois: RoiBatch,
        request: SoftTissueRequest,
        items: list[tuple[int, int]],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> None:
        self.model, self.rois, self.items = model, rois, items
        self.timesteps = lesion_timesteps(model.schedule, request.steps)
        self.watch = SamplingWatch(*watched, len(items), len(self.timesteps))
        wish = request.attributes
        self.heals = wish.lesion == "none"
        told = tell(not self.heals, wish.margin, wish.heterogeneity_hu)
        self.told = torch.from_numpy(as_input(told[None]))
        self.softness_mm = blur_mm(USUAL_MARGIN if wish.margin is None else wish.margin)
        self.plans = np.stack([model.plan(rois, request, item) for item in items])

    def sample(self, part: Sequence[int], device: torch.device) -> Tensor:
        """(B, Z, Y, X) HU, on the CPU, of the chosen items."""
        model, rois = self.model, self.rois
        chosen = [self.items[k] for k in part]
        lesions = [lesion for _, lesion in chosen]
        image = as_batch(model.scale.to_unit(rois.reference_hu), lesions, device)
        editable = as_batch(rois.editable, lesions, device)
        mask = as_batch(rois.mask, lesions, device)
        generators = lesion_generators(rois, chosen)
        noise = draw_noise(image.shape, generators, device, torch.float32)
        keep = keep_known(image, editable, model.schedule, generators)
        denoise = self._hold(self._denoiser(image, editable, mask, part), part, lesions, device)
        watched = self.watch.over(
            denoise, part, lambda x_0: self._show(torch.lerp(image[0], x_0[0], editable[0]))
        )
        sampler = SAMPLERS["dpm_solver_pp_2m"]
        x_0 = sampler(watched, noise, model.schedule, self.timesteps, generator=generators, after_step=[keep])
        return torch.from_numpy(self._finish(model.scale.from_unit(x_0[:, 0].cpu().numpy()), part, lesions))

    def _finish(self, hu: np.ndarray, part: Sequence[int], lesions: list[int]) -> np.ndarray:
        """(B, Z, Y, X) HU, their grain as it is around."""
        rois, made = self.rois, []
        for one, item, lesion in zip(hu, part, lesions, strict=True):
            known = rois.inside[lesion] & ~rois.editable[lesion]
            rng = np.random.default_rng((GRAIN, *rois.entropy(*self.items[item])))
            made.append(match_grain(one, self.plans[item], rois.mask[lesion], known, rois.spacing_mm, rng))
        return np.stack(made)

    def _show(self, unit: Tensor) -> np.ndarray:
        """(1, Z, Y, X) units to (Z, Y, X) HU."""
        return self.model.scale.from_unit(unit[0].cpu().numpy())

    def _hold(
        self, denoise: Denoiser, part: Sequence[int], lesions: list[int], device: torch.device
    ) -> Denoiser:
        masks = self.rois.mask[lesions] * self.rois.inside[lesions]
        held = Held.of(masks, self.plans[list(part)], self.softness_mm / self.rois.spacing_mm, device)
        return hold_density(denoise, held, self.model.scale)

    def _denoiser(self, image: Tensor, editable: Tensor, mask: Tensor, part: Sequence[int]) -> Denoiser:
        model, device = self.model, image.device
        inside = as_batch(self.rois.inside, [lesion for _, lesion in (self.items[k] for k in part)], device)
        visible = inside * (1 - editable)
        planned = torch.zeros_like(mask) if self.heals else (mask > 0).float()
        plan = torch.where(planned > 0, as_batch(model.scale.to_unit(self.plans), part, device), planned)
        conditions = torch.cat((image * visible, visible, mask, plan, planned), dim=1)
        told = self.told.to(device)

        def denoise(x: Tensor, t: int) -> Tensor:
            def predict(inputs: Tensor) -> Tensor:
                levels = (model.schedule.alpha(t), model.schedule.sigma(t))
                alpha, sigma = (inputs.new_full((len(inputs),), level) for level in levels)
                rows = told.expand(len(inputs), -1)
                return model.evaluate(inputs[:, :1], alpha, sigma, inputs[:, 1:], rows)

            return in_tiles(predict, torch.cat((x, conditions), dim=1), model.card.roi_voxels[-1])

        return denoise
