"""What is expected before a network says anything, so that it only makes what differs from that.

Residual diffusion (Mardani et al. 2023, arXiv:2309.15214): whole chests differ from the mean of those that
were trained on, moved by what their text says; tiles from what is coarser, smoothly enlarged. Each channel's
difference is divided by its spread, so that faint vessels count as much as a CT. A few chests teach that much
sooner; and what a text says acts from the first step on, where a network of its own accord hardly learned it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lesionbrush.systems.medsyn.channels import CHANNELS
from lesionbrush.systems.medsyn.text.reading import READ

LEAST_SPREAD = 0.1
COARSER = 2
"""Than chests are effects, which are smooth: they are stored with the weights."""
READER_DECAY, EFFECT_DECAY = 10.0, 3.0


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
    by from what is expected of them.

    reader: (R, W + 1), of the first token of a text, to R numbers that are 0 on the mean; effects:
    (R, 4, N / 2, N / 2, N / 2), what each of them adds to the mean chest.
    """

    atlas: Tensor
    coarse: Tensor
    fine: Tensor
    reader: Tensor
    effects: Tensor

    @classmethod
    def none(cls, side: int, text_width: int) -> Expectation:
        """To be loaded."""
        ones, atlas = torch.ones(len(CHANNELS)), torch.zeros(len(CHANNELS), side, side, side)
        effects = torch.zeros(len(READ), len(CHANNELS), *[side // COARSER] * 3)
        return cls(atlas, ones, ones.clone(), torch.zeros(len(READ), text_width + 1), effects)

    def of_chest(self, text: Tensor | None = None, strength: float = 1.0) -> Expected:
        """text: (tokens, W); None or zeros: none. strength: how many times as much it is to do."""
        mean = self.atlas
        if text is not None:
            effect = torch.tensordot(self.read(text), self.effects, dims=1)
            mean = mean + strength * enlarge_smoothly(effect, COARSER)
        return Expected(mean.clamp(-1.0, 1.0), self.coarse.reshape(-1, 1, 1, 1))

    def read(self, text: Tensor) -> Tensor:
        """(R,): zeros for no text."""
        first = text[0]
        numbers: Tensor = self.reader[:, :-1] @ first + self.reader[:, -1]
        return numbers * (first != 0).any()

    def of_tile(self, coarse: Tensor, factor: int) -> Expected:
        """coarse: (4, Z, Y, X), of voxels `factor` times larger."""
        return Expected(enlarge_smoothly(coarse, factor), self.fine.reshape(-1, 1, 1, 1))


def fit_reader(texts: Tensor, numbers: Tensor) -> Tensor:
    """(R, W + 1) of least squares with a little decay: numbers (M, R), less their means, of the first tokens
    (M, W) of texts. nan: not measured, taken to be as usual."""
    wanted = (numbers - numbers.nanmean(0)).nan_to_num()
    middle = texts.mean(0)
    slopes = _solve(texts - middle, wanted, decay=READER_DECAY).T
    return torch.cat((slopes, -(slopes @ middle)[:, None]), dim=1)


def fit_effects(read: Tensor, images: Tensor, known: Tensor) -> Tensor:
    """(R, 4, N / 2, N / 2, N / 2) of least squares: what read (M, R) numbers add to what chests
    (M, 4, N, N, N) differ by from the mean; where they are known, (M, N, N, N)."""
    flat = (images * known[:, None]).flatten(1)
    effects = _solve(read, flat, decay=EFFECT_DECAY).reshape(-1, *images.shape[1:])
    return F.avg_pool3d(effects, COARSER)


def _solve(given: Tensor, wanted: Tensor, decay: float) -> Tensor:
    """(K, P) of (M, K) and (M, P)."""
    square = given.T @ given + decay * torch.eye(given.shape[1])
    return torch.linalg.solve(square, given.T @ wanted)


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
