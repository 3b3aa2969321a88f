"""Healthy tissue from nearby: the piece of the same CT that goes on best where a lesion is taken out.

A model alone fills a removed lesion with lung of the right density, but no vessels: it cannot know where they
ran. Vessels that enter the edit region go on in a piece of lung whose surroundings look alike: an exemplar,
as in Criminisi et al. 2004 (doi:10.1109/TIP.2004.833105), but in one piece. A model may start from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from scipy import fft, ndimage

from lesionbrush.core.boxes import Box, box_of
from lesionbrush.core.lesions import Lesions
from lesionbrush.core.roi import RoiGrid, inside_volume, ramp, to_roi, triangle
from lesionbrush.core.rois import RoiBatch

REACH_MM = 40.0
"""So far along each axis a piece may lie from the lesion; the cost of the search grows with it alone."""
RING_MM = 4.0
"""So much of the known tissue around the edit region is compared."""
LEAST_RING = 0.5
"""Share of that ring that has to lie in the CT; with less, what fits is chance."""
COMPARED_HU = (-1000.0, 300.0)
"""Vessels count in full; bone counts, but no more than what tells lung from a vessel."""
KEPT_FROM_LESION_MM = 3.0
DENSE_HU, THICK_MM = -300.0, 2.5
"""Tissue denser than this, and that far from its surface, is no vessel of the lung: wall, heart, a mass."""
MOST_THICK = 0.02
"""Share of the mask that may be such, or as much as there is around it: at the pleura, wall belongs."""
MOST_DONORS, APART_MM, NEARLY_AS_GOOD = 4, 8.0, 1.1
WORST_MISFIT_HU = 250.0
LEVELLING_MM, MOST_LEVELLING_HU, AIRY_HU = 6.0, 150.0, -500.0
SIDES = (("up", "down"), ("forward", "back"), ("to the right", "to the left"))
MIRRORED = ("top to bottom", "front to back", "left to right")
NOTHING_FITS = "no lung within 40 mm fits, so the model made it alone, without vessels"


@dataclass(frozen=True, eq=False)
class Donor:
    """A piece of healthy tissue in a ROI's place.

    hu: (Z, Y, X) float32; offset_mm: from the lesion to where it was, along z, y, x; mirrored: in z, y, x;
    misfit_hu: root mean square difference to the lesion's surroundings, within `COMPARED_HU`.
    """

    hu: np.ndarray
    offset_mm: tuple[float, float, float]
    mirrored: tuple[bool, bool, bool]
    misfit_hu: float

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if self.mirrored[axis])

    @property
    def told(self) -> str:
        """In words: from where it comes, and how well it fits."""
        sides = [up if mm > 0 else down for mm, (up, down) in zip(self.offset_mm, SIDES, strict=True)]
        way = ", ".join(
            f"{abs(mm):.0f} mm {side}" for mm, side in zip(self.offset_mm, sides, strict=True) if mm
        )
        turned = " and ".join(MIRRORED[axis] for axis in self.axes)
        turned = f", mirrored {turned}" if turned else ""
        return f"lung of this CT from {way}{turned}; its surroundings differ by {self.misfit_hu:.0f} HU"


@dataclass(frozen=True, eq=False)
class Field:
    """The CT around a ROI, `reach` voxels further on each side. hu: (Z, Y, X); lesion, inside: bool."""

    hu: np.ndarray
    lesion: np.ndarray
    inside: np.ndarray
    reach: int
    spacing_mm: float

    @classmethod
    def around(cls, lesions: Lesions, grid: RoiGrid) -> Field:
        reach = int(REACH_MM / grid.spacing_mm)
        origin = [mm - reach * grid.spacing_mm for mm in grid.origin_mm]
        shape = [side + 2 * reach for side in grid.shape]
        wide = RoiGrid((shape[0], shape[1], shape[2]), grid.spacing_mm, (origin[0], origin[1], origin[2]))
        hu = to_roi(lesions.view, lesions.spacing_mm, wide)
        lesion = to_roi(lesions.mask, lesions.spacing_mm, wide, triangle) > 0
        inside = inside_volume(wide, lesions.view.shape, lesions.spacing_mm)
        return cls(hu, lesion, inside, reach, grid.spacing_mm)

    @property
    def forbidden(self) -> np.ndarray:
        """What no donor may hold: the lesions, their blurred rim, and what lies beyond the CT."""
        return (ramp(self.lesion, self.spacing_mm, KEPT_FROM_LESION_MM) > 0) | ~self.inside

    @cached_property
    def thick(self) -> np.ndarray:
        """Where the middle of something larger than a vessel is."""
        depth_mm = ndimage.distance_transform_edt(self.hu > DENSE_HU, sampling=self.spacing_mm)
        thick: np.ndarray = depth_mm > THICK_MM
        return thick

    def thick_share(self, around: EditSurroundings) -> float:
        """How much of the lesion's surroundings is such."""
        here = tuple(slice(self.reach, self.reach + side) for side in around.hu.shape)
        return float((around.weight * self.thick[here]).sum() / around.weight.sum())


