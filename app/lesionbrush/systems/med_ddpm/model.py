"""Med-DDPM as inpainting: a cube around each mask, the CT and the mask beside the noisy image.

Arrays are (z, y, x) on the ROI.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import ends_hu, unit_ends
from lesionbrush.core.model import PLAIN, OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.preconditioning import image_from
from lesionbrush.diffusion.samplers import SAMPLERS, draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.conditions import CONTENT, join_conditions
from lesionbrush.systems.med_ddpm.known import hold_known
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig
from lesionbrush.systems.running import (
    OutOfMemoryFallback,
    SamplingWatch,
    as_batch,
    in_channels_last,
    in_tiles,
    lesion_generators,
    pick_device,
    visited_timesteps,
    with_weights,
)


class MedDDPM:
    """A trained network ready to fill ROIs."""

    hooks = PLAIN

    def __init__(self, card: ModelCard, network: MedUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, MedDDPMCard.of(card), device
        self.network = in_channels_last(network.to(device).eval())
        self.evaluate = Evaluator(self.network)
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MedDDPM:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        network = MedUNet(network_config(MedDDPMCard.of(installed.card)))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: MedDDPMRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, as one batch. See `synthesize.Model`.

        InvalidRequest for healthy tissue of a network that knows no classes, and for more steps than levels.
        """
        if request.fill == "healthy" and not self.section.is_told:
            raise InvalidRequest(
                f"fill: {self.card.name} was not taught to tell healthy from tumour (got 'healthy'): "
                "leave it out, or choose a model that was"
            )
        items = rois.items(seeds)
        job = _CubeJob(self, rois, request, items, (on_step, on_estimate))
        run = OutOfMemoryFallback(self.evaluate, self.device).run(range(len(items)), job.sample)
        made = run.results[:, 0].numpy().reshape(len(seeds), *rois.reference_hu.shape)
        return Sampled(self.compose(made, rois), run.where, run.remarks)

    def compose(self, units: np.ndarray, rois: RoiBatch) -> np.ndarray:
        """(V, L, Z, Y, X) float32 HU: the CT where nothing may change, or where the scale cannot hold it."""
        low, high = ends_hu(self.section.scale)
        held = (rois.reference_hu >= low) & (rois.reference_hu <= high)
        hu = np.where(rois.editable & held, self.section.scale.from_unit(units), rois.reference_hu)
        return hu.astype(np.float32)


class _CubeJob:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: MedDDPM,
        rois: RoiBatch,
        request: MedDDPMRequest,
        items: list[tuple[int, int]],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> None:
        self.model, self.rois, self.request, self.items = model, rois, request, items
        self.timesteps = visited_timesteps(model.schedule, request.steps)
        self.watch = SamplingWatch(*watched, len(items), len(self.timesteps))
        self.units = model.section.scale.to_unit(rois.reference_hu).clip(*unit_ends(model.section.scale))
        self.visible = rois.inside & ~rois.editable
        self.masks = np.stack([binarise(coverage) for coverage in rois.mask])

    def sample(self, part: Sequence[int], device: torch.device) -> Tensor:
        """(B, 1, Z, Y, X) units, on the CPU, of the chosen items."""
        chosen = [self.items[k] for k in part]
        lesions = [lesion for _, lesion in chosen]
        arrays = (self.units, self.rois.editable, self.visible, self.masks)
        image, editable, visible, mask = (as_batch(array, lesions, device) for array in arrays)
        content = None
        if self.model.section.is_told:
            content = image.new_full((len(part),), CONTENT[self.request.fill])
        schedule, times = self.model.schedule, self.timesteps.tolist()
        generators = lesion_generators(self.rois, chosen)
        noise = draw_noise(image.shape, generators, device, torch.float32)
        fill = self._denoiser(join_conditions(image, visible, mask, content))
        told = self.watch.over(fill, part, self._show)
        denoise, hooks = hold_known(self.request.known, told, image, editable, schedule, times, generators)
        sampler = SAMPLERS[self.request.sampler]
        return sampler(denoise, noise, schedule, times, generator=generators, after_step=hooks).cpu()

    def _denoiser(self, conditions: Tensor) -> Denoiser:
        model, shape = self.model, self.model.section.network
        clip = unit_ends(model.section.scale)

        def denoise(x: Tensor, t: int) -> Tensor:
            def predict(inputs: Tensor) -> Tensor:
                times = torch.full((len(inputs),), t, device=inputs.device)
                said: Tensor = model.evaluate(inputs.contiguous(memory_format=torch.channels_last_3d), times)
                return said

            said = in_tiles(predict, torch.cat((x, conditions), dim=1), model.card.roi_voxels[-1])
            alpha, sigma = model.schedule.alpha(t), model.schedule.sigma(t)
            return image_from(shape.prediction, x, said, alpha, sigma, shape.data_spread).clamp(*clip)

        return denoise

    def _show(self, estimate: Tensor) -> np.ndarray:
        """(B, 1, Z, Y, X) units to the (Z, Y, X) HU of the first lesion."""
        return self.model.compose(estimate[:1, 0].cpu().numpy(), self.rois)[0]


def binarise(coverage: np.ndarray) -> np.ndarray:
    """(Z, Y, X) bool from 0..1: at half of the most there is, so that no small mask is lost."""
    return (coverage > 0) & (coverage >= 0.5 * coverage.max())


def network_config(section: MedDDPMCard) -> MedUNetConfig:
    shape = section.network
    return MedUNetConfig(shape.in_channels, shape.channels, shape.attention, shape.blocks, shape.norm_groups)
