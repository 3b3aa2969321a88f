"""Slices that a 2D network makes side by side, and what makes them agree: noise that they share, and averages
over neighbours. Once, for all systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.systems.running import as_batch

PIXELS_AT_ONCE, SLICES_AT_ONCE = 32 * 128 * 128, 32
"""Evaluated at a time, so that many or large slices need no more memory than a few small ones."""


@dataclass(frozen=True, eq=False)
class SliceNoise:
    """Standard normal noise of (B Z, 1, Y, X), smooth along z, one generator for each of B boxes.

    smoothness: standard deviation of the Gaussian in slices; 0 makes every slice independent.
    """

    generators: Sequence[torch.Generator]
    depth: int
    smoothness: float

    def __call__(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """ValueError for another number of slices than the boxes have."""
        if shape[0] != self.depth * len(self.generators):
            raise ValueError(
                f"noise for {len(self.generators)} boxes of {self.depth} slices, asked {shape[0]}"
            )
        return torch.cat([self._box(shape[1:], one, dtype) for one in self.generators])

    def _box(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        reach = int(3 * self.smoothness + 0.5)
        white = torch.randn((self.depth + 2 * reach, *shape), generator=generator, dtype=dtype)
        if reach == 0:
            return white
        offsets = torch.arange(-reach, reach + 1, dtype=dtype)
        kernel = torch.exp(-0.5 * (offsets / self.smoothness) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()  # keeps the variance
        return torch.einsum("zcyxk,k->zcyx", white.unfold(0, 2 * reach + 1, 1), kernel)


@dataclass(frozen=True)
class Agreement:
    """What makes slices agree along z.

    alike_mm: standard deviation of the Gaussian that noise is smoothed with. neighbour_weight: of each
    neighbour `near_mm` away in the average of estimates; it falls with their distance. above_ratio: of noise
    to signal, above which there is an average: what comes later is grain, every slice's own.
    """

    alike_mm: float = 1.5
    neighbour_weight: float = 0.25
    near_mm: float = 1.5
    above_ratio: float = 0.3

    def smoothness(self, slice_mm: float) -> float:
        """In slices."""
        return self.alike_mm / slice_mm

    def weight(self, slice_mm: float, ratio: float) -> float:
        """Of a neighbour, at a noise level."""
        return 0.0 if ratio < self.above_ratio else self.neighbour_weight * min(1.0, self.near_mm / slice_mm)


COARSE_PIXELS = 3.0


def calm(noise: Tensor, share: float) -> Tensor:
    """(N, 1, Y, X) with only a share, 0 to 1, of what is coarser than a Gaussian of three pixels.

    A young network makes blotches of coarse noise, where a trained one would make an organ. Ours.
    """
    if share == 1:
        return noise
    sigma = (0, 0, COARSE_PIXELS, COARSE_PIXELS)
    coarse = ndimage.gaussian_filter(noise.cpu().numpy().astype(np.float32), sigma, mode="wrap")
    return noise - (1 - share) * torch.from_numpy(coarse).to(noise)


def slices_at_once(slices: Tensor) -> int:
    """How many of (N, 1, Y, X)."""
    return max(1, min(SLICES_AT_ONCE, PIXELS_AT_ONCE // slices[0].numel()))


def average(slices: Tensor, depth: int, weight: float) -> Tensor:
    """(B Z, 1, Y, X) with each slice mixed with the two beside it; at the ends, with the one there is."""
    boxes = slices.unflatten(0, (-1, depth))
    before = torch.cat((boxes[:, :1], boxes[:, :-1]), dim=1)
    after = torch.cat((boxes[:, 1:], boxes[:, -1:]), dim=1)
    return ((1 - 2 * weight) * boxes + weight * (before + after)).flatten(0, 1)


def average_between(slices: Tensor, before: Tensor, after: Tensor, weight: float) -> Tensor:
    """`average` of (B Z, 1, Y, X) with what is known beyond the ends: (B, 0 or 1, Y, X) each."""
    slab = torch.cat((before, slices[:, 0].unflatten(0, (len(before), -1)), after), dim=1)
    mixed = average(slab.flatten(0, 1)[:, None], slab.shape[1], weight)
    inner = mixed.unflatten(0, (len(before), -1))[:, before.shape[1] : slab.shape[1] - after.shape[1]]
    return inner.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class MadeSlices:
    """Of ROIs the slices in which something may change: a 2D network makes them, the others are the CT's.

    unit: (L, Z, Y, X), the CT in units; depth: the slices that are made; slice_mm: from one to the next.
    """

    unit: np.ndarray
    depth: slice
    slice_mm: float
    agreement: Agreement

    @classmethod
    def of(cls, unit: np.ndarray, editable: np.ndarray, slice_mm: float, agreement: Agreement) -> MadeSlices:
        """editable: like unit, bool, not empty."""
        touched = np.flatnonzero(editable.any(axis=(0, 2, 3)))
        return cls(unit, slice(int(touched[0]), int(touched[-1]) + 1), slice_mm, agreement)

    def noise(self, seeds: Sequence[int]) -> SliceNoise:
        """Of one seed for each box."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        depth = self.depth.stop - self.depth.start
        return SliceNoise(generators, depth, self.agreement.smoothness(self.slice_mm))

    def lay_out(self, array: np.ndarray, lesions: Sequence[int], device: torch.device) -> Tensor:
        """(L, Z, Y, X) to (B Z, 1, Y, X), of the slices that are made."""
        return as_batch(array[:, self.depth], lesions, device)[:, 0].flatten(0, 1)[:, None]

    def put_back(self, made: Tensor, lesions: Sequence[int]) -> Tensor:
        """(B, Z, Y, X) on the CPU, with the CT in the slices that were not made."""
        whole = as_batch(self.unit, lesions, torch.device("cpu"))[:, 0]
        whole[:, self.depth] = made.reshape(whole[:, self.depth].shape).cpu()
        return whole

    def agree(self, x_0: Tensor, lesions: Sequence[int], ratio: float) -> Tensor:
        """Estimates averaged over neighbours, at a ratio of noise to signal; beyond the slices that are made
        are those of the CT."""
        weight = self.agreement.weight(self.slice_mm, ratio)
        if weight == 0:
            return x_0
        low, high = self.depth.start, self.depth.stop
        ends = (slice(max(low - 1, 0), low), slice(high, high + 1))
        before, after = (as_batch(self.unit[:, end], lesions, x_0.device)[:, 0] for end in ends)
        return average_between(x_0, before, after, weight)
