"""The fine voxels of a chest, tile by tile: memory is that of one tile and of what comes out.

Every tile begins with its part of one field of noise, and neighbours overlap and fade into each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.boxes import Box as Tile
from lesionbrush.systems.medsyn.channels import CHANNELS


@dataclass(frozen=True)
class Tiling:
    """Of a cube of `side` voxels, into tiles of `tile` that begin at multiples of `step`; the last ones end
    where the cube ends."""

    side: int
    tile: int
    step: int

    @property
    def firsts(self) -> tuple[int, ...]:
        """Where tiles begin along one axis."""
        last = self.side - self.tile
        return tuple(dict.fromkeys([*range(0, last, self.step), last]))

    def tiles(self) -> Iterator[Tile]:
        for z, y, x in product(self.firsts, repeat=3):
            yield slice(z, z + self.tile), slice(y, y + self.tile), slice(x, x + self.tile)

    def __len__(self) -> int:
        return len(self.firsts) ** 3

    def weights(self) -> Tensor:
        """(tile, tile, tile): how much a voxel of a tile counts beside its neighbours'."""
        along = np.minimum(np.arange(self.tile), np.arange(self.tile)[::-1]) + 1
        fade = np.minimum(along / max(self.tile - self.step, 1), 1.0).astype(np.float32)
        return torch.from_numpy(fade[:, None, None] * fade[None, :, None] * fade[None, None, :])


@dataclass(frozen=True)
class NoiseField:
    """Standard normal noise of a cube with four channels; each slice of it has a generator of its own, so
    that a part is the same whatever else is drawn."""

    seed: int
    side: int

    def crop(self, tile: Tile) -> Tensor:
        """(1, 4, Z, Y, X) float32."""
        z, y, x = tile
        shape = (len(CHANNELS), self.side, self.side)
        slices = [
            np.random.default_rng((self.seed, k)).standard_normal(shape, np.float32)[:, y, x]
            for k in range(z.start, z.stop)
        ]
        return torch.from_numpy(np.stack(slices, axis=1))[None]


class Mosaic:
    """Tiles that fade into each other: their weighted mean."""

    def __init__(self, tiling: Tiling) -> None:
        self.weights = tiling.weights()
        self.sum = torch.zeros(len(CHANNELS), *[tiling.side] * 3)
        self.total = torch.zeros([tiling.side] * 3)

    def add(self, tile: Tile, made: Tensor) -> None:
        """made: (4, Z, Y, X)."""
        z, y, x = tile
        self.sum[:, z, y, x] += self.weights * made
        self.total[tile] += self.weights

    def mean(self) -> Tensor:
        """(4, side, side, side) float32."""
        return self.sum / self.total


def coarse(tile: Tile, factor: int) -> Tile:
    """The same place where voxels are `factor` times larger. The tile begins and ends at multiples of it."""
    z, y, x = (slice(part.start // factor, part.stop // factor) for part in tile)
    return z, y, x
