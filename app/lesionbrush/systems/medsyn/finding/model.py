"""A finding put into the lungs of a CT: what a text makes of this chest that its opposite does not.

Both chests begin with the same noise and have the CT's own voxels outside the lungs, so that what they differ
in is what the text says, and a young network's faults are the same in both. Where they differ little, as in
emphysema, the CT is shifted by it, and keeps its vessels; where they differ much, as in fluid, what the text
makes takes the place of what was there. Arrays are (Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel
from lesionbrush.core.roi import axis_weights, resample, triangle
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.systems.medsyn.channels import CHANNELS, CT, WINDOW
from lesionbrush.systems.medsyn.field import ChestField
from lesionbrush.systems.medsyn.finding.hooks import HOOKS, AskedOfLungs
from lesionbrush.systems.medsyn.finding.topics import complete
from lesionbrush.systems.medsyn.held import HeldChannels
from lesionbrush.systems.medsyn.model import ChestJob, MedSyn, show_ct
from lesionbrush.systems.medsyn.request import FindingRequest
from lesionbrush.systems.running import SamplingWatch

LEAST_COVERED = 0.02
"""Of a voxel: with less lung it is held as the CT has it."""
DENSE_HU, NOISE_HU, SEEN_HU = 15.0, 20.0, (10.0, 30.0)
"""What lung becomes where it is replaced: fluid. Smaller differences are the network's noise. A shift is
nothing up to the first of the last two, and itself from the second on."""
LEAST_ML, LEAST_PART, EDGE_SHARE = 3.0, 0.15, 0.08
"""Of what is replaced: less is nothing, as are parts smaller than this share of the largest; and how soft its
border is, as a share of the largest difference."""
SMOOTH_SHARE = 0.02
"""Of the field: how far the difference is averaged."""
PARTS = ("hu", "kept", "shift")
"""Of `PutIn`."""


@dataclass(frozen=True, eq=False)
class ChestInRoi:
    """One CT in the model's field. spacing_mm: of the ROI; covered: the share of a voxel that may change."""

    field: ChestField
    hu: np.ndarray
    covered: np.ndarray
    inside: np.ndarray
    spacing_mm: np.ndarray

    @classmethod
    def of(cls, rois: RoiBatch, asked: AskedOfLungs) -> ChestInRoi:
        """Raises NoLungs."""
        spacing_mm = np.full(3, rois.spacing_mm)
        field = ChestField.around(asked.lungs >= 0.5, spacing_mm)
        return cls(field, rois.reference_hu[0], rois.mask[0], rois.inside[0], spacing_mm)

    def hold(self, side: int) -> HeldChannels:
        """The CT outside the lungs, as far as there is one; see `HeldChannels`."""
        unit = np.full((1, len(CHANNELS), side, side, side), -1.0, np.float32)
        editable = np.ones_like(unit)
        known = self.field.known(self.hu.shape, self.spacing_mm, side)
        there = self.field.take(self.inside, self.spacing_mm, side, triangle)[known] > 0.99
        held = there & (self.cover(side)[known] < LEAST_COVERED)
        unit[0, CT][known] = WINDOW.to_unit(self.field.take(self.hu, self.spacing_mm, side)[known])
        editable[0, CT][known] = ~held
        return HeldChannels(torch.from_numpy(unit), torch.from_numpy(editable))

    def cover(self, side: int) -> np.ndarray:
        """`covered` in the field."""
        return np.clip(self.field.take(self.covered, self.spacing_mm, side, triangle), 0, 1)

    def back(self, values: np.ndarray) -> np.ndarray:
        """What lies in the field, (side, side, side), on the ROI."""
        sides = zip(values.shape, self.hu.shape, self.spacing_mm, strict=True)
        weights = [
            axis_weights(self.field.positions_mm(axis, side), np.arange(n) * mm)
            for axis, (side, n, mm) in enumerate(sides)
        ]
        return resample(values, weights)


