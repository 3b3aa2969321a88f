"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask.

The voxels outside the edit region are known: the network sees them clean in one channel, and keep_known holds
the noisy image to them at every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.roi import ramp
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.denoisers import Denoiser, classifier_free
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import SAMPLERS, ddpm, draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.lesion_inpainting.attributes import as_input
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.laws import LAWS, choose_laws
from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch
from lesionbrush.systems.lesion_inpainting.laws.scene import Scene
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.removal import Steps, join_donors, join_timesteps, start_from
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import AROUND_DRAWN_MM, Drawn
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

GRAIN_BELOW_RATIO = 0.05
"""Less noise than this (sigma/alpha), and what is left to be made is grain."""


class LesionInpainting:
    """A trained network ready to fill ROIs. laws: names of those of `LAWS` that act, see `with_laws`."""

    hooks = HOOKS

    def __init__(self, card: ModelCard, network: LesionUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, LesionCard.of(card), device
        self.laws = frozenset(LAWS)
        self.network = in_channels_last(network.to(device).eval())
        self.evaluate = Evaluator(self.network)
        self.window = HUWindow(*card.window_hu)
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> LesionInpainting:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        section = LesionCard.of(installed.card)
        network = LesionUNet(LesionUNetConfig(len(section.attributes), **section.network.model_dump()))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    def with_laws(self, laws: Collection[str]) -> LesionInpainting:
        """The same network, where only these laws act. InvalidRequest for one that is not known."""
        other = copy(self)
        other.laws = frozenset(choose_laws(laws))
        return other

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: SynthesisRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, as one batch. See `synthesize.Model`."""
        if rois.own is None:
            return self._fill(rois, request, seeds, on_step, on_estimate)

        def fill(rois: RoiBatch, seeds: Sequence[int], on_step: OnStep) -> Sampled:
            return self._fill(rois, request, seeds, on_step, on_estimate)

        steps = Steps(request.steps, len(join_timesteps(self.schedule, request.steps)))
        return join_donors(fill, rois, seeds, steps, on_step)

    def _fill(
        self,
        rois: RoiBatch,
        request: SynthesisRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None,
    ) -> Sampled:
        items = rois.items(seeds)
        job = _InpaintingJob(self, rois, request, items, (on_step, on_estimate))
        run = OutOfMemoryFallback(self.evaluate, self.device).run(range(len(items)), job.sample)
        shape = (len(seeds), *rois.reference_hu.shape)
        hu = run.results.numpy().reshape(shape)
        dense = job.drawn.dense.reshape(shape) if job.drawn.dense.any() else None
        return Sampled(hu, run.where, run.remarks, dense)


class _InpaintingJob:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: LesionInpainting,
        rois: RoiBatch,
        request: SynthesisRequest,
        items: list[tuple[int, int]],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> None:
        self.model, self.rois, self.request, self.items = model, rois, request, items
        visited = lesion_timesteps if rois.own is None else join_timesteps
        self.timesteps = visited(model.schedule, request.steps)
        self.watch = SamplingWatch(*watched, len(items), len(self.timesteps))
        self.scene = Scene(
            model.section, model.window, model.schedule, request, rois, choose_laws(model.laws)
        )
        self.drawn = Drawn.stack([self.scene.draw(*item) for item in items])
        self.editable = np.stack(
            [
                self._editable(lesion, dense)
                for (_, lesion), dense in zip(items, self.drawn.dense, strict=True)
            ]
        )
        self.attributes = torch.from_numpy(as_input(self.scene.wish.vector(model.section.attributes)))

    def sample(self, part: Sequence[int], device: torch.device) -> Tensor:
        """(B, Z, Y, X) HU, on the CPU, of the chosen items (seed, lesion)."""
        model, chosen = self.model, [self.items[k] for k in part]
        lesions = [lesion for _, lesion in chosen]
        image = as_batch(model.window.to_unit(self.rois.reference_hu), lesions, device)
        editable = as_batch(self.editable, part, device)
        generators = lesion_generators(self.rois, chosen)
        noise = draw_noise(image.shape, generators, device, torch.float32)
        keep = keep_known(image, editable, model.schedule, generators)
        held = LesionBatch(
            self.scene, chosen, self.drawn.of(part), self.editable[list(part)], torch.device(device)
        )
        denoise = held.hold(self._denoiser(self._conditions(image, editable, part, lesions)))
        watched = self.watch.over(
            denoise, part, lambda x_0: self._show(torch.lerp(image[0], x_0[0], editable[0]))
        )
        x = self._start(noise, lesions)
        sampler = self._sampler()
        x_0 = sampler(watched, x, model.schedule, self.timesteps, generator=generators, after_step=[keep])
        return torch.from_numpy(held.finish(model.window.from_unit(x_0[:, 0].cpu().numpy())))

    def _show(self, unit: Tensor) -> np.ndarray:
        """(1, Z, Y, X) in [-1, 1] to (Z, Y, X) HU."""
        return self.model.window.from_unit(unit[0].cpu().numpy())

    def _start(self, noise: Tensor, lesions: list[int]) -> Tensor:
        """Noise alone, or with a donor under it."""
        if self.rois.own is None:
            return noise
        donors = as_batch(self.model.window.to_unit(self.rois.own[0]), lesions, noise.device)
        return start_from(donors, noise, self.model.schedule, self.timesteps)

    def _sampler(self) -> Callable[..., Tensor]:
        if (name := self.request.sampler_used) != "ddpm":
            return SAMPLERS[name]
        section = self.model.section
        grain = section.temperature if section.grain_temperature is None else section.grain_temperature
        return partial(ddpm, temperature=lambda q: grain if q < GRAIN_BELOW_RATIO else section.temperature)

    def _conditions(self, image: Tensor, editable: Tensor, part: Sequence[int], lesions: list[int]) -> Tensor:
        """(B, 3, Z, Y, X): visible context (0 where unknown), visibility, lesion mask."""
        visible = as_batch(self.rois.inside, lesions, image.device) * (1 - editable)
        mask = as_batch(self.drawn.mask, part, image.device)
        return torch.cat((image * visible, visible, mask), dim=1)

    def _editable(self, lesion: int, dense: np.ndarray) -> np.ndarray:
        """Bool: the margin, and around what was drawn beyond it."""
        near = ramp(dense > 0, self.rois.spacing_mm, AROUND_DRAWN_MM) > 0
        return self.rois.editable[lesion] | (near & self.scene.reachable(lesion))

    def _denoiser(self, conditions: Tensor) -> Denoiser:
        device = conditions.device
        given = self._conditional(conditions, self.attributes.to(device))
        only_lesion = torch.zeros_like(self.attributes)
        half = len(only_lesion) // 2
        only_lesion[[0, half]] = self.attributes[[0, half]]
        open_ = self._conditional(conditions, only_lesion.to(device))
        return classifier_free(given, open_, self.request.guidance)

    def _conditional(self, conditions: Tensor, attributes: Tensor) -> Denoiser:
        model, schedule = self.model, self.model.schedule

        def denoise(x: Tensor, t: int) -> Tensor:
            def predict(inputs: Tensor) -> Tensor:
                alpha, sigma = (
                    inputs.new_full((len(inputs),), v) for v in (schedule.alpha(t), schedule.sigma(t))
                )
                rows = attributes.expand(len(inputs), -1)
                return model.evaluate(inputs[:, :1], alpha, sigma, inputs[:, 1:], rows)

            return in_tiles(predict, torch.cat((x, conditions), dim=1), model.card.roi_voxels[-1])

        return denoise
