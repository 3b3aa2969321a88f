"""One request to Palette: its slices side by side through the sampler, and drawn again where a spot grew.

The slices of a lesion agree for two reasons: their noise is smooth along z, and while there is much of it,
estimates of x_0 are averaged over neighbours, the known slices beyond the lesion among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.samplers import SAMPLERS, draw_noise
from lesionbrush.systems.palette.filler import Holes
from lesionbrush.systems.palette.fills import fill_number
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.palette.scale import AIR_HU
from lesionbrush.systems.palette.spots import UnwantedSpot, find_spot
from lesionbrush.systems.running import RunResult, SamplingWatch, mix_seed, visited_timesteps
from lesionbrush.systems.slab import MadeSlices, SliceNoise, calm

if TYPE_CHECKING:
    from lesionbrush.systems.palette.model import Palette

MOST_DRAWS = 3
"""Of a fill with a spot that nobody asked for; then it is told."""


class FillingJob:
    """What stays the same over the parts of a batch that had to be split. rois: with `own`, mm from slice to
    slice; items: (seed, lesion)."""

    def __init__(
        self,
        model: Palette,
        rois: RoiBatch,
        request: PaletteRequest,
        items: list[tuple[int, int]],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> None:
        self.model, self.rois, self.request, self.items, self.watched = model, rois, request, items, watched
        self.timesteps = visited_timesteps(model.filler.schedule, request.steps)
        unit = model.scale.to_unit(np.where(rois.inside, rois.reference_hu, AIR_HU).astype(np.float32))
        self.slices = MadeSlices.of(unit, rois.editable, float(rois.own), model.agreement)

    def sample(self, part: Sequence[int], device: torch.device, draw: int = 0) -> Tensor:
        """(B, Z, Y, X) in units, on the CPU, of the chosen items. draw: which of several draws it is."""
        lesions = [self.items[k][1] for k in part]
        noise = self._noise_of(part, draw)
        holes = self._holes(lesions, noise, device)
        start = draw_noise(holes.image.shape, noise, device, torch.float32)
        x = holes.put(calm(start, self.model.section.coarse_noise))
        fill, schedule = self.model.filler.denoiser(holes), self.model.filler.schedule
        tell = self._watch(draw).part(part, lambda x_0: self._show(x_0, lesions))

        def denoise(x: Tensor, t: int) -> Tensor:
            x_0 = holes.put(self.slices.agree(fill(x, t), lesions, schedule.sigma(t) / schedule.alpha(t)))
            tell(x_0)
            return x_0

        sampler = SAMPLERS[self.request.sampler]
        hooks = [holes.keep_clean()]
        made = sampler(denoise, x, schedule, self.timesteps, generator=noise, after_step=hooks)
        return self.slices.put_back(made, lesions)

    def _noise_of(self, part: Sequence[int], draw: int) -> SliceNoise:
        seeds = [mix_seed(*self.rois.entropy(*self.items[k])) for k in part]
        return self.slices.noise([mix_seed(seed, draw) if draw else seed for seed in seeds])

    def _holes(self, lesions: list[int], noise: SliceNoise, device: torch.device) -> Holes:
        image = self.slices.lay_out(self.slices.unit, lesions, device)
        inside = self.slices.lay_out(self.rois.editable, lesions, device) > 0
        veil = draw_noise(image.shape, noise, device, torch.float32)
        fill = torch.full((len(image),), fill_number(self.request.fill), device=device)
        return Holes.of(image, inside, veil, fill)

    def _watch(self, draw: int) -> SamplingWatch:
        """Further draws were not counted on: all the work is done, and may still be cancelled."""
        on_step, on_estimate = self.watched
        total = len(self.items) * len(self.timesteps)
        tell = on_step if draw == 0 else (lambda done, of: on_step(total, total))
        return SamplingWatch(tell, on_estimate, len(self.items), len(self.timesteps))

    def _show(self, estimate: Tensor, lesions: list[int]) -> np.ndarray:
        return self.model.scale.from_unit(self.slices.put_back(estimate, lesions)[0].numpy())


def draw_again(job: FillingJob, run: RunResult) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N, Z, Y, X) in units, and remarks: a fill with a spot is drawn again, and told when it keeps one."""
    unit, remarks = run.results.numpy().copy(), []
    for number, (seed, lesion) in enumerate(job.items):
        draws, spot = 1, _spot_in(job, unit[number], lesion)
        while spot is not None and draws < MOST_DRAWS:
            unit[number] = job.sample([number], run.device, draws)[0].numpy()
            draws, spot = draws + 1, _spot_in(job, unit[number], lesion)
        if draws > 1:
            remarks.append(_remark(job, seed, draws, spot))
    return unit, tuple(dict.fromkeys(remarks))


def _spot_in(job: FillingJob, unit: np.ndarray, lesion: int) -> UnwantedSpot | None:
    inside = job.rois.mask[lesion] > 0.5
    return find_spot(job.model.scale.from_unit(unit), inside, job.rois.spacing_mm)


def _remark(job: FillingJob, seed: int, draws: int, spot: UnwantedSpot | None) -> str:
    asked = job.request.fill
    if spot is None:
        return f"seed {seed}: drawn {draws} times, for in what was to be {asked} a spot grew at first"
    return (
        f"seed {seed}: in what was to be {asked} a spot is left that nobody asked for, {spot}, after {draws} "
        "draws: look at it, or choose another seed"
    )
