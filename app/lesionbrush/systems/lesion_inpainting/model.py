"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask.

The voxels outside the edit region are known: the network sees them clean in one channel, and keep_known holds
the noisy image to them at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.registry import InstalledModel, ModelCard, NetworkShape
from lesionbrush.core.roi import ramp
from lesionbrush.core.synthesize import OnEstimate, OnStep, RoiBatch, Sampled
from lesionbrush.diffusion.denoisers import Denoiser, classifier_free
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import SAMPLERS, ddpm, draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.errors import WeightsError
from lesionbrush.systems.devices import OutOfMemoryFallback, device_name, half_precision, pick_device
from lesionbrush.systems.lesion_inpainting.attributes import as_input
from lesionbrush.systems.lesion_inpainting.laws.holding import Holding
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.removal import Steps, join_timesteps, joined, started
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import (
    AROUND_DRAWN_MM,
    Drawn,
    Rim,
    ball_radius_mm,
    drawn,
    drawn_shape,
    moved,
)
from lesionbrush.systems.seeding import lesion_generators
from lesionbrush.systems.steps import lesion_timesteps
from lesionbrush.systems.tiles import in_tiles

GRAIN_BELOW_RATIO = 0.05
"""Less noise than this (sigma/alpha), and what is left to be made is grain."""


class LesionInpainting:
    """A trained network ready to fill ROIs."""

    def __init__(self, card: ModelCard, network: LesionUNet, device: torch.device) -> None:
        self.card, self.device = card, device
        network = network.to(device).eval()
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.window = HUWindow(*card.window_hu)
        self.schedule = SCHEDULES[card.schedule]()

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> LesionInpainting:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        card = installed.card
        if not isinstance(card.network, NetworkShape):
            raise WeightsError(f"the card of {card.name!r} describes a network of another system")
        network = LesionUNet(LesionUNetConfig(len(card.attributes), **card.network.model_dump()))
        try:
            network.load_state_dict(load_file(installed.weights))
        except (RuntimeError, OSError, SafetensorError) as error:
            raise WeightsError(f"the weights of {card.name!r} do not fit its network: {error}") from error
        return cls(card, network, pick_device(device))

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
        if rois.donor_hu is None:
            return self._filled(rois, request, seeds, on_step, on_estimate)

        def fill(rois: RoiBatch, seeds: Sequence[int], on_step: OnStep) -> Sampled:
            return self._filled(rois, request, seeds, on_step, on_estimate)

        steps = Steps(request.steps, len(join_timesteps(self.schedule, request.steps)))
        return joined(fill, rois, seeds, steps, on_step)

    def _filled(
        self,
        rois: RoiBatch,
        request: SynthesisRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None,
    ) -> Sampled:
        lesions = len(rois.reference_hu)
        items = [(seed, k) for seed in seeds for k in range(lesions)]
        job = _Job(self, rois, request, items, _Watch(on_step, on_estimate))
        run = OutOfMemoryFallback(self.network, self.device).run(range(len(job.items)), job.sample)
        shape = (len(seeds), *rois.reference_hu.shape)
        hu = job.calcified(self.window.from_unit(run.results.cpu().numpy())).reshape(shape)
        dense = job.drawn.dense.reshape(shape) if job.drawn.dense.any() else None
        return Sampled(hu, device_name(run.device), run.remarks, dense)


class _Watch(NamedTuple):
    """Who is told of each step."""

    on_step: OnStep
    on_estimate: OnEstimate | None


