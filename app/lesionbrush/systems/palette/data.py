"""Training batches of Palette: slices with a hole, what is behind it, and what it is called.

Arrays are (Y, X) on the pixels of a patch, row 0 posterior, column 0 left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUScale
from lesionbrush.core.roi import axis_weights, triangle
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.palette.fills import FILLS, OPEN, fill_number
from lesionbrush.systems.palette.holes import box_around, draw_blob, grow, leave_context
from lesionbrush.systems.palette.pack import UNSURE, KnownCT
from lesionbrush.systems.palette.scale import AIR_HU, holds
from lesionbrush.training.recipes import Patches

PATCHES = Patches(sides=(64, 96, 128), shares=(0.35, 0.4, 0.25), voxels_per_batch=49_152)
SPACING_MM = 1.5
ZOOM = (0.8, 1.3)
"""Of the spacing of a patch; slices that were coarser or finer are then not strange."""
ORGANS = tuple(fill_number(fill) for fill in FILLS if fill not in ("tumour", "healthy"))
TUMOUR, HEALTHY = fill_number("tumour"), fill_number("healthy")
SHARES = {"organ": 0.3, "organs": 0.1, "box": 0.17, "tumour": 0.18, "blob": 0.25}
TUMOUR_ZOOM = (0.8, 2.2)
"""The sarcomas are 4 to 12 cm wide: shrunk, they are also what is found in organs."""
MARGIN_MM, BOX_MM, BLOB_MM, CLEAR_MM = (0.0, 5.0), (2.0, 15.0), (3.0, 28.0), 8.0
SHIFT_HU = 10.0
LEAST_MM2 = 60.0
MOST_OF_PATCH, BORDER = 0.6, 8
LEAST_HOLE, TRIES = 12, 20
CENTRES = 4000


@dataclass(frozen=True)
class PaletteBatch:
    """Float32 (B, 1, Y, X): image, in units of the scale; hole: 1 in it; masked: the image with noise in its
    hole; scored: 1 where what is said is held against real data. fill: (B,) int64. weight: (B,)."""

    image: Tensor
    hole: Tensor
    masked: Tensor
    scored: Tensor
    fill: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class HoledSlice:
    """One patch, still numpy. hole: bool; scored: bool; fill: its number, before it is left open."""

    hu: np.ndarray
    hole: np.ndarray
    scored: np.ndarray
    fill: int


@dataclass(frozen=True, eq=False)
class SlicePlace:
    """A slice of a CT of the pack, and a place in it, mm along y and x from the middle of its first pixel."""

    ct: KnownCT
    z: int
    centre_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class PatchView:
    """A patch as it lies in its slice: rows and columns of weights, and where there is data."""

    place: SlicePlace
    hu: np.ndarray
    there: np.ndarray
    rows: tuple[np.ndarray, np.ndarray]
    spacing_mm: float

    @classmethod
    def of(cls, place: SlicePlace, side: int, spacing_mm: float) -> PatchView:
        """Around the place, as a request resamples a CT; beyond the CT there is air."""
        lines, covers, inside = [], [], []
        shape = place.ct.hu.shape[1:]
        for size, mm, centre in zip(shape, place.ct.spacing_mm[1:], place.centre_mm, strict=True):
            target = centre + (np.arange(side) - (side - 1) / 2) * spacing_mm
            source = np.arange(size) * mm
            lines.append(axis_weights(source, target))
            covers.append(axis_weights(source, target, triangle))
            inside.append((target > -0.5 * mm) & (target < (size - 0.5) * mm))
        there = inside[0][:, None] & inside[1][None]
        hu = lines[0] @ place.ct.hu[place.z].astype(np.float32) @ lines[1].T
        return cls(place, np.where(there, hu, AIR_HU), there, (covers[0], covers[1]), spacing_mm)

    def covered_by(self, *numbers: int) -> np.ndarray:
        """(Y, X) bool: where at least half of a pixel has one of these labels."""
        wanted = np.isin(self.place.ct.labels[self.place.z], numbers).astype(np.float32)
        found: np.ndarray = (self.rows[0] @ wanted @ self.rows[1].T > 0.5) & self.there
        return found


class PaletteBatches:
    """Draws batches of the pack without end; everything random comes from the generator.

    drop_fill: how often a hole is not told what fills it. InvalidRequest for a pack without a CT.
    """

    def __init__(
        self,
        cts: Sequence[KnownCT],
        scale: HUScale,
        generator: np.random.Generator,
        patches: Patches,
        drop_fill: float,
    ) -> None:
        if not cts:
            raise InvalidRequest("one side of the split has no CT: point --data at a folder with more")
        self.cts, self.scale, self.rng = cts, scale, generator
        self.patches, self.drop_fill = patches, drop_fill

    def draw(self) -> PaletteBatch:
        side, count = self.patches.draw(self.rng)
        return self.collate([self.sample(side) for _ in range(count)])

    def sample(self, side: int) -> HoledSlice:
        """One patch of so many pixels a side. InvalidRequest when the pack has nothing to make a hole of."""
        kinds = {name: share for name, share in SHARES.items() if self._offers(name)}
        if not kinds:
            raise InvalidRequest("the pack has no organ, no tumour and no tissue that the HU scale holds")
        chances = np.array(list(kinds.values()))
        for _ in range(TRIES):
            kind = str(self.rng.choice(list(kinds), p=chances / chances.sum()))
            drawn: HoledSlice = self._makers[kind](side)
            if np.count_nonzero(drawn.scored) >= LEAST_HOLE:
                return self._flip(drawn)
        raise InvalidRequest(f"no hole of {LEAST_HOLE} pixels in {TRIES} draws: the pack is too small")

    @cached_property
    def _makers(self) -> dict[str, Callable[[int], HoledSlice]]:
        return {
            "organ": self._organ,
            "organs": self._organs,
            "box": self._box,
            "tumour": self._tumour,
            "blob": self._blob,
        }

    def _offers(self, kind: str) -> bool:
        if kind == "blob":
            return bool(self._healthy)
        wanted = (TUMOUR,) if kind == "tumour" else ORGANS
        return any(number in self._slices for number in wanted)

    # --- where there is what ---

    @cached_property
    def _slices(self) -> dict[int, list[tuple[KnownCT, int]]]:
        """For each label, the slices that show enough of it, where the scale holds what it looks like."""
        found: dict[int, list[tuple[KnownCT, int]]] = {}
        for ct, number in ((ct, n) for ct in self.cts for n in (*ORGANS, TUMOUR, UNSURE)):
            inside = ct.labels == number
            if not inside.any() or not holds(self.scale, float(np.median(ct.hu[inside]))):
                continue
            areas = np.count_nonzero(inside, axis=(1, 2)) * float(np.prod(ct.spacing_mm[1:]))
            found.setdefault(number, []).extend((ct, int(z)) for z in np.flatnonzero(areas >= LEAST_MM2))
        return found

    @cached_property
    def _healthy(self) -> list[tuple[KnownCT, np.ndarray]]:
        """CTs with places (N, 3) of tissue that the scale holds, and that is no tumour and not unsure."""
        rng = np.random.default_rng(0)
        found = []
        for ct in self.cts:
            held = np.frompyfunc(lambda hu: holds(self.scale, hu), 1, 1)(np.arange(-1024, 3072)).astype(bool)
            may = held[np.clip(ct.hu, -1024, 3071) + 1024] & ~np.isin(ct.labels, (TUMOUR, UNSURE))
            may = may if ct.whole else may & (ct.labels > 0)
            places = np.argwhere(may)
            if len(places):
                found.append((ct, places[rng.permutation(len(places))[:CENTRES]].astype(np.int32)))
        return found

    def _slice_with(self, number: int) -> tuple[KnownCT, int]:
        """Each patient as often as another: a thin-sliced CT has ten times as many slices."""
        there = self._slices[number]
        names = sorted({ct.name for ct, _ in there})
        name = names[self.rng.integers(len(names))]
        mine = [one for one in there if one[0].name == name]
        return mine[self.rng.integers(len(mine))]

    def _view(
        self, ct: KnownCT, z: int, inside: np.ndarray, side: int, zoom: tuple[float, float]
    ) -> PatchView:
        """Around a random pixel of (Y, X) `inside`, which may be away from the middle of the patch."""
        spacing_mm = SPACING_MM * float(self.rng.uniform(*zoom))
        places = np.argwhere(inside)
        centre = places[self.rng.integers(len(places))] * 0.6 + places.mean(axis=0) * 0.4
        away = self.rng.uniform(-0.15, 0.15, 2) * side * spacing_mm
        return PatchView.of(SlicePlace(ct, z, centre * ct.spacing_mm[1:] + away), side, spacing_mm)

    # --- what is made of it ---

    def _organ(self, side: int) -> HoledSlice:
        numbers = [number for number in (*ORGANS, UNSURE) if number in self._slices]
        number = numbers[self.rng.integers(len(numbers))]
        ct, z = self._slice_with(number)
        view = self._view(ct, z, ct.labels[z] == number, side, ZOOM)
        mine = view.covered_by(number)
        return self._holed(view, self._grown(mine, view), OPEN if number == UNSURE else number)

    def _organs(self, side: int) -> HoledSlice:
        """Several under one mask, and nothing is said of them."""
        number = self.rng.choice([number for number in ORGANS if number in self._slices])
        ct, z = self._slice_with(int(number))
        view = self._view(ct, z, np.isin(ct.labels[z], ORGANS), side, ZOOM)
        return self._holed(view, self._grown(view.covered_by(*ORGANS, UNSURE), view), OPEN)

    def _box(self, side: int) -> HoledSlice:
        number = int(self.rng.choice([number for number in ORGANS if number in self._slices]))
        ct, z = self._slice_with(number)
        view = self._view(ct, z, ct.labels[z] == number, side, ZOOM)
        box = box_around(view.covered_by(number), self.rng.uniform(*BOX_MM) / view.spacing_mm)
        return self._holed(view, box, number)

    def _tumour(self, side: int) -> HoledSlice:
        ct, z = self._slice_with(TUMOUR)
        view = self._view(ct, z, ct.labels[z] == TUMOUR, side, TUMOUR_ZOOM)
        return self._holed(view, self._grown(view.covered_by(TUMOUR), view), TUMOUR)

    def _blob(self, side: int) -> HoledSlice:
        """A shape in tissue that is as it was; it keeps away from tumours."""
        ct, places = self._healthy[self.rng.integers(len(self._healthy))]
        z, *centre = places[self.rng.integers(len(places))]
        inside = np.zeros(ct.labels.shape[1:], bool)
        inside[tuple(centre)] = True
        view = self._view(ct, int(z), inside, side, ZOOM)
        radius_mm = np.exp(self.rng.uniform(*np.log(BLOB_MM)))
        blob = draw_blob(side, radius_mm / view.spacing_mm, self.rng)
        shifted = np.roll(blob, self.rng.integers(-side // 6, side // 6 + 1, 2), axis=(0, 1))
        ill = grow(view.covered_by(TUMOUR, UNSURE), CLEAR_MM / view.spacing_mm)
        return self._holed(view, shifted & ~ill, HEALTHY)

    def _grown(self, mask: np.ndarray, view: PatchView) -> np.ndarray:
        return grow(mask, self.rng.uniform(*MARGIN_MM) / view.spacing_mm)

    def _holed(self, view: PatchView, hole: np.ndarray, fill: int) -> HoledSlice:
        hole = leave_context(hole, BORDER, MOST_OF_PATCH)
        scored = hole & view.there
        if not view.place.ct.whole:
            scored &= view.covered_by(*ORGANS)
        hu = view.hu + self.rng.uniform(-SHIFT_HU, SHIFT_HU)
        return HoledSlice(hu, hole, scored, fill)

    def _flip(self, drawn: HoledSlice) -> HoledSlice:
        """Left for right now and then; limbs lie in any way."""
        axes: tuple[int, ...] = (1,) if self.rng.random() < 0.3 else ()
        if drawn.fill == TUMOUR:
            axes = tuple(axis for axis in range(2) if self.rng.random() < 0.5)
        hu, hole, scored = (np.flip(part, axes) for part in (drawn.hu, drawn.hole, drawn.scored))
        return HoledSlice(hu, hole, scored, drawn.fill)

    def collate(self, samples: Sequence[HoledSlice]) -> PaletteBatch:
        image = self.scale.to_unit(np.stack([s.hu for s in samples]).astype(np.float32))
        hole = np.stack([s.hole for s in samples])
        masked = np.where(hole, self.rng.standard_normal(hole.shape, np.float32), image)
        scored = np.stack([s.scored for s in samples])
        told = [OPEN if self.rng.random() < self.drop_fill else s.fill for s in samples]
        layers = (image, hole, masked, scored)
        first, second, third, fourth = (torch.from_numpy(a.astype(np.float32))[:, None] for a in layers)
        return PaletteBatch(first, second, third, fourth, torch.tensor(told), torch.ones(len(samples)))


def conditions_of(masked: Tensor, hole: Tensor, shows_hole: bool) -> Tensor:
    """(B, 1 or 2, Y, X): the slice with noise in its hole, and for networks that want it the hole."""
    return torch.cat((masked, hole), dim=1) if shows_hole else masked
