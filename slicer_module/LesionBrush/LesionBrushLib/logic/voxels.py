"""Voxels and grids of volume nodes as numpy arrays. numpy axes are (k, j, i), the order of VTK's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .problems import NotACT, NotReady

INT16 = np.iinfo(np.int16)
SAME_MM = 1e-3
"""Two grids whose voxels lie closer than this are one."""
WHOLE_HU = 1e-3
"""How far a stored value may be from a whole number: what a rescale slope does in float32."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie. shape_ijk: voxels along I, J, K; ijk_to_ras: (4, 4), mm; no parent transforms."""

    shape_ijk: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @classmethod
    def of(cls, volume: Any) -> Grid:
        """The grid of a volume node. NotReady when it holds no voxels."""
        image = volume.GetImageData()
        if image is None or not image.GetNumberOfPoints():
            raise NotReady(f"{volume.GetName()} holds no voxels: load the CT again")
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        i, j, k = image.GetDimensions()
        return cls((i, j, k), to_numpy(matrix))

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) voxel edges along I, J, K."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    def part(self, offset_ijk: tuple[int, int, int], shape_ijk: tuple[int, int, int]) -> Grid:
        """The grid of a box of these voxels."""
        moved = self.ijk_to_ras.copy()
        moved[:3, 3] += moved[:3, :3] @ np.array(offset_ijk, dtype=float)
        return Grid(shape_ijk, moved)

    def ijk(self, ras_mm: np.ndarray) -> np.ndarray:
        """(3,) continuous voxel index of a point of the volume's own RAS, mm."""
        return (np.linalg.inv(self.ijk_to_ras) @ np.append(ras_mm, 1.0))[:3]

    def ras(self, ijk: np.ndarray) -> np.ndarray:
        """(3,) RAS, mm, of a voxel index."""
        return (self.ijk_to_ras @ np.append(ijk, 1.0))[:3]

    def same(self, other: Grid) -> bool:
        """Whether the corners of two grids lie in the same places."""
        if self.shape_ijk != other.shape_ijk:
            return False
        corner = np.array(self.shape_ijk) - 1
        corners = (0 * corner, *np.diag(corner))
        return all(np.abs(self.ras(at) - other.ras(at)).max() < SAME_MM for at in corners)


def to_numpy(matrix: Any) -> np.ndarray:
    """(4, 4) float64 of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_vtk(matrix: np.ndarray) -> Any:
    made = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            made.SetElement(row, column, float(matrix[row, column]))
    return made


def stored_array(volume: Any) -> np.ndarray:
    """(k, j, i) view of a scalar volume's memory: no copy. NotACT for colour and vector images."""
    i, j, k = Grid.of(volume).shape_ijk
    scalars = volume.GetImageData().GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfComponents() != 1:
        raise NotACT(
            f"{volume.GetName()} is a colour or vector image: choose a CT, which has one value per voxel"
        )
    return vtk_to_numpy(scalars).reshape(k, j, i)


def hu_array(volume: Any) -> np.ndarray:
    """(k, j, i) int16 HU; a view of the volume's memory when it is stored as int16, else an exact copy.

    Raises NotACT (values that are no whole numbers, beyond int16, or never below 0), NotReady (no voxels).
    """
    array = stored_array(volume)
    low, high = array.min(), array.max()
    name = volume.GetName()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotACT(f"{name} holds NaN or infinite values: load the CT itself, not a computed volume")
    if low < INT16.min or high > INT16.max:
        raise NotACT(f"{name} holds values from {low:g} to {high:g}, which are no HU: choose a CT")
    if low >= 0:
        raise NotACT(
            f"{name} has no value below 0 (lowest {low:g}), yet air is near -1000 HU: choose a CT in HU"
        )
    if array.dtype == np.int16:
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.int16)
    return _rounded(array, name)


def _rounded(array: np.ndarray, name: str) -> np.ndarray:
    whole_hu = np.empty(array.shape, np.int16)
    for k, part in enumerate(array):  # slice by slice: a float copy of a whole CT is 600 MB
        whole = np.rint(part)
        stray = np.abs(part - whole)
        if stray.max() > WHOLE_HU:
            raise NotACT(
                f"{name} holds values that are not whole HU (for example {part.flat[stray.argmax()]:g}): "
                "cast the volume to short first"
            )
        whole_hu[k] = whole
    return whole_hu


def image_data(array_kji: np.ndarray) -> Any:
    """A vtkImageData with its own copy of the array; spacing and origin are left to the node."""
    k, j, i = array_kji.shape
    image = vtk.vtkImageData()
    image.SetDimensions(i, j, k)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image
