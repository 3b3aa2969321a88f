"""Training batches of MedSyn: whole chests with a text at the low resolution, and tiles of finer ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lesionbrush.reports.findings import ChestFindings
from lesionbrush.systems.medsyn.channels import (
    AIRWAY_BIT,
    CHANNELS,
    LOBE_BITS,
    VESSEL_BIT,
    WINDOW,
    lobes_to_unit,
    share_to_unit,
)
from lesionbrush.systems.medsyn.chests import OUTSIDE_HU, FieldChest, low_chest, reduce, vary
from lesionbrush.systems.medsyn.expected import (
    Expectation,
    enlarge,
    fit_effects,
    fit_reader,
    mean_chest,
    spread_of,
)
from lesionbrush.systems.medsyn.pack import HIGH, PackedChest
from lesionbrush.systems.medsyn.recipes import MedSynRecipe, Refinement
from lesionbrush.systems.medsyn.text.reading import scale_findings

Describe = Callable[[ChestFindings, np.random.Generator], str]
Encode = Callable[[Sequence[str]], Tensor]
LEAST_KNOWN = 0.3
"""Of a tile there is data in."""
TRIES = 20
DRAWS, PROMPTS = 240, 8
"""Chests of which is learned what to expect, and how many more texts on each."""


@dataclass(frozen=True)
class MedSynBatch:
    """Float32. image: (B, 4, Z, Y, X); shown: (B, S, Z, Y, X); text: (B, tokens, width), None for tiles.

    scored: as the image, 0 where there is no data; weight: (B,).
    """

    image: Tensor
    shown: Tensor
    text: Tensor | None
    scored: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class JointSample:
    """Float32. image: (4, Z, Y, X); shown: (S, Z, Y, X); known: (Z, Y, X), 1 where there is data, else 0; and
    what is said of it. factor: how many times coarser a tile is shown; 1: a whole chest."""

    image: Tensor
    shown: Tensor
    known: Tensor
    text: str = ""
    factor: int = 1

    @property
    def coarse(self) -> Tensor:
        """(4, Z, Y, X) / factor: what a tile is shown, once."""
        return self.shown[:, :: self.factor, :: self.factor, :: self.factor]


class MedSynBatches:
    """Draws a batch of whole chests, or of tiles, by the recipe's share.

    expectation: None: the images themselves are learned; else what they differ by from what is expected.
    """

    def __init__(
        self,
        chests: Sequence[PackedChest],
        recipe: MedSynRecipe,
        rng: np.random.Generator,
        describe: Describe,
        encode: Encode,
        expectation: Expectation | None = None,
    ) -> None:
        self.packed, self.recipe, self.rng = chests, recipe, rng
        self.describe, self.encode, self.expectation = describe, encode, expectation

    @cached_property
    def chests(self) -> list[FieldChest]:
        """At the low resolution."""
        return [low_chest(one, self.recipe.low_side) for one in self.packed]

    @cached_property
    def whole_body(self) -> np.ndarray:
        """Shares of the chests: by how much of the field there is data in, squared, so that a body that is
        all there is seen more often than one cropped around its lungs."""
        shares = np.array([one.known.mean() for one in self.chests]) ** 2
        return shares / shares.sum()

    def draw(self) -> MedSynBatch:
        if self.rng.random() < self.recipe.low_share:
            _, count = self.recipe.patches.draw(self.rng)
            return self.collate([self.whole() for _ in range(count)], read=True)
        count = self.recipe.tiles * self.recipe.patches.scale
        return self.collate([self.tile() for _ in range(count)], read=False)

    def collate(self, samples: Sequence[JointSample], *, read: bool) -> MedSynBatch:
        text = self.encode([one.text for one in samples]) if read else None
        if self.expectation is not None:
            told = [None] * len(samples) if text is None else list(text)
            samples = [expect(one, self.expectation, said) for one, said in zip(samples, told, strict=True)]
        image, shown = (
            torch.stack([one.image for one in samples]),
            torch.stack([one.shown for one in samples]),
        )
        known = torch.stack([one.known for one in samples])[:, None]
        scored = known.expand_as(image).contiguous()
        if self.recipe.ct_alone:
            image[:, 1:], scored[:, 1:] = 0.0, 0.0
        return MedSynBatch(image, shown, text, scored, torch.ones(len(samples)))

    def whole(self) -> JointSample:
        """A chest with other findings in another body; its text is left out now and then, so that the
        network knows what it makes of none."""
        chest = self.body()
        text = self.describe(chest.findings, self.rng)
        return show(chest, "" if self.rng.random() < self.recipe.drop_text else text)

    def body(self) -> FieldChest:
        return vary(self.chests[self.rng.choice(len(self.chests), p=self.whole_body)], self.rng)

    def tile(self) -> JointSample:
        """A tile of a chest, and beside it what it is some times coarser."""
        packed = self.packed[self.rng.choice(len(self.packed), p=self.whole_body)]
        stage = self.recipe.stages[self.rng.integers(len(self.recipe.stages))]
        side = self.recipe.tile
        for _ in range(TRIES):
            room = (stage.side * stage.factor - side) // stage.factor
            low = [int(self.rng.integers(room + 1)) for _ in range(3)]
            sample = tile_of(packed, low, stage, side)
            if sample.known.mean() >= LEAST_KNOWN:
                break
        amount = float(self.rng.uniform(0, self.recipe.low_noise))
        noise = torch.from_numpy(self.rng.standard_normal(sample.coarse.shape).astype(np.float32))
        return replace(sample, shown=enlarge(sample.coarse + amount * noise, stage.factor))


def show(chest: FieldChest, text: str) -> JointSample:
    """A whole chest with what is said of it."""
    known = torch.from_numpy(chest.known.astype(np.float32))
    return JointSample(torch.from_numpy(channels_of(chest)), known[None] * 2 - 1, known, text)


def expect(sample: JointSample, expectation: Expectation, text: Tensor | None = None) -> JointSample:
    """What it differs by from what is expected of it; a whole chest is shown that as well, which says where
    in the body it is. Where there is no data, nothing differs. text: (tokens, width), of a whole chest."""
    if sample.factor > 1:
        expected = expectation.of_tile(sample.coarse, sample.factor)
    else:
        expected = expectation.of_chest(text)
        sample = replace(sample, shown=torch.cat((sample.shown, expected.mean)))
    return replace(sample, image=expected.residual(sample.image) * sample.known)


def learn_expectation(batches: MedSynBatches, seed: int = 0, draws: int = DRAWS) -> Expectation:
    """Of the images and the texts that a run is trained on, with its own generator."""
    rng = np.random.default_rng(seed)
    drawn = MedSynBatches(batches.packed, batches.recipe, rng, batches.describe, batches.encode)
    bodies, tiles = [drawn.body() for _ in range(draws)], [drawn.tile() for _ in range(draws // 4)]
    wholes = [show(one, batches.describe(one.findings, rng)) for one in bodies]
    findings = torch.tensor([scale_findings(one.findings) for one in bodies])
    texts = [batches.describe(one.findings, rng) for one in bodies for _ in range(PROMPTS)]
    firsts = torch.cat([batches.encode([text])[:, 0] for text in texts])
    reader = fit_reader(firsts, findings.repeat_interleave(PROMPTS, 0))
    atlas = mean_chest((one.image, one.known) for one in wholes)
    images, known = (
        torch.stack(arrays) for arrays in zip(*((w.image, w.known) for w in wholes), strict=True)
    )
    effects = fit_effects((findings - findings.nanmean(0)).nan_to_num(), images - atlas, known)
    if batches.recipe.ct_alone:
        atlas[1:], effects[:, 1:] = 0.0, 0.0
    ones = torch.ones(len(CHANNELS))
    unscaled = Expectation(atlas, ones, ones, reader, effects)
    told = [expect(one, unscaled, batches.encode([one.text])[0]) for one in wholes]
    coarse, fine = (
        spread_of((one.image, one.known) for one in some)
        for some in (told, [expect(one, unscaled) for one in tiles])
    )
    return replace(unscaled, coarse=coarse, fine=fine)


def channels_of(chest: FieldChest) -> np.ndarray:
    """(4, Z, Y, X) float32 in [-1, 1]."""
    shares = (share_to_unit(chest.airways), share_to_unit(chest.vessels))
    return np.stack([WINDOW.to_unit(chest.hu), lobes_to_unit(chest.lobes), *shares]).astype(np.float32)


def tile_of(packed: PackedChest, low: Sequence[int], stage: Refinement, side: int) -> JointSample:
    """The tile of so many voxels a side that begins at the coarse voxel `low` of a stage.

    The four coarse channels are repeated along each axis: nearest neighbours, as in Eq. 10.
    """
    native, factor = HIGH // stage.side, stage.factor
    places = tuple(slice(native * first, native * (first + side // factor)) for first in low)
    hu, labels = packed.hu[places].astype(np.float32), packed.labels[places]
    known = np.zeros(packed.hu.shape, bool)[places]
    known[tuple(_within(part, place) for part, place in zip(packed.known, places, strict=True))] = True
    fine, covered = _channels(hu, labels, known, native // factor)
    coarse, _ = _channels(hu, labels, known, native)
    return JointSample(fine, enlarge(coarse, factor), covered, factor=factor)


def _within(part: slice, place: slice) -> slice:
    """What of a box along one axis lies in a tile, counted from the tile's begin."""
    length = place.stop - place.start
    return slice(min(max(part.start - place.start, 0), length), min(max(part.stop - place.start, 0), length))


def _channels(hu: np.ndarray, labels: np.ndarray, known: np.ndarray, factor: int) -> tuple[Tensor, Tensor]:
    """Of arrays at 256³, `factor` times coarser: (4, Z, Y, X), and 1 where there is data, else 0."""
    middle = slice(factor // 2, None, factor)
    covered = reduce(known, factor) > 0.99
    image = np.stack(
        [
            WINDOW.to_unit(np.where(covered, reduce(hu, factor), OUTSIDE_HU)),
            lobes_to_unit(labels[middle, middle, middle] & LOBE_BITS),
            share_to_unit(reduce(labels & AIRWAY_BIT > 0, factor)),
            share_to_unit(reduce(labels & VESSEL_BIT > 0, factor)),
        ]
    )
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(covered.astype(np.float32))
