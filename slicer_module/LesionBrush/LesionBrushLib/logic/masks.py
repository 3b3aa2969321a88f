"""From painted segments to voxels on the grid of the CT, and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .problems import EmptyMask, NotReady
from .voxels import Grid, to_numpy, to_vtk

BINARY = "Binary labelmap"


@dataclass(frozen=True, eq=False)
class Place:
    """A grid in the space of a node. name: of what lies there, for the user."""

    grid: Grid
    node: Any
    name: str

    @classmethod
    def of(cls, node: Any) -> Place:
        """That of a volume, or the one a segmentation was made on. Raises NotReady where there is none."""
        if not is_segmentation(node):
            return cls(Grid.of(node), node, node.GetName())
        image, converter = slicer.vtkOrientedImageData(), slicer.vtkSegmentationConverter
        said = node.GetSegmentation().GetConversionParameter(
            converter.GetReferenceImageGeometryParameterName()
        )
        if not said or not converter.DeserializeImageGeometry(said, image, False):
            raise NotReady(
                f"{node.GetName()} has no grid: choose a segmentation made on a CT, or a label volume"
            )
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        extent = image.GetExtent()
        low, shape = extent[::2], [extent[2 * n + 1] - extent[2 * n] + 1 for n in range(3)]
        i, j, k = (int(n) for n in shape)
        return cls(Grid((i, j, k), to_numpy(matrix)).part(low, (i, j, k)), node, node.GetName())


def is_segmentation(node: Any) -> bool:
    return bool(node.IsA("vtkMRMLSegmentationNode"))


def segment_mask(segmentation: Any, segment_id: str, reference: Any) -> np.ndarray:
    """(k, j, i) uint8 0/1 of one segment on the grid of the reference volume.

    The segment may be painted on another grid, come as a surface, and both nodes may be under transforms; the
    nearest painted voxel counts. Neither node is changed. Raises NotReady (no such segment) and EmptyMask
    (nothing painted, or nothing of it inside the CT).
    """
    return whole(*segment_part(segmentation, segment_id, Place.of(reference)), Grid.of(reference))


def whole(part_kji: np.ndarray, first_ijk: tuple[int, int, int], grid: Grid) -> np.ndarray:
    """(k, j, i) uint8 on the grid: a box of it, which begins at this index, and 0 around."""
    mask = np.zeros(grid.shape_ijk[::-1], np.uint8)
    mask[box(part_kji, first_ijk)] = part_kji
    return mask


def box(part_kji: np.ndarray, first_ijk: tuple[int, int, int]) -> tuple[slice, ...]:
    """Where a part, which begins at this index, lies in a (k, j, i) array."""
    return tuple(slice(start, start + n) for start, n in zip(first_ijk[::-1], part_kji.shape))


def segment_part(segmentation: Any, segment_id: str, place: Place) -> tuple[np.ndarray, tuple[int, int, int]]:
    """`segment_mask`, but only a box with all of the segment, and the index (i, j, k) of its first voxel.

    Resampling a whole CT takes seconds, a box none.
    """
    name = _name(segmentation, segment_id)
    painted = _labelmap(segmentation, segment_id)
    if painted is None or not _any(painted):
        raise EmptyMask(f"{name} is empty: paint the lesion first")
    found = part_on_grid(painted, place.grid, between(segmentation, place.node))
    if found is None:
        raise EmptyMask(f"{name} lies outside {place.name}: paint on this CT, or choose the other one")
    return found


def part_on_grid(painted: Any, grid: Grid, transform: Any) -> tuple[np.ndarray, tuple[int, int, int]] | None:
    """A 0/1 vtkOrientedImageData on a box of the grid, as `segment_part`; None when nothing of it is there.

    transform: from its space to the grid's, None where they are the same.
    """
    low, high = reach(painted, grid, transform)
    if (low >= high).any():
        return None
    first = (int(low[0]), int(low[1]), int(low[2]))
    i, j, k = (int(n) for n in high - low)
    on_grid = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        painted, oriented(grid.part(first, (i, j, k))), on_grid, False, False, transform
    )
    part = (image_array(on_grid) != 0).astype(np.uint8)
    return (part, first) if part.any() else None


def reach(painted: Any, grid: Grid, transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-end index (i, j, k) of the voxels that the painted ones may touch, two to spare."""
    first, end = np.zeros(3, int), np.array(grid.shape_ijk)
    resample = slicer.vtkOrientedImageDataResample
    if transform is not None and not resample.IsTransformLinear(transform, vtk.vtkTransform()):
        return first, end
    extent = [0] * 6
    resample.CalculateEffectiveExtent(painted, extent)
    matrix = vtk.vtkMatrix4x4()
    painted.GetImageToWorldMatrix(matrix)
    corners = np.array(list(product(*((extent[2 * n] - 0.5, extent[2 * n + 1] + 0.5) for n in range(3)))))
    points = corners @ to_numpy(matrix)[:3, :3].T + to_numpy(matrix)[:3, 3]
    if transform is not None:
        points = np.array([transform.TransformPoint(*point) for point in points.tolist()])
    ijk = np.array([grid.ijk(point) for point in points])
    low = np.floor(ijk.min(axis=0)).astype(int) - 2
    high = np.ceil(ijk.max(axis=0)).astype(int) + 3
    return np.maximum(low, first), np.minimum(high, end)