@dataclass(frozen=True, eq=False)
class EditSurroundings:
    """What a donor has to fit. All (Z, Y, X): hu; weight: 1 at the edit region, 0 `RING_MM` from it."""

    hu: np.ndarray
    weight: np.ndarray
    editable: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, rois: RoiBatch, k: int) -> EditSurroundings | None:
        """None where the CT has too little of them."""
        editable = rois.editable[k]
        weight = ramp(editable, rois.spacing_mm, RING_MM) * ~editable
        if (weight * rois.inside[k]).sum() <= LEAST_RING * weight.sum():
            return None
        hu = np.clip(rois.reference_hu[k], *COMPARED_HU)
        return cls(hu, weight * rois.inside[k], editable, rois.mask[k] > 0)

    def flip(self, mirrored: Sequence[bool]) -> EditSurroundings:
        axes = tuple(axis for axis in range(3) if mirrored[axis])
        arrays = (self.hu, self.weight, self.editable, self.mask)
        return EditSurroundings(*(np.flip(array, axes) for array in arrays))


@dataclass(frozen=True)
class DonorPlace:
    """Where a donor may come from: its first voxel in the field."""

    start: tuple[int, int, int]
    mirrored: tuple[bool, bool, bool]
    misfit_hu: float


@dataclass(frozen=True, eq=False)
class Donated:
    """What each lesion gets for each seed. donors, fine_hu: (V, L) nested; None where nothing fits.

    fine_hu: per donor, what of the CT is finer than the ROI where it comes from, on the lesion's edit box.
    hu: (V, L, Z, Y, X) float32, healthy tissue to start from; NaN where none fits.
    """

    donors: list[list[Donor | None]]
    fine_hu: list[list[np.ndarray | None]]
    hu: np.ndarray

    def remarks(self, variant: int) -> tuple[str, ...]:
        """For each lesion, where its healthy tissue comes from."""
        told = [NOTHING_FITS if donor is None else donor.told for donor in self.donors[variant]]
        if len(told) == 1:
            return (f"Healthy tissue: {told[0]}.",)
        return tuple(f"Healthy tissue of region {k}: {text}." for k, text in enumerate(told, start=1))


def find_donors(lesions: Lesions, grids: Sequence[RoiGrid], rois: RoiBatch, seeds: Sequence[int]) -> Donated:
    """Seed 0 gets the best donor of each ROI, seed 1 the next best, and so on, over and over."""
    found = [donors(Field.around(lesions, grid), rois, k) for k, grid in enumerate(grids)]
    fine = [
        [_detail(lesions, box, grid, donor) for donor in few]
        for box, grid, few in zip(lesions.edit_boxes, grids, found, strict=True)
    ]
    none = np.full(rois.reference_hu.shape[1:], np.nan, np.float32)
    rows = [[few[seed % len(few)] if few else None for few in found] for seed in seeds]
    details = [[few[seed % len(few)] if few else None for few in fine] for seed in seeds]
    hu = np.stack([np.stack([none if donor is None else donor.hu for donor in row]) for row in rows])
    return Donated(rows, details, hu)


def _detail(lesions: Lesions, box: Box, grid: RoiGrid, donor: Donor) -> np.ndarray:
    """See `Lesions.details`, at the donor's place and turned like it."""
    moved, steps = [], np.rint(np.array(donor.offset_mm) / lesions.spacing_mm).astype(int)
    for part, step, size in zip(box, steps, lesions.view.shape, strict=True):
        moved.append(int(np.clip(step, -part.start, size - part.stop)))
    there = box_of((part.start + m, part.stop + m) for part, m in zip(box, moved, strict=True))
    z, y, x = (mm + m * step for mm, m, step in zip(grid.origin_mm, moved, lesions.spacing_mm, strict=True))
    beside = replace(grid, origin_mm=(z, y, x))
    detail = lesions.detail(there, beside, to_roi(lesions.view, lesions.spacing_mm, beside))
    return np.flip(detail, donor.axes)


def donors(field: Field, rois: RoiBatch, k: int) -> tuple[Donor, ...]:
    """The donors of ROI k, at most `MOST_DONORS`, and none much worse than the best."""
    around = EditSurroundings.of(rois, k)
    if around is None:
        return ()
    return tuple(_cut(field, around, place) for place in best_places(misfits(field, around), field))


