"""Lung-DDPM+ (Jiang et al. 2025, arXiv:2508.09327): a cube around a nodule, from the nodule's mask.

As published, the reference is inverted to its noise, new noise put under the mask, and both sampled back with
DPM-Solver++: two evaluations of the network a step. Blended, the reference is held at each step's level
around what may change, which takes one, and keeps the surroundings exactly.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.samplers import SAMPLERS
from lesionbrush.systems.lung_ddpm.anatomy import (
    Level,
    inversion_start,
    multistep,
    threshold_dynamically,
    uniform_levels,
)
from lesionbrush.systems.lung_ddpm.layout import nodule_layout, threshold
from lesionbrush.systems.lung_ddpm.model import CLIP, Item, LayoutDiffusion, require_nodule
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest
from lesionbrush.systems.running import visited_timesteps


class LungDDPMPlus(LayoutDiffusion):
    """One cube per lesion."""

    labels: ClassVar[int] = 1

    def layout(self, rois: RoiBatch, lesion: int) -> tuple[np.ndarray, np.ndarray]:
        """Raises InvalidRequest for a layout without a nodule."""
        nodule = threshold(rois.mask[lesion])
        require_nodule(nodule)
        return nodule_layout(nodule), nodule

    def evaluations(self, request: object) -> int:
        assert isinstance(request, LungDDPMPlusRequest)
        return 2 * request.steps if request.start == "inversion" else request.steps

    def draw(self, item: Item, request: object) -> Tensor:
        assert isinstance(request, LungDDPMPlusRequest)
        return self._invert(item, request) if request.start == "inversion" else self._blend(item, request)

    def _blend(self, item: Item, request: LungDDPMPlusRequest) -> Tensor:
        def denoise(x: Tensor, t: int) -> Tensor:
            level = (self.schedule.alpha(t), self.schedule.sigma(t), t)
            x_0 = self.estimate(item, x, level).clamp(*CLIP)
            item.watch(x_0)
            return x_0

        times = visited_timesteps(self.schedule, request.steps)
        keep = keep_known(item.image, item.editable, self.schedule, item.generators)
        sampler = SAMPLERS[request.sampler]
        return sampler(
            denoise, item.noise, self.schedule, times, generator=item.generators, after_step=[keep]
        )

    def _invert(self, item: Item, request: LungDDPMPlusRequest) -> Tensor:
        """EAAS. The released code tells the network other times, and thresholds; see `anatomy`."""

        def denoise(x: Tensor, level: Level) -> Tensor:
            x_0 = self.estimate(item, x, (level.alpha, level.sigma, level.timestep))
            x_0 = threshold_dynamically(x_0) if request.as_published else x_0.clamp(*CLIP)
            item.watch(x_0)
            return x_0

        levels = uniform_levels(self.schedule, request.steps, as_released=request.as_published)
        inverted = multistep(denoise, item.image, levels[::-1])
        start = inversion_start(item.noise, inverted, item.nodule)
        return multistep(denoise, start, levels)
