"""All that a report of a chest CT says, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from lesionbrush.anatomy.chest.lobes import SIDES, find_carina_mm
from lesionbrush.anatomy.chest.masks import ChestMasks
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.anatomy.lung_steps.sides import LEFT, RIGHT
from lesionbrush.cohorts.truth import measure
from lesionbrush.core.volume import Array, Volume, mask_on_grid
from lesionbrush.reports.findings import ChestFindings, Measurement, NoduleFinding, Side, Texture
from lesionbrush.reports.thorax import find_dense, find_fluid, measure_heart

EMPHYSEMA_HU = -950
BY_NUMBER: tuple[tuple[int, Side], ...] = ((RIGHT, "right"), (LEFT, "left"))
TELLING_PERCENT = 5.0  # below that it does not matter whether noise does it
CUT_CM2 = 1.0
NOISE_WINDOW_MM, NOISE_SLICES = 9.0, 12
NOISE_TISSUE_HU = (0, 100)
SOLID_HU, SOLID_SHARE, GLASS_SHARE = -300, 0.7, 0.15
"""A nodule is solid from the first share of voxels above SOLID_HU on, ground glass below the second."""


def measure_chest(ct: Volume, masks: ChestMasks, lesions: Sequence[Volume] | None = None) -> ChestFindings:
    """ct: HU; lesions: masks on its grid, every label a nodule; None if nobody looked for any.

    Raises what `mask_on_grid` does (GeometryMismatch, EmptyMask, AmbiguousMask).
    """
    nodules = None if lesions is None else [part for mask in lesions for part in _parts(mask, ct)]
    grid = CoarseGrid.of(ct)
    lungs, airways = (grid.thin(one.array) for one in (masks.lungs, masks.main_airways))
    carina_mm = find_carina_mm(grid, airways > 0)
    heart, chest, ratio = _heart(grid, lungs, carina_mm)
    known = np.zeros(lungs.shape, bool)
    for one in nodules or ():
        known |= ndimage.binary_dilation(grid.thin(one.array) > 0, iterations=2)
    dense = find_dense(grid, (lungs > 0) & (airways == 0), known)
    noise = measure_noise(ct)
    right, left = (_lung_ml(masks.lungs, side) for side in (RIGHT, LEFT))
    return ChestFindings(
        right_lung_ml=right,
        left_lung_ml=left,
        laa950_percent=_low_attenuation(ct, masks, noise.value),
        heart_width_mm=heart,
        chest_width_mm=chest,
        cardiothoracic_ratio=ratio,
        effusion_right_ml=_effusion(grid, lungs == RIGHT, "right"),
        effusion_left_ml=_effusion(grid, lungs == LEFT, "left"),
        consolidation_ml=_value(np.count_nonzero(dense) * grid.voxel_ml, 1),
        airways_ml=_airways(masks),
        noise_hu=noise,
        slice_mm=round(ct.spacing_mm[_upward(ct)], 2),
        cut_lungs=tuple(side for number, side in BY_NUMBER if is_cut(masks.lungs, number)),
        nodules=None if nodules is None else _nodules(ct, masks, nodules),
        remarks=masks.remarks,
    )


def _value(value: float, digits: int) -> Measurement:
    return Measurement(value=round(float(value), digits))


def _upward(ct: Volume) -> int:
    return int(np.abs(ct.affine[2, :3]).argmax())


def _lung_ml(lungs: Volume, side: int) -> Measurement:
    voxels = np.count_nonzero(lungs.array == side)
    if not voxels:
        return Measurement(why_not=f"no {SIDES[side]} lung is found")
    return _value(voxels * lungs.voxel_volume_mm3 / 1000, 0)


def _low_attenuation(ct: Volume, masks: ChestMasks, noise_hu: float | None) -> Measurement:
    hu = ct.array[(masks.lungs.array > 0) & (masks.airways.labels.array == 0)]
    percent = 100 * np.count_nonzero(hu < EMPHYSEMA_HU) / max(hu.size, 1)
    of_noise = 100 * float(ndtr((EMPHYSEMA_HU - np.median(hu)) / noise_hu)) if noise_hu and hu.size else 0.0
    if percent >= TELLING_PERCENT and of_noise > percent / 2:
        why = f"{percent:.1f} % of it is below -950 HU, as noise of {noise_hu:.0f} HU alone would make it"
        return Measurement(why_not=why)
    return _value(percent, 2)


def _airways(masks: ChestMasks) -> Measurement:
    voxels = np.count_nonzero(masks.airways.labels.array)
    if not voxels:
        return Measurement(why_not="no trachea is found")
    return _value(voxels * masks.lungs.voxel_volume_mm3 / 1000, 1)


def _heart(
    grid: CoarseGrid, lungs: Array, carina_mm: float | None
) -> tuple[Measurement, Measurement, Measurement]:
    """Heart, chest, and one over the other."""
    why_not = ""
    found = None
    if carina_mm is None:
        why_not = "no carina is found, below which the heart begins"
    elif not all((lungs == side).any() for side in (RIGHT, LEFT)):
        why_not = "there is one lung only"
    elif (found := measure_heart(grid, lungs, carina_mm)) is None:
        why_not = "the lower end of the heart is not in the volume, or is not told from what is below it"
    if found is None:
        nothing = Measurement(why_not=why_not)
        return nothing, nothing, nothing
    ratio = _value(found.heart_mm / found.chest_mm, 3)
    return _value(found.heart_mm, 0), _value(found.chest_mm, 0), ratio


def is_cut(lungs: Volume, label: int) -> bool:
    """Whether a border of the volume cuts the lung of this label; one that is just touched does not."""
    inside, spacing_mm = lungs.array == label, lungs.spacing_mm
    return any(
        np.count_nonzero(inside.take(end, axis)) * np.delete(spacing_mm, axis).prod() / 100 > CUT_CM2
        for axis in range(3)
        for end in (0, -1)
    )


def _effusion(grid: CoarseGrid, lung: Array, side: str) -> Measurement:
    if not lung.any():
        return Measurement(why_not=f"no {side} lung is found")
    x_mm, y_mm, _ = grid.spacing_mm
    if np.count_nonzero(lung[:, :, 0]) * x_mm * y_mm / 100 > CUT_CM2:
        return Measurement(why_not=f"the base of the {side} lung is not in the volume")
    return _value(np.count_nonzero(find_fluid(grid, lung)) * grid.voxel_ml, 0)


def measure_noise(ct: Volume) -> Measurement:
    """The most frequent deviation in small windows of soft tissue (Christianson et al., AJR 2015)."""
    axis = _upward(ct)
    window = [max(3, round(NOISE_WINDOW_MM / mm)) for mm in np.delete(ct.spacing_mm, axis)]
    found: list[Array] = []
    for index in np.unique(np.linspace(0, ct.shape[axis] - 1, NOISE_SLICES).astype(int)):
        hu = ct.array.take(index, axis).astype(np.float64)
        mean = ndimage.uniform_filter(hu, window)
        variance = ndimage.uniform_filter(hu * hu, window) - mean * mean
        flat = (mean > NOISE_TISSUE_HU[0]) & (mean < NOISE_TISSUE_HU[1])
        count = int(np.prod(window))
        found.append(np.sqrt(np.maximum(variance[flat], 0) * count / (count - 1)))
    deviations = np.concatenate(found)
    if deviations.size < 1000:
        return Measurement(why_not="there is too little soft tissue in the volume")
    counts, edges = np.histogram(deviations, bins=np.arange(0, 151, 1.0))
    return _value(edges[ndimage.gaussian_filter1d(counts.astype(float), 1).argmax()] + 0.5, 1)


def _parts(mask: Volume, ct: Volume) -> list[Volume]:
    """A mask of 0 and 1 for each label. One that is none, mask_on_grid refuses."""
    values = np.unique(mask.array)
    labels = [int(value) for value in values if value > 0 and value == int(value)]
    return [mask_on_grid(mask, ct, label) for label in labels] if labels else [mask_on_grid(mask, ct)]


def _nodules(ct: Volume, masks: ChestMasks, nodules: Sequence[Volume]) -> tuple[NoduleFinding, ...]:
    all_of_them = np.zeros(ct.shape, np.uint8)
    for one in nodules:
        all_of_them |= one.array
    return tuple(_nodule(ct, masks, one.array > 0, all_of_them) for one in nodules)


def _nodule(ct: Volume, masks: ChestMasks, mask: Array, all_of_them: Array) -> NoduleFinding:
    counts = np.bincount(masks.lobes.labels.array[mask], minlength=len(LOBES) + 1)[1:]
    lobe = LOBES[int(counts.argmax()) + 1] if counts.any() else None
    return NoduleFinding(lobe=lobe, texture=texture_of(ct.array[mask]), truth=measure(ct, mask, all_of_them))


def texture_of(hu: Array) -> Texture:
    """Of the HU (N,) under a mask: by the share that is as dense as tissue."""
    share = np.count_nonzero(hu > SOLID_HU) / hu.size
    return "solid" if share >= SOLID_SHARE else "ground-glass" if share < GLASS_SHARE else "part-solid"