def misfits(field: Field, around: EditSurroundings) -> Iterator[tuple[tuple[bool, bool, bool], np.ndarray]]:
    """For each mirror image the misfit in HU of every shift, infinite where the piece will not do.

    Mirror images that fit nowhere between lesions and the CT's ends are left out.

    sum w (S - T)^2 = S^2 * w - 2 S * wT + sum w T^2, with * the correlation, exact for all shifts at once.
    """
    hu = np.clip(field.hu, *COMPARED_HU)
    level = np.median(around.hu[around.weight > 0])  # numbers near 0 keep their last digits
    shape = [fft.next_fast_len(side, real=True) for side in hu.shape]
    spectra = [
        fft.rfftn(np.float32(array), shape)
        for array in (hu - level, (hu - level) ** 2, field.forbidden, field.thick)
    ]
    kept = tuple(slice(0, 2 * field.reach + 1) for _ in range(3))
    most_thick = max(MOST_THICK, field.thick_share(around)) * around.mask.sum() + 0.5

    def spectrum(template: np.ndarray) -> np.ndarray:
        transformed: np.ndarray = np.conj(fft.rfftn(np.float32(template), shape))
        return transformed

    for z, y, x in product((False, True), repeat=3):
        turned = around.flip((z, y, x))
        fits = fft.irfftn(spectra[2] * spectrum(turned.editable), shape)[kept] < 0.5
        if not fits.any():
            continue
        fits &= fft.irfftn(spectra[3] * spectrum(turned.mask), shape)[kept] <= most_thick
        weight, target = turned.weight, turned.hu - level
        squares = spectra[1] * spectrum(weight) - 2 * spectra[0] * spectrum(weight * target)
        total = fft.irfftn(squares, shape)[kept] + (weight * target**2).sum()
        yield (z, y, x), np.where(fits, np.sqrt(np.clip(total, 0, None) / weight.sum()), np.inf)


def best_places(
    found: Iterator[tuple[tuple[bool, bool, bool], np.ndarray]], field: Field
) -> list[DonorPlace]:
    """The best few of all mirror images, no two near each other."""
    every = sorted((p for mirrored, misfit in found for p in _minima(misfit, mirrored, field)), key=_order)
    chosen: list[DonorPlace] = []
    for place in every:
        if place.misfit_hu > min(WORST_MISFIT_HU, NEARLY_AS_GOOD * every[0].misfit_hu):
            break
        if all(_apart_mm(place, other, field) >= APART_MM for other in chosen):
            chosen.append(place)
    return chosen[:MOST_DONORS]


def _order(place: DonorPlace) -> tuple[float, tuple[bool, ...], tuple[int, ...]]:
    return round(place.misfit_hu, 6), place.mirrored, place.start


def _apart_mm(a: DonorPlace, b: DonorPlace, field: Field) -> float:
    return float(np.linalg.norm(np.subtract(a.start, b.start)) * field.spacing_mm)


def _minima(misfit: np.ndarray, mirrored: tuple[bool, bool, bool], field: Field) -> list[DonorPlace]:
    """The best places of one mirror image: each time the best, and nothing near it any more."""
    misfit = misfit.copy()
    found: list[DonorPlace] = []
    near = int(APART_MM / field.spacing_mm)
    while len(found) < MOST_DONORS:
        start = np.unravel_index(np.argmin(misfit), misfit.shape)
        value = float(misfit[start])
        if not np.isfinite(value):
            break
        z, y, x = (int(s) for s in start)
        found.append(DonorPlace((z, y, x), mirrored, value))
        misfit[tuple(slice(max(s - near, 0), s + near + 1) for s in (z, y, x))] = np.inf
    return found


def _cut(field: Field, around: EditSurroundings, place: DonorPlace) -> Donor:
    piece = tuple(slice(s, s + n) for s, n in zip(place.start, around.hu.shape, strict=True))
    axes = tuple(axis for axis in range(3) if place.mirrored[axis])
    hu = np.flip(field.hu[piece], axes)
    z, y, x = ((s - field.reach) * field.spacing_mm for s in place.start)
    return Donor(level_lung(hu, around, field.spacing_mm), (z, y, x), place.mirrored, place.misfit_hu)


def level_lung(hu: np.ndarray, around: EditSurroundings, spacing_mm: float) -> np.ndarray:
    """The piece as dense as its new surroundings: lung is denser where it lies lower in the patient.

    hu: (Z, Y, X). What differs in the ring, where both are lung, is spread smoothly over the piece and taken
    off.
    """
    lung = around.weight * ((around.hu < AIRY_HU) & (hu < AIRY_HU))
    difference = np.clip(around.hu - hu, -MOST_LEVELLING_HU, MOST_LEVELLING_HU)
    sigma = LEVELLING_MM / spacing_mm
    share, total = (ndimage.gaussian_filter(array, sigma) for array in (lung, lung * difference))
    return (hu + total / np.maximum(share, 1e-6)).astype(np.float32)
