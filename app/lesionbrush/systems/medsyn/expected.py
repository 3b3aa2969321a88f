"""What is expected before a network says anything, so that it only makes what differs from that.

Residual diffusion (Mardani et al. 2023, arXiv:2309.15214): whole chests differ from the mean of those that
were trained on, tiles from what is coarser, smoothly enlarged. Each channel's difference is divided by its
spread, so that faint vessels count as much as a CT. A few chests teach that much sooner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lesionbrush.systems.medsyn.channels import CHANNELS

LEAST_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Expected:
    """mean: (4, Z, Y, X) in [-1, 1], or what broadcasts to it; spread: (4, 1, 1, 1), of what differs."""

    mean: Tensor
    spread: Tensor

    def residual(self, unit: Tensor) -> Tensor:
        """What (..., 4, Z, Y, X) in [-1, 1] differs by, of unit spread."""
        return (unit - self.mean) / self.spread

    def unit(self, residual: Tensor) -> Tensor:
        """The inverse of `residual`."""
        return self.mean + self.spread * residual

    def clamp(self, residual: Tensor) -> Tensor:
        """The nearest residual of what lies in [-1, 1]."""
        return self.residual(self.unit(residual).clamp(-1.0, 1.0))


NOTHING = Expected(torch.zeros(()), torch.ones(()))
"""In the paper all of it is made by the networks."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """atlas: (4, N, N, N), the mean chest; coarse, fine: (4,), spreads of what whole chests and tiles differ
    by from what is expected of them."""

    atlas: Tensor
    coarse: Tensor
    fine: Tensor

    @classmethod
    def none(cls, side: int) -> Expectation:
        """To be loaded."""
        ones = torch.ones(len(CHANNELS))
        return cls(torch.zeros(len(CHANNELS), side, side, side), ones, ones.clone())

    def of_chest(self) -> Expected:
        return Expected(self.atlas, self.coarse.reshape(-1, 1, 1, 1))

    def of_tile(self, coarse: Tensor, factor: int) -> Expected:
        """coarse: (4, Z, Y, X), of voxels `factor` times larger."""
        return Expected(enlarge_smoothly(coarse, factor), self.fine.reshape(-1, 1, 1, 1))


def mean_chest(chests: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """(4, N, N, N): voxel by voxel, of (4, N, N, N) with where (N, N, N) they are known; as nothing is,
    -1, where none is."""
    total, count = torch.zeros(()), torch.zeros(())
    for image, known in chests:
        total, count = total + image * known, count + known
    return torch.where(count > 0, total / count.clamp(min=1), -torch.ones(()))


def spread_of(residuals: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """(4,): root mean squares of each channel over what is known."""
    total, count = torch.zeros(()), torch.zeros(())
    for image, known in residuals:
        total = total + (image**2 * known).flatten(1).sum(1)
        count = count + known.sum()
    return (total / count).sqrt().clamp(min=LEAST_SPREAD)


def enlarge(coarse: Tensor, factor: int) -> Tensor:
    """(C, Z, Y, X), every voxel `factor` times along each axis: nearest neighbours, as in Eq. 10."""
    for axis in (1, 2, 3):
        coarse = coarse.repeat_interleave(factor, dim=axis)
    return coarse


def enlarge_smoothly(coarse: Tensor, factor: int) -> Tensor:
    """As `enlarge`, linear between the centres of voxels."""
    return F.interpolate(coarse[None], scale_factor=factor, mode="trilinear", align_corners=False)[0]
