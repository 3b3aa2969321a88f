"""Removal with a donor: healthy lung of the same CT in the lesion's place, joined to its surroundings.

The donor's middle is known tissue to the network, like the context; what it makes is the shell between the
two, starting from the donor with some noise (SDEdit, Meng et al. 2022, arXiv:2108.01073), so that vessels
that end on both sides are joined. Without noise in the middle, the grain there is the CT's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter
from torch import Tensor

from lesionbrush.core.model import OnStep
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.schedules import NoiseSchedule, timesteps
from lesionbrush.systems.lesion_inpainting.donors import DENSE_HU
from lesionbrush.systems.running import visited_timesteps

SHELL_MM = 3.0
"""So deep below the surface of the edit region the network joins the donor to its surroundings."""
JOIN_RATIO = 0.3
"""Noise (sigma/alpha) that is added to the donor there: with more, its vessels are forgotten."""
NEAR_MM, SLACK_HU = 2.0, 20.0
BLEND_MM = 1.5
"""At this depth below the edit region's surface nothing of the lesion's blurred rim is left."""


Fill = Callable[[RoiBatch, Sequence[int], OnStep], Sampled]
"""Fills ROIs for some seeds. With donors as `RoiBatch.own`, from the donor of each ROI on."""


class Steps(NamedTuple):
    """Of one item: when a model starts from noise alone, and when it joins a donor."""

    alone: int
    join: int


def join_donors(fill: Fill, rois: RoiBatch, seeds: Sequence[int], steps: Steps, on_step: OnStep) -> Sampled:
    """For each seed its donors, joined to their surroundings; what has no donor is filled from noise.

    rois: with donors (V, L, Z, Y, X), HU, as `own`; NaN where a ROI has none.
    """
    assert rois.own is not None
    missing = np.isnan(rois.own).any(axis=(2, 3, 4))
    some = [variant for variant in range(len(seeds)) if not missing[variant].all()]
    total = missing.size * steps.alone * missing.any() + len(some) * missing.shape[1] * steps.join
    parts, done = [], 0

    def tell(count: int, _: int) -> None:
        on_step(done + count, int(total))

    hu = np.broadcast_to(rois.reference_hu, rois.own.shape).copy()
    if missing.any():
        parts.append(fill(replace(rois, own=None), seeds, tell))
        hu, done = parts[0].hu.copy(), missing.size * steps.alone
    drawn = np.zeros_like(hu)
    for variant in some:
        has, donors = ~missing[variant], rois.own[variant]
        given = np.where(np.isnan(donors), rois.reference_hu, donors)
        known = open_shell(rois, donors)
        made = fill(replace(known, own=given[None]), [seeds[variant]], tell)
        hu[variant, has] = bound(made.hu[0], known, given)[has]
        drawn[variant, has] = count_donors(rois, donors)[has]
        done += missing.shape[1] * steps.join
        parts.append(made)
    remarks = tuple(dict.fromkeys(remark for part in parts for remark in part.remarks))
    return Sampled(hu, parts[-1].device, remarks, drawn)


def start_from(donor: Tensor, noise: Tensor, schedule: NoiseSchedule, visited: Tensor) -> Tensor:
    """The donor at the noise level of the first timestep. donor, noise: (B, 1, Z, Y, X)."""
    first = int(visited[0])
    return schedule.alpha(first) * donor + schedule.sigma(first) * noise


def join_timesteps(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Half the steps asked for, from `JOIN_RATIO` on: what is left to do is less than half.

    InvalidRequest when more are asked for than the model has noise levels.
    """
    visited_timesteps(schedule, steps)
    alphas_bar = schedule.alphas_bar
    start = int((((1 - alphas_bar) / alphas_bar).sqrt() <= JOIN_RATIO).sum()) - 1
    return timesteps(schedule, min((steps + 1) // 2, start + 1), t_start=start)


def open_shell(rois: RoiBatch, donor_hu: np.ndarray) -> RoiBatch:
    """The ROIs with the donors' middle as known tissue.

    donor_hu: (L, Z, Y, X); where it is NaN, a ROI stays as it is.
    """
    shell = rois.editable & ((_depth_mm(rois) <= SHELL_MM) | np.isnan(donor_hu))
    hu = np.where(rois.editable & ~shell, donor_hu, rois.reference_hu)
    return replace(rois, reference_hu=hu.astype(np.float32), editable=shell, mask=rois.mask * shell)


def bound(hu: np.ndarray, known: RoiBatch, donor_hu: np.ndarray) -> np.ndarray:
    """(L, Z, Y, X): nothing made in the shell is outside the range of donor and known tissue around it.

    hu, donor_hu: (L, Z, Y, X).

    Where no lung is near, the donor stays as it is: a network of lung makes calcium of chest wall.
    """
    pieced = np.where(known.editable, donor_hu, known.reference_hu)
    side = 2 * int(NEAR_MM / known.spacing_mm) + 1
    low, high = (extreme(pieced, (1, side, side, side)) for extreme in (minimum_filter, maximum_filter))
    made = np.clip(hu, low - SLACK_HU, high + SLACK_HU)
    return np.where(known.editable, np.where(low > DENSE_HU, donor_hu, made), hu)


def count_donors(rois: RoiBatch, donor_hu: np.ndarray) -> np.ndarray:
    """(L, Z, Y, X), 0..1: how much of a joined donor counts at least, so that the lesion's rim is gone.

    donor_hu: (L, Z, Y, X), NaN where a ROI has no donor.
    """
    return np.where(np.isnan(donor_hu), 0, np.clip(_depth_mm(rois) / BLEND_MM, 0, 1)).astype(np.float32)


def _depth_mm(rois: RoiBatch) -> np.ndarray:
    found = [distance_transform_edt(editable, sampling=rois.spacing_mm) for editable in rois.editable]
    return np.stack(found)
