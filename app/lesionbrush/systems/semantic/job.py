"""One request to semantic CT: its slices side by side through the sampler, what is known held around them.

The network knows whole slices at a noise level, so what is known is noised to the level (`keep_known`). The
slices agree for two reasons: their noise is smooth along z, and while there is much of it, estimates of x_0
are averaged over neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUScale
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import draw_noise
from lesionbrush.systems.running import SamplingWatch, mix_seed, visited_timesteps
from lesionbrush.systems.semantic.card import SemanticCard
from lesionbrush.systems.semantic.diffusion import SemanticDiffusion, Walk, show
from lesionbrush.systems.semantic.hooks import LaidOut
from lesionbrush.systems.semantic.painting import paint
from lesionbrush.systems.semantic.request import Sampler
from lesionbrush.systems.slab import Agreement, MadeSlices, calm

AIR_HU = -1000.0


class Wish(Protocol):
    """Of a request to edit, or to make a whole CT."""

    @property
    def steps(self) -> int: ...
    @property
    def sampler(self) -> Sampler: ...
    @property
    def strength(self) -> float: ...


class SliceMaker(Protocol):
    """A network that is ready to run, as a job needs it."""

    diffusion: SemanticDiffusion
    scale: HUScale
    agreement: Agreement
    section: SemanticCard


class LayoutJob:
    """What stays the same over the parts of a batch that had to be split. rois: with `LaidOut`, its classes
    those that the network knows; items: (seed, lesion)."""

    def __init__(
        self,
        model: SliceMaker,
        rois: RoiBatch,
        request: Wish,
        items: list[tuple[int, int]],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> None:
        self.model, self.rois, self.request, self.items = model, rois, request, items
        self.timesteps = visited_timesteps(model.diffusion.schedule, request.steps)
        self.watch = SamplingWatch(*watched, len(items), len(self.timesteps))
        unit = model.scale.to_unit(np.where(rois.inside, rois.reference_hu, AIR_HU).astype(np.float32))
        painted_hu = paint(self.laid_out.labels, model.section.class_hu, self.laid_out.own_hu)
        self.painted = model.scale.to_unit(painted_hu)
        self.slices = MadeSlices.of(unit, rois.editable, self.laid_out.slice_mm, model.agreement)

    @property
    def laid_out(self) -> LaidOut:
        assert isinstance(self.rois.own, LaidOut)
        return self.rois.own

    def sample(self, part: Sequence[int], device: torch.device) -> Tensor:
        """(B, Z, Y, X) in units, on the CPU, of the chosen items."""
        lesions = [self.items[k][1] for k in part]
        diffusion, section = self.model.diffusion, self.model.section
        above = math.inf if section.painted_above is None else section.painted_above
        noise = self.slices.noise([mix_seed(*self.rois.entropy(*self.items[k])) for k in part])
        image = self.slices.lay_out(self.slices.unit, lesions, device)
        inside = self.slices.lay_out(self.rois.editable, lesions, device) > 0
        told = diffusion.denoiser(self._conditions(lesions, device), self.request.strength)
        painted = self.slices.lay_out(self.painted, lesions, device)
        tell = self.watch.part(part, lambda x_0: self._show(x_0, lesions))

        def denoise(x: Tensor, t: int) -> Tensor:
            ratio = diffusion.schedule.sigma(t) / diffusion.schedule.alpha(t)
            x_0 = told(x, t)
            if ratio > above:
                x_0 = torch.where(painted.isnan(), x_0, painted)
            x_0 = torch.where(inside, self.slices.agree(x_0, lesions, ratio), image)
            tell(x_0)
            return x_0

        x = calm(draw_noise(image.shape, noise, device, torch.float32), section.coarse_noise)
        hold = keep_known(image, inside.to(image), diffusion.schedule, noise)
        made = diffusion.sample(self.request.sampler, denoise, Walk(x, self.timesteps, noise, (hold,)))
        return self.slices.put_back(made, lesions)

    def _conditions(self, lesions: list[int], device: torch.device) -> Tensor:
        """(B Z, C, Y, X), of the slices that are made."""
        labels = self.laid_out.labels[lesions][:, self.slices.depth]
        shown = show(labels.reshape(-1, *labels.shape[2:]), self.model.diffusion.config)
        return torch.from_numpy(shown).to(device)

    def _show(self, estimate: Tensor, lesions: list[int]) -> np.ndarray:
        return self.model.scale.from_unit(self.slices.put_back(estimate, lesions)[0].numpy())
