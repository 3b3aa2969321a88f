"""What an image shows of a lesion, in closed form: no network, no random numbers.

Arrays are (Z, Y, X) at 1 mm unless a spacing is given; HU in, figures in HU, mm or without unit out. NaN: the
image does not show it, say because no lung touches the lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import marching_cubes, mesh_surface_area

from lesionbrush.evaluation.metrics import RING_MM, edit_region
from lesionbrush.evaluation.patches import Patch

LUNG_HU = -500.0
CALCIUM_HU = 200.0
SOFT_HU = -200.0
LEAST_VOXELS = 20
LEAST_CONTRAST_HU = 80.0


@dataclass(frozen=True)
class HuInMask:
    """HU statistics in the painted mask."""

    mean: float
    p10: float
    p90: float
    spread: float

    @classmethod
    def of(cls, hu: np.ndarray, inside: np.ndarray) -> HuInMask:
        """hu, inside (bool): equal shapes, any grid."""
        values = hu[inside].astype(np.float64)
        p10, p90 = np.percentile(values, [10, 90])
        return cls(float(values.mean()), float(p10), float(p90), float(values.std()))


def signed_distance_mm(inside: np.ndarray, spacing_mm: Sequence[float] | float = 1.0) -> np.ndarray:
    """To the surface of the mask in mm, negative inside; 0 nowhere (between the voxel centres)."""
    sampling = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (inside.ndim,))
    outside: np.ndarray = ndimage.distance_transform_edt(~inside, sampling=sampling)
    return outside - ndimage.distance_transform_edt(inside, sampling=sampling)


def lung_hu_around(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float] | float) -> float:
    """Median of the lung 2.5 to 6 mm outside the mask, NaN with fewer than `LEAST_VOXELS` voxels of it."""
    distance = signed_distance_mm(inside, spacing_mm)
    ring = hu[(distance > 2.5) & (distance <= 6)]
    lung = ring[ring < LUNG_HU]
    return float(np.median(lung)) if lung.size >= LEAST_VOXELS else float("nan")


def core_hu(hu: np.ndarray, inside: np.ndarray, distance_mm: np.ndarray) -> float:
    """Median HU of the inner quarter of the mask: the lesion's level, though it fill but half of it."""
    inner = inside & (distance_mm <= np.percentile(distance_mm[inside], 25))
    return float(np.median(hu[inner]))


def adherence_dice(
    hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float
) -> float:
    """Dice of the painted mask and what is dense in the edit region: above midway from lung to lesion.

    Only parts that touch the mask count, so a vessel beside it is no lesion. NaN without lung or contrast.
    """
    lung = lung_hu_around(hu, inside, spacing_mm)
    level = core_hu(hu, inside, signed_distance_mm(inside, spacing_mm))
    if not level - lung > LEAST_CONTRAST_HU:  # also when lung is NaN
        return float("nan")
    dense = (hu > (level + lung) / 2) & edit_region(inside, spacing_mm, margin_mm)
    parts, count = ndimage.label(dense)
    touching = np.unique(parts[inside & dense])
    found = np.isin(parts, touching[touching > 0]) if count else dense
    return float(2 * (found & inside).sum() / (found.sum() + inside.sum()))


def grain(hu: np.ndarray, where: np.ndarray, axes: Sequence[int] = (1, 2)) -> float:
    """Noise in HU: the robust deviation of second differences along `axes`, which passes over slopes.

    Both neighbours of a voxel have to be in `where`. White noise of deviation s gives s. NaN if too few.
    """
    found = []
    for axis in axes:
        middle = [slice(None)] * hu.ndim
        before, after = list(middle), list(middle)
        middle[axis], before[axis], after[axis] = slice(1, -1), slice(0, -2), slice(2, None)
        a, b, c = (hu[tuple(part)].astype(np.float64) for part in (before, middle, after))
        all_in = where[tuple(before)] & where[tuple(middle)] & where[tuple(after)]
        found.append((a - 2 * b + c)[all_in])
    steps = np.concatenate(found)
    return float(np.median(np.abs(steps)) / (0.6745 * np.sqrt(6))) if steps.size >= LEAST_VOXELS else np.nan


def border_noise_ratio(
    hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float
) -> float:
    """Noise power of the lung in the outer half of the edit region over that of the lung just outside it."""
    edit = edit_region(inside, spacing_mm, margin_mm)
    ring = edit_region(edit, spacing_mm, RING_MM) & ~edit
    distance, lung = signed_distance_mm(inside, spacing_mm), hu < LUNG_HU
    border = grain(hu, edit & (distance > margin_mm / 2) & lung)
    background = grain(hu, ring & lung)
    return float((border / background) ** 2) if background > 0 else float("nan")