class _Job:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: LesionInpainting,
        rois: RoiBatch,
        request: SynthesisRequest,
        items: list[tuple[int, int]],
        watch: _Watch,
    ) -> None:
        self.model, self.rois, self.request, self.items, self.watch = model, rois, request, items, watch
        visited = lesion_timesteps if rois.donor_hu is None else join_timesteps
        self.timesteps = visited(model.schedule, request.steps)
        self.outlines = self._outlines()
        self.drawn = Drawn.stacked([self._drawn(seed, lesion) for seed, lesion in items])
        self.editable = np.stack(
            [
                self._editable(lesion, dense)
                for (_, lesion), dense in zip(items, self.drawn.dense, strict=True)
            ]
        )
        whole = self._holding(range(len(items)), torch.device("cpu"))
        self.attributes = torch.from_numpy(as_input(whole.wish.vector(model.card.attributes)))
        self.calcified = whole.calcified

    def sample(self, part: Sequence[int], device: torch.device) -> Tensor:
        """(B, Z, Y, X) in [-1, 1] for the chosen items (seed, lesion)."""
        schedule, chosen = self.model.schedule, [self.items[k] for k in part]
        lesions = [lesion for _, lesion in chosen]
        image = self._tensor(self.model.window.to_unit(self.rois.reference_hu), lesions, device)
        editable = self._tensor(self.editable, list(part), device)
        generators = lesion_generators(self.rois, chosen)
        noise = draw_noise(image.shape, generators, device, torch.float32)
        hooks = [keep_known(image, editable, schedule, generators), self._progress(part)]
        denoise = self._denoiser(self._conditions(image, editable, part, lesions), part, lesions)
        if part[0] == 0:
            denoise = self._shown(denoise, image, editable)
        sampler = self._sampler()
        x = self._start(noise, lesions)
        x_0 = sampler(denoise, x, schedule, self.timesteps, generator=generators, after_step=hooks)
        return x_0[:, 0]

    def _start(self, noise: Tensor, lesions: list[int]) -> Tensor:
        """Noise alone, or with a donor under it."""
        if self.rois.donor_hu is None:
            return noise
        unit = self.model.window.to_unit(self.rois.donor_hu[0])
        donors = self._tensor(unit, lesions, noise.device)
        return started(donors, noise, self.model.schedule, self.timesteps)

    def _sampler(self) -> Callable[..., Tensor]:
        if (name := self.request.sampler_used) != "ddpm":
            return SAMPLERS[name]
        card = self.model.card
        grain = card.temperature if card.grain_temperature is None else card.grain_temperature
        return partial(ddpm, temperature=lambda q: grain if q < GRAIN_BELOW_RATIO else card.temperature)

    def _tensor(self, array: np.ndarray, lesions: list[int], device: torch.device) -> Tensor:
        return torch.from_numpy(array[lesions].astype(np.float32))[:, None].to(device)

    def _conditions(self, image: Tensor, editable: Tensor, part: Sequence[int], lesions: list[int]) -> Tensor:
        """(B, 3, Z, Y, X): visible context (0 where unknown), visibility, lesion mask."""
        visible = self._tensor(self.rois.inside, lesions, image.device) * (1 - editable)
        mask = self._tensor(self.drawn.mask, list(part), image.device)
        return torch.cat((image * visible, visible, mask), dim=1)

    def _outlines(self) -> np.ndarray:
        """(L, Z, Y, X): the masks, so much narrower or wider as the card says that lesions come out right."""
        rois, card = self.rois, self.model.card
        if self.request.attributes.lesion == "none" or rois.slice_mm is None:
            return rois.mask
        rim = Rim(rois.slice_mm, card.outline_of_blur, card.outline_if_sharp_mm)
        radii_mm = [ball_radius_mm(known, rois.spacing_mm) for known in rois.mask * rois.inside]
        pairs = zip(rois.mask, radii_mm, strict=True)
        return np.stack([moved(mask, rois.spacing_mm, rim.outwards_mm(mm)) for mask, mm in pairs])

    def _drawn(self, seed: int, lesion: int) -> Drawn:
        """What the network is to fill: the painted mask, with the lobes and spicules that were asked for."""
        rois, rng = self.rois, np.random.default_rng(self.rois.entropy(seed, lesion))
        shape = drawn_shape(self.request)
        return drawn(self.outlines[lesion], self._reachable(lesion), rois.spacing_mm, shape, rng)

    def _reachable(self, lesion: int) -> np.ndarray:
        rois = self.rois
        return rois.editable[lesion] if rois.reachable is None else rois.reachable[lesion]

    def _editable(self, lesion: int, dense: np.ndarray) -> np.ndarray:
        """Bool: the margin, and around what was drawn beyond it."""
        near = ramp(dense > 0, self.rois.spacing_mm, AROUND_DRAWN_MM) > 0
        return self.rois.editable[lesion] | (near & self._reachable(lesion))

    def _denoiser(self, conditions: Tensor, part: Sequence[int], lesions: list[int]) -> Denoiser:
        device = conditions.device
        given = self._conditional(conditions, self.attributes.to(device))
        only_lesion = torch.zeros_like(self.attributes)
        half = len(only_lesion) // 2
        only_lesion[[0, half]] = self.attributes[[0, half]]
        open_ = self._conditional(conditions, only_lesion.to(device))
        guided = classifier_free(given, open_, self.request.guidance)
        return self._holding(part, device).on(guided)

    def _holding(self, part: Sequence[int], device: torch.device) -> Holding:
        model, chosen = self.model, list(part)
        return Holding(
            model.card,
            self.request,
            self.rois,
            [self.items[k] for k in chosen],
            self.outlines,
            self.drawn.of(chosen),
            self.editable[chosen],
            model.schedule,
            device,
        )

    def _conditional(self, conditions: Tensor, attributes: Tensor) -> Denoiser:
        model, schedule = self.model, self.model.schedule

        def denoise(x: Tensor, t: int) -> Tensor:
            def predict(inputs: Tensor) -> Tensor:
                alpha, sigma = (
                    inputs.new_full((len(inputs),), v) for v in (schedule.alpha(t), schedule.sigma(t))
                )
                rows = attributes.expand(len(inputs), -1)
                with half_precision(inputs.device):
                    return model.network(inputs[:, :1], alpha, sigma, inputs[:, 1:], rows)

            return in_tiles(predict, torch.cat((x, conditions), dim=1), model.card.roi_voxels[-1])

        return denoise

    def _shown(self, denoise: Denoiser, image: Tensor, editable: Tensor) -> Denoiser:
        """The same denoiser; each estimate of its first item is shown, with the known tissue around it."""
        show = self.watch.on_estimate
        if show is None:
            return denoise

        def shown(x: Tensor, t: int) -> Tensor:
            x_0 = denoise(x, t)
            estimate = torch.lerp(image[0, 0], x_0[0, 0], editable[0, 0])
            show(self.model.window.from_unit(estimate.cpu().numpy()))
            return x_0

        return shown

    def _progress(self, part: Sequence[int]) -> Callable[[Tensor, int | None, int], Tensor]:
        """Counts steps over all parts of the batch, and lets the caller cancel by raising."""
        before, size, total = part[0], len(part), len(self.items) * len(self.timesteps)

        def hook(x: Tensor, t_next: int | None, step: int) -> Tensor:
            self.watch.on_step(before * len(self.timesteps) + (step + 1) * size, total)
            return x

        return hook
