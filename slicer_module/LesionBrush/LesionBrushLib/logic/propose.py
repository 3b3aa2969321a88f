"""A lesion mask at one point, for those who do not want to paint. Arrays are (k, j, i); no MRML."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .blob import SHAPES, Blob
from .problems import NotReady, OutsideLung, OutsideOrgan, Problem
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
"""A lesion that loses more than half of itself to what is around lung or organ is refused."""
MARGIN_MM = 3.0
"""What is kept between a lesion and the border of the segment it is put into."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """mask_kji: uint8 0/1 of a part of the CT; grid: of that part; cut: fraction of it that found no room;
    where: what it was cut to."""

    mask_kji: np.ndarray
    grid: Grid
    cut: float
    where: str = "lung"


@dataclass(frozen=True, eq=False)
class Organ:
    """A segment to put lesions into. mask_kji: bool, on the grid of the CT; name: for the user."""

    mask_kji: np.ndarray
    name: str


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


def propose(
    hu_kji: np.ndarray, grid: Grid, ras_mm: np.ndarray, wish: Wish, organ: Organ | None = None
) -> Lesion:
    """A lesion around a point of the volume's own RAS, cut to its lung, or to MARGIN_MM inside an organ.

    Equal arguments, equal masks. Raises OutsideLung or OutsideOrgan, with the reason, and NotReady for a
    size or shape nobody can have.
    """
    blob = Blob.random(wish.checked().size_mm, wish.shape, np.random.default_rng(wish.seed))
    centre = grid.ijk(np.asarray(ras_mm, dtype=float))
    nearest = np.rint(centre).astype(int)
    _require_place(hu_kji, grid, nearest, organ)
    low, high = _bounds(grid, nearest, blob.reach_mm + 2 * VESSEL_MM)
    place = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1]))
    offsets_mm = _offsets_mm(grid, centre, low, high)
    inside = blob.contains(offsets_mm)
    spacing_mm = grid.spacing_mm
    whole = _lung(hu_kji[place], spacing_mm) if organ is None else _closed(organ.mask_kji[place], spacing_mm)
    room = whole if organ is None else ~grown(~whole, spacing_mm, MARGIN_MM)
    kept = _connected(inside & room, nearest - low)
    cut = 1.0 - np.count_nonzero(kept) / max(1, np.count_nonzero(inside))
    if 1.0 - cut < LEAST_LEFT:
        depth_mm = np.linalg.norm(offsets_mm, axis=-1)[~whole].min(initial=np.inf)
        raise _no_room(wish, float(cut), organ, 2 * float(depth_mm - MARGIN_MM))
    i, j, k = (int(end - start) for start, end in zip(low, high))
    first = (int(low[0]), int(low[1]), int(low[2]))
    where = "lung" if organ is None else organ.name
    return Lesion(kept.astype(np.uint8), grid.part(first, (i, j, k)), float(cut), where)


def _no_room(wish: Wish, cut: float, organ: Organ | None, fits_mm: float) -> Problem:
    """fits_mm: the largest lesion that would keep its margin."""
    if organ is None:
        return OutsideLung(
            f"{100 * cut:.0f} % of a lesion of {wish.size_mm:g} mm would lie outside the lung here: "
            "move the crosshair away from the chest wall, or choose a smaller size"
        )
    fits = f"up to {fits_mm:.0f} mm fit here" if fits_mm >= SMALLEST_MM else "none fits here"
    return OutsideOrgan(
        f"a lesion of {wish.size_mm:g} mm does not fit into {organ.name} at the crosshair, {MARGIN_MM:g} mm "
        f"from its border ({fits}): move the crosshair to its middle, or choose a smaller size"
    )


def _require_place(hu_kji: np.ndarray, grid: Grid, nearest: np.ndarray, organ: Organ | None) -> None:
    outside = (nearest < 0).any() or (nearest >= grid.shape_ijk).any()
    if organ is None and outside:
        raise OutsideLung(
            "the crosshair is outside the CT: move it into the lung (hold Shift and move the mouse)"
        )
    if organ is None:
        _require_lung(hu_kji, grid, nearest)
        _require_body_around(hu_kji, grid, nearest)
    elif outside or not _closed_at(organ.mask_kji, grid, nearest):
        raise OutsideOrgan(
            f"the crosshair is not in {organ.name}: move it there (hold Shift and move the mouse), "
            "or paint anywhere to propose in lung"
        )


def _closed_at(mask_kji: np.ndarray, grid: Grid, nearest: np.ndarray) -> bool:
    """Whether a voxel is of the mask or of a vessel in it."""
    low, high = _bounds(grid, nearest, 2 * VESSEL_MM)
    part = mask_kji[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    i, j, k = nearest - low
    return bool(_closed(part, grid.spacing_mm)[k, j, i])


def _require_lung(hu_kji: np.ndarray, grid: Grid, nearest: np.ndarray) -> None:
    probed = near(hu_kji, grid, grid.ras(nearest), PROBE_MM)
    aerated = probed[probed < LUNG_HU]
    if 2 * aerated.size < probed.size:
        raise OutsideLung(
            f"the crosshair is not in aerated lung (median {np.median(probed):.0f} HU around it; lung is "
            f"below {LUNG_HU:.0f}): move it into the lung, or paint the lesion by hand"
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


def near(hu_kji: np.ndarray, grid: Grid, ras_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """(N,) HU of the voxels at most this far from a point of the volume's own RAS; none outside the CT."""
    nearest = np.rint(grid.ijk(np.asarray(ras_mm, dtype=float))).astype(int)
    if (nearest < 0).any() or (nearest >= grid.shape_ijk).any():
        return hu_kji[:0].ravel()
    low, high = _bounds(grid, nearest, radius_mm)
    distance_mm = np.linalg.norm(_offsets_mm(grid, nearest.astype(float), low, high), axis=-1)
    return hu_kji[low[2] : high[2], low[1] : high[1], low[0] : high[0]][distance_mm <= radius_mm]


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
    return _closed((hu_kji < LUNG_HU) & (hu_kji >= -2000), spacing_mm)


def _closed(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(k, j, i) bool: with vessels in it, or holes of their size."""
    return mask | ~grown(~grown(mask, spacing_mm, VESSEL_MM), spacing_mm, VESSEL_MM)


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