class MedSynFinding:
    """The networks of `medsyn`, ready to put findings into CTs."""

    hooks = HOOKS

    def __init__(self, chests: MedSyn) -> None:
        self.card, self.chests, self.network = chests.card, chests, chests.network

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MedSynFinding:
        """Read the weights. WeightsError."""
        return cls(MedSyn.load(installed, device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: FindingRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """The lungs for every seed. See `synthesize.Model`; InvalidRequest where no word is known."""
        asked, chests = rois.own, self.chests
        assert isinstance(asked, AskedOfLungs)
        remarks = chests.read(asked.text, request)
        if asked.left_out:
            remarks += (f"Nodules are left out ({asked.left_out}): paint them, and use lung_lesion.",)
        chest = ChestInRoi.of(rois, asked)
        held = {side: chest.hold(side) for side in chests.sides(request.size)}
        watch = SamplingWatch(on_step, on_estimate, 2 * len(seeds), chests.count_evaluations(request))
        pair = (complete(asked.text, request.against), request.against)
        texts = [chests.encoder.encode([text]).to(chests.device) for text in pair]
        made = []
        for number, seed in enumerate(seeds):
            hus = []
            for which, tokens in enumerate(texts):
                job = ChestJob(request, seed, watch.part([2 * number + which], show_ct))
                hus.append(WINDOW.from_unit(chests.make(job, tokens, held)[CT].cpu().numpy()))
            made.append(put_in(chest, *hus))
            who = f"seed {seed}: " if len(seeds) > 1 else ""
            remarks += (who + made[-1].describe(chest),)
        hu, kept, shift = (np.stack([getattr(one, part) for one in made])[:, None] for part in PARTS)
        return Sampled(hu, chests.where, remarks, kept=kept, shift=shift)


@dataclass(frozen=True, eq=False)
class PutIn:
    """(Z, Y, X) on the ROI. hu: what takes the place of the CT; kept: 0..1, where the CT stays; shift: HU
    that it is shifted by there."""

    hu: np.ndarray
    kept: np.ndarray
    shift: np.ndarray

    def describe(self, chest: ChestInRoi) -> str:
        """How much of the lungs it is."""
        ml = chest.covered * float(np.prod(chest.spacing_mm)) / 1000
        replaced, shifted = ((ml * share).sum() for share in (1 - self.kept, np.abs(self.shift) >= 1))
        return f"{replaced:.0f} of {ml.sum():.0f} ml of lung replaced, {shifted:.0f} ml shifted in HU"


def put_in(chest: ChestInRoi, with_it: np.ndarray, without: np.ndarray) -> PutIn:
    """What two chests in the field, (N, N, N) HU, differ in, put into the CT."""
    side = with_it.shape[0]
    covered = chest.cover(side)
    deep = ndimage.gaussian_filter(covered, SMOOTH_SHARE * side)
    trusted = covered * np.clip(2 * deep - 1, LEAST_COVERED, 1)  # at the wall coarse voxels are half wall
    share = (with_it - without) / np.maximum(covered, 0.1)
    change = average(share, trusted, SMOOTH_SHARE * side)
    lung_hu = float(np.median(chest.hu[chest.covered > 0.9])) if (chest.covered > 0.9).any() else -850.0
    voxel_ml = float(np.prod(chest.field.spacing_mm(side))) / 1000
    settled = settle(change, covered, DENSE_HU - lung_hu, voxel_ml)
    replaced = np.zeros_like(chest.hu)
    if settled is not None:
        soft_hu = EDGE_SHARE * float(change.max())
        replaced = _rise(chest.back(settled.field), settled.from_hu - soft_hu, settled.from_hu + soft_hu)
    lowered = chest.back(np.minimum(change, 0))
    shift = lowered * _rise(-lowered, *SEEN_HU) * (1 - replaced)
    parts = (np.full_like(shift, DENSE_HU), 1 - replaced, shift)
    return PutIn(*(part.astype(np.float32) for part in parts))


@dataclass(frozen=True, eq=False)
class Settled:
    """(N, N, N) HU, and from where on lung is replaced."""

    field: np.ndarray
    from_hu: float


def settle(change: np.ndarray, covered: np.ndarray, full_hu: float, voxel_ml: float) -> Settled | None:
    """Where lung is replaced; None where it nowhere is.

    A difference of a tenth of what fluid makes is no thin fluid, but fluid in one of ten chests like this: so
    the likeliest places are filled, as many as it comes to in all, but for small parts.
    """
    likely = covered * np.clip(change - NOISE_HU, 0, full_hu) / full_hu
    wanted = float(likely.sum())
    if wanted * voxel_ml < LEAST_ML:
        return None
    order = np.argsort(-change, axis=None, kind="stable")
    filled = np.cumsum(covered.ravel()[order])
    from_hu = float(change.ravel()[order[min(int(np.searchsorted(filled, wanted)), filled.size - 1)]])
    parts, count = ndimage.label((change >= from_hu) & (covered > LEAST_COVERED))
    sizes = ndimage.sum_labels(covered, parts, np.arange(count + 1))
    sizes[0] = np.inf
    small = ndimage.binary_dilation((sizes < LEAST_PART * sizes[1:].max(initial=0))[parts], iterations=2)
    large = ~small | (sizes[parts] >= LEAST_PART * sizes[1:].max(initial=0)) & (parts > 0)
    return Settled(np.where(large, change, np.minimum(change, 0)), from_hu)


def average(values: np.ndarray, weights: np.ndarray, voxels: float) -> np.ndarray:
    """Gaussian means by weight; beyond all weights the values nearest to them go on."""
    total, weight = (ndimage.gaussian_filter(one, voxels) for one in (values * weights, weights))
    known = weight > LEAST_COVERED * weight.max()
    if not known.any():
        return np.zeros_like(values)
    mean = np.where(known, total / np.where(known, weight, 1), 0)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    spread: np.ndarray = mean[tuple(nearest)]
    return spread


def _rise(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to low, 1 from high on, smooth between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    smooth: np.ndarray = share * share * (3 - 2 * share)
    return smooth
