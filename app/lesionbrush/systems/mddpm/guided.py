"""Multi-condition guidance (mDDPM, Krishna et al. 2025, Algorithm 1) of any unconditional model, in 2D or 3D.

What differs between the two is how a batch of ROIs is laid out for the network, and whose noise is drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.guidance import LowPassGuide, keep_known, match_low_pass
from lesionbrush.diffusion.samplers import Generators, Hook, draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.contract import DiffusionCard
from lesionbrush.systems.mddpm.guidance_images import GuidanceImage, guidance_images, remarks_on
from lesionbrush.systems.mddpm.hooks import HOOKS
from lesionbrush.systems.mddpm.request import MDDPMRequest, SharedBands
from lesionbrush.systems.running import (
    OutOfMemoryFallback,
    SamplingWatch,
    as_batch,
    lesion_generators,
    visited_timesteps,
)

GUIDE_TO_THE_END = -1.0
MOST_UNIT = 2.0
"""In [-1, 1] a sample is CT; a little beyond it is noise, which is cut off."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a sampling begins: noise, the timesteps, and what draws the noise of the steps.

    watch: to be called with every estimate of x_0.
    """

    noise: Tensor
    timesteps: Tensor
    generators: Generators
    watch: Callable[[Tensor], None]


class GuidedDiffusion(ABC):
    """A network ready to fill ROIs along guidance images. `slices`: does it see (Y, X) slices, not boxes?"""

    slices: ClassVar[bool]
    section: DiffusionCard
    hooks = HOOKS

    def __init__(self, card: ModelCard, network: nn.Module, device: torch.device) -> None:
        self.card, self.device = card, device
        self.network = network.to(device).eval()
        self.evaluate = Evaluator(self.network)
        self.window = HUWindow(*card.window_hu)
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @abstractmethod
    def draw(self, start: Start, after_step: Sequence[Hook]) -> Tensor:
        """x_0 from noise, in the layout of the noise, with hooks for known tissue and guides."""

    @abstractmethod
    def noise_of(self, generators: list[torch.Generator], depth: int) -> Generators:
        """What draws noise for a batch of ROIs `depth` slices deep."""

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: MDDPMRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, as one batch. See `synthesize.Model`. InvalidRequest."""
        images = guidance_images(rois, request, (2, 3) if self.slices else (1, 2, 3))
        items = rois.items(seeds)
        watch = SamplingWatch(on_step, on_estimate, len(items), request.steps)
        job = _GuidedJob(self, rois, Guidance(images, request.shared_bands), items, watch)
        times = visited_timesteps(self.schedule, request.steps)
        run = OutOfMemoryFallback(self.evaluate, self.device).run(
            range(len(items)), lambda part, device: job.sample(part, device, times)
        )
        unit = run.results.reshape(len(seeds), *rois.reference_hu.shape).cpu().numpy()
        require_calm(unit)
        remarks = (*run.remarks, *remarks_on(rois, request, images))
        return Sampled(self.window.from_unit(unit), run.where, remarks)


def require_calm(unit: np.ndarray) -> None:
    """InvalidRequest for a sample that left the range of CT: overshooting corrections may grow."""
    if not np.abs(unit).max() <= MOST_UNIT:
        raise InvalidRequest(
            "the guides drove the sample out of the range of CT: use shared_bands 'mean', fewer guides, or "
            "let them stop earlier"
        )


class Guidance(NamedTuple):
    """What is followed, and how: see `match_low_pass`."""

    images: list[GuidanceImage]
    shared_bands: SharedBands


class _GuidedJob:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: GuidedDiffusion,
        rois: RoiBatch,
        guidance: Guidance,
        items: list[tuple[int, int]],
        watch: SamplingWatch,
    ) -> None:
        self.model, self.rois, self.guidance, self.items, self.watch = model, rois, guidance, items, watch
        touched = np.flatnonzero(rois.editable.any(axis=(0, 2, 3)))
        whole = slice(0, rois.editable.shape[1])
        self.depth = slice(int(touched[0]), int(touched[-1]) + 1) if model.slices else whole
        """The slices that are sampled."""

    def sample(self, part: Sequence[int], device: torch.device, timesteps: Tensor) -> Tensor:
        """(B, Z, Y, X) in [-1, 1] for the chosen items (seed, lesion)."""
        model, chosen = self.model, [self.items[k] for k in part]
        lesions = [lesion for _, lesion in chosen]
        image = self._lay_out(model.window.to_unit(self.rois.reference_hu), lesions, device)
        editable = self._lay_out(self.rois.editable, lesions, device)
        seeded = lesion_generators(self.rois, chosen)
        generators = model.noise_of(seeded, self.depth.stop - self.depth.start)
        noise = draw_noise(image.shape, generators, device, torch.float32)
        hooks = [
            match_low_pass(
                self._guides(lesions, device), model.schedule, generators, self.guidance.shared_bands
            ),
            keep_known(image, editable, model.schedule, generators),
        ]
        watch = self.watch.part(part, lambda x_0: self._compute_hu(torch.lerp(image, x_0, editable), lesions))
        made = model.draw(Start(noise, timesteps, generators, watch), hooks)
        return self._put_back(made, lesions)

    def _guides(self, lesions: list[int], device: torch.device) -> list[LowPassGuide]:
        schedule = self.model.schedule
        return [
            LowPassGuide(
                self._lay_out(self.model.window.to_unit(image.hu), lesions, device),
                image.guide.factor,
                image.guide.stop * schedule.T if image.guide.stop else GUIDE_TO_THE_END,
                None if image.where is None else self._lay_out(image.where, lesions, device),
            )
            for image in self.guidance.images
        ]

    def _lay_out(self, array: np.ndarray, lesions: list[int], device: torch.device) -> Tensor:
        """(L, Z, Y, X) to (B, 1, Z, Y, X), or for slices to (B Z, 1, Y, X)."""
        boxes = as_batch(array[:, self.depth], lesions, device)
        return boxes[:, 0].flatten(0, 1)[:, None] if self.model.slices else boxes

    def _put_back(self, made: Tensor, lesions: list[int]) -> Tensor:
        """(B, Z, Y, X), with the reference in the slices that were not sampled."""
        unit = self.model.window.to_unit(self.rois.reference_hu)
        whole = as_batch(unit, lesions, torch.device("cpu"))[:, 0]
        whole[:, self.depth] = made.reshape(whole[:, self.depth].shape).cpu()
        return whole

    def _compute_hu(self, estimate: Tensor, lesions: list[int]) -> np.ndarray:
        return self.model.window.from_unit(self._put_back(estimate, lesions)[0].numpy())
