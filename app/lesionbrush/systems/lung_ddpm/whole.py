"""Lung-DDPM (Jiang et al. 2025, arXiv:2502.15204): both lungs at 128³ from a layout of lungs and nodule.

Anatomically aware sampling holds the image to the reference wherever it must not change, noised to the level
of each step (Eqs. 5, 6). `as_published` samples like the released code instead: see `ReleasedBlend`.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from lesionbrush.core.model import EditHooks
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import SAMPLERS, ddpm
from lesionbrush.diffusion.schedules import FixedVariance, timesteps
from lesionbrush.errors import InvalidRequest, NoLungs
from lesionbrush.systems.lung_ddpm.anatomy import ReleasedBlend
from lesionbrush.systems.lung_ddpm.hooks import WHOLE
from lesionbrush.systems.lung_ddpm.layout import lung_layout, threshold
from lesionbrush.systems.lung_ddpm.model import CLIP, Item, LayoutDiffusion, require_nodule
from lesionbrush.systems.lung_ddpm.request import LungDDPMRequest
from lesionbrush.systems.running import visited_timesteps


class LungDDPM(LayoutDiffusion):
    """The whole field at once, so that a nodule fits its lungs."""

    hooks: ClassVar[EditHooks] = WHOLE
    labels: ClassVar[int] = 2
    at_once_on_cpu: ClassVar[int] = 1

    def layout(self, rois: RoiBatch, lesion: int) -> tuple[np.ndarray, np.ndarray]:
        """Raises NoLungs, and InvalidRequest for a layout without a nodule."""
        if rois.own is None or rois.own[lesion].max() < 0.5:
            raise NoLungs("the layout has no lung on the model's grid: send lungs, or leave them out")
        nodule = threshold(rois.mask[lesion])
        require_nodule(nodule)
        lungs = rois.own[lesion] >= 0.5
        return lung_layout(lungs, nodule), lungs | nodule

    @property
    def variance(self) -> FixedVariance:
        """As the card says; the paper writes beta (Eq. 4), the released code draws with the posterior's."""
        return "fixed_large" if self.section.network.variance == "fixed_large" else "fixed_small"

    def evaluations(self, request: object) -> int:
        assert isinstance(request, LungDDPMRequest)
        return len(self._timesteps(request))

    def draw(self, item: Item, request: object) -> Tensor:
        assert isinstance(request, LungDDPMRequest)
        times = self._timesteps(request)

        def denoise(x: Tensor, t: int) -> Tensor:
            level = (self.schedule.alpha(t), self.schedule.sigma(t), t)
            x_0 = self.estimate(item, x, level).clamp(*CLIP)
            item.watch(x_0)
            return x_0

        generators = item.generators
        if request.as_published:
            blend = ReleasedBlend(item.image, item.inside, self.schedule, generators, times.tolist())
            return ddpm(denoise, item.noise, self.schedule, times, generator=generators, after_step=[blend])
        keep = keep_known(item.image, item.editable, self.schedule, generators)
        sampler = SAMPLERS[request.sampler]
        if request.sampler == "ddpm":
            sampler = partial(ddpm, temperature=self.section.temperature, variance=self.variance)
        return sampler(denoise, item.noise, self.schedule, times, generator=generators, after_step=[keep])

    def _timesteps(self, request: LungDDPMRequest) -> Tensor:
        """The noise levels a request visits. InvalidRequest when it wants more than there are."""
        if not request.as_published:
            return visited_timesteps(self.schedule, request.steps)
        if request.steps > self.schedule.T:
            raise InvalidRequest(f"steps: this model has {self.schedule.T} noise levels, got {request.steps}")
        return timesteps(self.schedule, request.steps, "uniform")
