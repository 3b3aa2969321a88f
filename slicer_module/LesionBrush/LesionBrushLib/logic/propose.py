"""A lesion mask at one point, for those who do not want to paint. Arrays are (k, j, i); no MRML."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .blob import SHAPES, Blob
from .problems import NotReady, OutsideLung
from .voxels import Grid

LUNG_HU = -400.0
"""Below it: aerated lung, or air."""
AIR_HU = -970.0
"""Below it: the airways, the bowel, or the room."""
VESSEL_MM = 3.0
"""Vessels up to twice this thickness count as lung."""
WALL_HU, WALL_MM = -300.0, 4.0
"""What a chest wall is at least, however thin the patient."""
PROBE_MM = 4.0
"""Radius of the ball that says whether a point is in lung."""
SMALLEST_MM, LARGEST_MM = 3.0, 80.0
LEAST_LEFT = 0.5
"""A lesion that loses more than half of itself to the chest wall is refused."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """mask_kji: uint8 0/1 of a part of the CT; grid: of that part; cut: fraction of it that was not lung."""

    mask_kji: np.ndarray
    grid: Grid
    cut: float


@dataclass(frozen=True)
class Wish:
    """What is asked for. size_mm: the diameter of a ball of the same volume; shape: see SHAPES."""

    size_mm: float
    seed: int
    shape: str = "lobulated"

    def checked(self) -> Wish:
        if self.shape not in SHAPES:
            raise NotReady(f"unknown shape {self.shape!r}: choose one of {', '.join(SHAPES)}")
        if not SMALLEST_MM <= self.size_mm <= LARGEST_MM:
            raise NotReady(
                f"a lesion of {self.size_mm:g} mm cannot be proposed: "
                f"choose {SMALLEST_MM:g} to {LARGEST_MM:g} mm"
            )
        return self


def propose(hu_kji: np.ndarray, grid: Grid, ras_mm: np.ndarray, wish: Wish) -> Lesion:
    """A lesion around a point of the volume's own RAS, cut to its lung. Equal arguments, equal masks.

    Raises OutsideLung, with the reason, and NotReady for a size or shape nobody can have.
    """
    blob = Blob.random(wish.checked().size_mm, wish.shape, np.random.default_rng(wish.seed))
    centre = grid.ijk(np.asarray(ras_mm, dtype=float))
    nearest = np.rint(centre).astype(int)
    if (nearest < 0).any() or (nearest >= grid.shape_ijk).any():
        raise OutsideLung(
            "the crosshair is outside the CT: move it into the lung (hold Shift and move the mouse)"
        )
    _require_lung(hu_kji, grid, nearest)
    _require_body_around(hu_kji, grid, nearest)
    low, high = _bounds(grid, nearest, blob.reach_mm + 2 * VESSEL_MM)
    part = hu_kji[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    inside = blob.contains(_offsets_mm(grid, centre, low, high))
    kept = inside & _lung(part, grid.spacing_mm)
    kept = _connected(kept, nearest - low)
    cut = 1.0 - np.count_nonzero(kept) / max(1, np.count_nonzero(inside))
    if 1.0 - cut < LEAST_LEFT:
        raise OutsideLung(
            f"{100 * cut:.0f} % of a lesion of {wish.size_mm:g} mm would lie outside the lung here: "
            "move the crosshair away from the chest wall, or choose a smaller size"
        )
    i, j, k = (int(end - start) for start, end in zip(low, high))
    first = (int(low[0]), int(low[1]), int(low[2]))
    return Lesion(kept.astype(np.uint8), grid.part(first, (i, j, k)), float(cut))


def _require_lung(hu_kji: np.ndarray, grid: Grid, nearest: np.ndarray) -> None:
    low, high = _bounds(grid, nearest, PROBE_MM)
    part = hu_kji[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    distance_mm = np.linalg.norm(_offsets_mm(grid, nearest.astype(float), low, high), axis=-1)
    near = part[distance_mm <= PROBE_MM]
    aerated = near[near < LUNG_HU]
    if 2 * aerated.size < near.size:
        raise OutsideLung(
            f"the crosshair is not in aerated lung (median {np.median(near):.0f} HU around it; lung is below "
            f"{LUNG_HU:.0f}): move it into the lung, or paint the lesion by hand"
        )
    if np.median(aerated) < AIR_HU:
        raise OutsideLung(
            f"the crosshair is in air (median {np.median(aerated):.0f} HU around it), an airway or outside "
            "the patient: move it into the lung"
        )


def _require_body_around(hu_kji: np.ndarray, grid: Grid, nearest: np.ndarray, rays: int = 16) -> None:
    """Blankets and cushions have the HU of lung, but no body on nearly all sides of them."""
    hit = 0
    step_mm = float(grid.spacing_mm.min())
    for angle in np.arange(rays) * (2 * np.pi / rays):
        direction = np.linalg.inv(grid.ijk_to_ras[:3, :3]) @ (np.cos(angle), np.sin(angle), 0.0)
        steps = np.arange(1, int(500 / step_mm)) * step_mm
        ijk = np.rint(nearest + steps[:, None] * direction).astype(int)
        ijk = ijk[((ijk >= 0) & (ijk < grid.shape_ijk)).all(axis=1)]
        tissue = hu_kji[ijk[:, 2], ijk[:, 1], ijk[:, 0]] > WALL_HU
        runs = (
            np.convolve(tissue, np.ones(max(2, round(WALL_MM / step_mm))), "valid") if tissue.size else tissue
        )
        hit += bool(runs.size and runs.max() >= max(2, round(WALL_MM / step_mm)))
    if hit < 0.8 * rays:
        raise OutsideLung(
            "the crosshair is not enclosed by the body, so this is no lung: move it into the lung, "
            "or paint the lesion by hand"
        )


def _bounds(grid: Grid, nearest: np.ndarray, reach_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-end index (i, j, k) of the box this far around a voxel, clipped to the CT."""
    grow = np.ceil(reach_mm / grid.spacing_mm).astype(int)
    return np.maximum(nearest - grow, 0), np.minimum(nearest + grow + 1, grid.shape_ijk)


