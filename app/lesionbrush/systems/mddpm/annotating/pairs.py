"""Synthetic pairs: slices that mDDPM makes along drawn maps, and what is where in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.generate import generate
from lesionbrush.core.roi import Orientation
from lesionbrush.errors import DamagedFile
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.mddpm.annotating.planes import SIDE, SPACING_MM
from lesionbrush.systems.mddpm.maps import names_of
from lesionbrush.systems.mddpm.request import WholeRequest
from lesionbrush.systems.mddpm.whole import MDDPMWhole

STEPS, WITHIN = 10, 2.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """hu: (N, SIDE, SIDE) int16, to the front and to the right; labels: like it, uint8, 0 or the number of
    its structure from 1 on; names: of the structures."""

    hu: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def save(self, path: Path) -> None:
        with whole_files(path) as (draft,), draft.open("wb") as file:
            np.savez_compressed(file, hu=self.hu, labels=self.labels, names=np.array(self.names))

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """DamagedFile for anything but what `save` writes."""
        try:
            with np.load(path, allow_pickle=False) as file:
                pairs = cls(file["hu"], file["labels"], tuple(file["names"].tolist()))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"{path} holds no pairs; delete it, and they are drawn anew") from error
        if pairs.hu.shape[1:] != (SIDE, SIDE) or pairs.hu.shape != pairs.labels.shape:
            raise DamagedFile(f"{path} holds pairs of another version; delete it, and they are drawn anew")
        return pairs


def draw_pairs(model: MDDPMWhole, count: int, seed: int) -> Pairs:
    """So many, each of its own map within `WITHIN` standard deviations; the same for the same seed."""
    drawn = list(tqdm(_draw(model, count, seed), total=count, desc="synthetic pairs", unit="slice"))
    hu, labels = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    return Pairs(hu, labels, tuple(names_of(model.shapes).values()))


def _draw(model: MDDPMWhole, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    seeds = np.random.default_rng((seed, 3)).choice(2**31, count, replace=False)
    for own in seeds:
        request = WholeRequest(
            side=SIDE, spacing_mm=SPACING_MM, steps=STEPS, map_within=WITHIN, seed=int(own)
        )
        (made,) = generate(request, model)
        assert made.layout is not None
        turned = Orientation.of(made.ct.affine)
        yield turned.view(made.ct.array)[0], turned.view(made.layout.labels.array)[0].astype(np.uint8)