def segment_labelmap_array(segmentation: Any, segment_id: str) -> np.ndarray | None:
    """(k, j, i) bool on the segment's own grid; None when there is no such segment or nothing in it."""
    if segmentation.GetSegmentation().GetSegment(segment_id) is None:
        return None
    image = _labelmap(segmentation, segment_id)
    return None if image is None or not _any(image) else image_array(image) != 0


def oriented(grid: Grid, array_kji: np.ndarray | None = None) -> Any:
    """A vtkOrientedImageData on the grid; uint8 0/1 from the array, or without voxels."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*grid.shape_ijk)
    image.SetImageToWorldMatrix(to_vtk(grid.ijk_to_ras))
    if array_kji is not None:
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array_kji).ravel(), deep=True))
    return image


def write_segment(
    segmentation: Any, segment_id: str, grid: Grid, mask_kji: np.ndarray, reference: Any
) -> None:
    """Make the segment hold exactly this mask, given on a part of the reference's grid.

    No other segment loses a voxel: where they overlap, this one moves to a layer of its own.
    """
    image = oriented(grid, mask_kji.astype(np.uint8))
    transform = between(reference, segmentation)
    if transform is not None:
        slicer.vtkOrientedImageDataResample.TransformOrientedImage(image, transform)
    _own_layer(segmentation, segment_id)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.SetBinaryLabelmapToSegment(image, segmentation, segment_id, logic.MODE_REPLACE):
        raise NotReady(f"{_name(segmentation, segment_id)} could not be written: choose another segmentation")


def segment_centre(segmentation: Any, segment_id: str, reference: Any) -> np.ndarray:
    """(3,) centre of mass of a segment in the reference's own RAS, mm. Raises as `segment_mask`."""
    part, first = segment_part(segmentation, segment_id, Place.of(reference))
    return Grid.of(reference).ras(np.argwhere(part).mean(axis=0)[::-1] + first)


def _own_layer(segmentation: Any, segment_id: str) -> None:
    data = segmentation.GetSegmentation()
    layer = data.GetLayerIndex(segment_id, BINARY)
    ids = [data.GetNthSegmentID(n) for n in range(data.GetNumberOfSegments())]
    if layer >= 0 and any(data.GetLayerIndex(other, BINARY) == layer for other in ids if other != segment_id):
        data.SeparateSegmentLabelmap(segment_id)


def _name(segmentation: Any, segment_id: str) -> str:
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise NotReady(f"{segmentation.GetName()} has no such segment any more: choose a segment")
    return str(segment.GetName())


def _labelmap(segmentation: Any, segment_id: str) -> Any:
    """0/1 image of the segment in the segmentation's own space, made from its surface if need be."""
    data = segmentation.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    if data.ContainsRepresentation(BINARY):
        segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
        return image
    made = slicer.vtkSlicerSegmentationsModuleLogic.CreateRepresentationForOneSegment(
        data, segment_id, BINARY
    )
    if made is None:
        return None
    image.DeepCopy(made)
    return image


def _any(image: Any) -> bool:
    return (
        image.GetNumberOfPoints() > 0
        and image.GetPointData().GetScalars() is not None
        and bool(image_array(image).any())
    )


def image_array(image: Any) -> np.ndarray:
    """(k, j, i) view of the voxels of a vtkImageData."""
    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def between(source: Any, target: Any) -> Any:
    """The transform from one node's space to another's; None when they share it."""
    start, end = source.GetParentTransformNode(), target.GetParentTransformNode()
    if start is end:
        return None
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(start, end, transform)
    return transform