def _offsets_mm(grid: Grid, centre: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(k, j, i, 3) RAS, mm, of voxel centres from `centre` (continuous index)."""
    i, j, k = (np.arange(start, end) - at for start, end, at in zip(low, high, centre))
    kk, jj, ii = np.meshgrid(k, j, i, indexing="ij")
    return np.stack((ii, jj, kk), axis=-1) @ grid.ijk_to_ras[:3, :3].T


def _lung(hu_kji: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Aerated voxels, with vessels closed: grown by VESSEL_MM, then shrunk by as much."""
    aerated = (hu_kji < LUNG_HU) & (hu_kji >= -2000)
    return aerated | ~grown(~grown(aerated, spacing_mm, VESSEL_MM), spacing_mm, VESSEL_MM)


def grown(mask: np.ndarray, spacing_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """(k, j, i) bool: voxels whose centre is at most this far from the centre of one of the mask.

    The exact distance, axis by axis, and no further than needed; VTK's vtkImageEuclideanDistance is wrong
    where voxels are no cubes, and not every 3D Slicer has scipy.
    """
    squared = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, mm in enumerate(spacing_mm[::-1]):
        nearest = squared.copy()
        for steps in range(1, min(int(radius_mm / mm + 1e-6), mask.shape[axis] - 1) + 1):
            away = np.float32((steps * mm) ** 2)
            first, last = _ends(axis, steps)
            np.minimum(nearest[first], squared[last] + away, out=nearest[first])
            np.minimum(nearest[last], squared[first] + away, out=nearest[last])
        squared = nearest
    return squared <= radius_mm**2 + 1e-6


def _ends(axis: int, steps: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All but the last, and all but the first `steps` places along an axis."""
    first, last = [slice(None)] * 3, [slice(None)] * 3
    first[axis], last[axis] = slice(None, -steps), slice(steps, None)
    return tuple(first), tuple(last)


def _connected(mask: np.ndarray, seed_ijk: np.ndarray) -> np.ndarray:
    """The part of the mask that holds the seed; all of it when the seed is not in it."""
    i, j, k = (int(at) for at in seed_ijk)
    if not mask[k, j, i]:
        return mask
    points = vtk.vtkPoints()
    points.InsertNextPoint(i, j, k)
    filled = vtk.vtkImageThresholdConnectivity()
    filled.SetInputData(_image(mask.astype(np.uint8)))
    filled.SetSeedPoints(points)
    filled.ThresholdBetween(1, 1)
    filled.ReplaceInOn()
    filled.SetInValue(1)
    filled.ReplaceOutOn()
    filled.SetOutValue(0)
    filled.Update()
    return vtk_to_numpy(filled.GetOutput().GetPointData().GetScalars()).reshape(mask.shape) > 0


def _image(array_kji: np.ndarray) -> vtk.vtkImageData:
    k, j, i = array_kji.shape
    image = vtk.vtkImageData()
    image.SetDimensions(i, j, k)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image