def inner_grain(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Noise in HU in the middle of the lesion, 1 mm from its surface (all of it when it is too small)."""
    core = signed_distance_mm(inside, spacing_mm) < -1.0
    value = grain(hu, core)
    return value if np.isfinite(value) else grain(hu, inside)


def band_deviation(hu: np.ndarray, inside: np.ndarray, fine_mm: float = 1.2, coarse_mm: float = 2.5) -> float:
    """Deviation in HU between two Gaussians, 1.5 mm inside the surface of a 1 mm patch: mottle.

    NaN where the middle is too small. Blurs are in-plane: slices may be thick.
    """
    core = signed_distance_mm(inside) < -1.5
    if core.sum() < LEAST_VOXELS:
        return float("nan")
    image = np.where(inside, hu, np.median(hu[core])).astype(
        np.float64
    )  # the border's own slope is no mottle
    fine, coarse = (ndimage.gaussian_filter(image, (0, mm, mm)) for mm in (fine_mm, coarse_mm))
    return float((fine - coarse)[core].std())


def contact_share(
    hu: np.ndarray, real_hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float
) -> float:
    """Of the soft tissue in the real margin that goes on outside the edit region, the share that `hu` has.

    1: pleura, vessels and the mediastinum still touch the lesion; 0: lung all round. NaN without any.
    """
    edit = edit_region(inside, spacing_mm, margin_mm)
    soft = (real_hu > SOFT_HU) & ~inside
    parts, _ = ndimage.label(soft)
    lasting = np.unique(parts[soft & ~edit & edit_region(edit, spacing_mm, RING_MM)])
    touching = np.isin(parts, lasting[lasting > 0]) & edit
    return float((hu[touching] > SOFT_HU).mean()) if touching.sum() >= LEAST_VOXELS else float("nan")


class Surface:
    """A lesion beside lung, cut at half its contrast inside the mask grown by 1.5 mm."""

    def __init__(self, patch: Patch) -> None:
        self.patch = patch
        self.distance_mm = signed_distance_mm(patch.inside)
        lung = lung_hu_around(np.where(patch.known, patch.hu, 0), patch.inside, 1.0)
        self.lung_hu, self.level_hu = lung, core_hu(patch.hu, patch.inside, self.distance_mm)
        self.contrast_hu = self.level_hu - lung

    @property
    def shown(self) -> bool:
        """Whether there is enough contrast to see a surface at all."""
        return bool(self.contrast_hu > LEAST_CONTRAST_HU)

    def profile(self, distances_mm: np.ndarray) -> np.ndarray:
        """Median HU at each distance (+-0.5 mm) from the mask's surface, in known voxels that face lung."""
        facing = self._facing_lung() & self.patch.known
        out = []
        for middle in distances_mm:
            shell = self.patch.hu[facing & (np.abs(self.distance_mm - middle) <= 0.5)]
            out.append(float(np.median(shell)) if shell.size >= LEAST_VOXELS // 2 else np.nan)
        return np.array(out)

    def _facing_lung(self) -> np.ndarray:
        """Voxels within 5 mm of the surface from which the way out leads into lung within 5 mm."""
        dark = self.patch.known & (self.patch.hu < self.lung_hu + 0.35 * self.contrast_hu)
        beyond = dark & (self.distance_mm > 2) & (self.distance_mm <= 5)
        near: np.ndarray = ndimage.distance_transform_edt(~beyond) <= 5
        return near

    def edge_slope(self) -> float:
        """Mean fall of HU per mm across the border facing lung, as a share of the contrast: sharpness."""
        if not self.shown:
            return float("nan")
        blurred = ndimage.gaussian_filter(self.patch.hu.astype(np.float64), 0.7)
        steepness = np.sqrt(sum(np.gradient(blurred, axis=axis) ** 2 for axis in range(3)))
        band = (np.abs(self.distance_mm) <= 2) & self._facing_lung() & self.patch.known
        if band.sum() < LEAST_VOXELS:
            return float("nan")
        return float(np.percentile(steepness[band], 75) / self.contrast_hu)

    def body(self, smooth_mm: float = 0.0, reach_mm: float = 1.5) -> np.ndarray:
        """bool: the largest dense part within `reach_mm` of the mask. smooth_mm: of a blur before the cut."""
        hu = ndimage.gaussian_filter(self.patch.hu, smooth_mm) if smooth_mm else self.patch.hu
        dense = (hu > self.lung_hu + 0.5 * self.contrast_hu) & (self.distance_mm <= reach_mm)
        parts, count = ndimage.label(dense)
        if not count:
            return dense
        largest: np.ndarray = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        return largest

    def spikes(self) -> float:
        """Surface of the lesion over that of a ball of its volume, out to 3 mm from the mask: 1 is a ball."""
        body = np.pad(self.body(reach_mm=3.0), 1) if self.shown else np.zeros((1, 1, 1), bool)
        if body.sum() < LEAST_VOXELS:
            return float("nan")
        corners, faces, _, _ = marching_cubes(body.astype(np.float32), 0.5)
        ball = np.pi ** (1 / 3) * (6 * body.sum()) ** (2 / 3)
        return float(mesh_surface_area(corners, faces) / ball)

    def lobes(self) -> float:
        """Share of the convex hull that the smoothed lesion leaves empty: 0 for anything convex."""
        if not self.shown:
            return float("nan")
        return _hollow(self.body(smooth_mm=1.0))


def _hollow(body: np.ndarray) -> float:
    places = np.argwhere(body)
    if len(places) < LEAST_VOXELS or (np.ptp(places, axis=0) < 2).any():
        return float("nan")
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
    return float(1 - len(places) / ConvexHull((places[:, None] + corners).reshape(-1, 3)).volume)


def calcium_share(hu: np.ndarray, inside: np.ndarray) -> float:
    """Share of the mask above `CALCIUM_HU`."""
    return float((hu[inside] > CALCIUM_HU).mean())


def difference_hu(hu: np.ndarray, inside: np.ndarray) -> float:
    """Mean of |hu(z + 1) - hu(z)| where both are inside; axes (z, y, x). NaN when there is no such pair."""
    both = inside[1:] & inside[:-1]
    return float(np.abs(np.diff(hu, axis=0))[both].mean()) if both.any() else float("nan")
