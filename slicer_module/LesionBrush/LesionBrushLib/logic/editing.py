"""Edits of the user's segmentation, each asked for by the user; and points in and out of transforms."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from .masks import segment_labelmap_array, write_segment
from .propose import Lesion
from .voxels import Grid

PROPOSAL_TAG = "LesionBrush.Proposal"
COLOUR = (0.0, 0.9, 0.9)
"""Cyan: nothing in a CT, and none of our other marks, looks like it."""


@dataclass(frozen=True)
class Proposal:
    """Where a proposed lesion went. cut: fraction of it that found no room in `where` and is left out."""

    segment_id: str
    voxels: int
    volume_ml: float
    cut: float
    where: str = "lung"


def new_segmentation(scene: Any, reference: Any) -> Any:
    """An empty segmentation on the grid of the CT, in its space, beside it in the subject hierarchy."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{reference.GetName()} lesion")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    return node


def new_segment(segmentation: Any) -> str:
    """ID of a new, empty segment called Lesion, Lesion 2, ..."""
    data = segmentation.GetSegmentation()
    names = {data.GetNthSegment(n).GetName() for n in range(data.GetNumberOfSegments())}
    wanted = ["Lesion", *(f"Lesion {n}" for n in range(2, len(names) + 3))]
    return str(data.AddEmptySegment("", next(name for name in wanted if name not in names), COLOUR))


def empty_segment(segmentation: Any, segment_id: str) -> bool:
    array = segment_labelmap_array(segmentation, segment_id)
    return array is None or not array.any()


def place(segmentation: Any, segment_id: str, lesion: Lesion, reference: Any) -> Proposal:
    """Write a proposed lesion into the segment, or into a new one when that holds something of the user's."""
    data = segmentation.GetSegmentation()
    if not (empty_segment(segmentation, segment_id) or _untouched(segmentation, segment_id)):
        segment_id = new_segment(segmentation)
    write_segment(segmentation, segment_id, lesion.grid, lesion.mask_kji, reference)
    segment = data.GetSegment(segment_id)
    segment.SetTag(PROPOSAL_TAG, _content(segmentation, segment_id))
    voxels = int(np.count_nonzero(lesion.mask_kji))
    return Proposal(segment_id, voxels, voxels * lesion.grid.voxel_ml, lesion.cut, lesion.where)


def to_volume_space(volume: Any, world_mm: np.ndarray) -> np.ndarray:
    """(3,) a point of the world in the volume's own RAS, below its parent transforms."""
    return _moved(volume, world_mm, slicer.vtkMRMLTransformNode.GetTransformBetweenNodes, False)


def to_world(volume: Any, own_mm: np.ndarray) -> np.ndarray:
    """(3,) the inverse of `to_volume_space`."""
    return _moved(volume, own_mm, slicer.vtkMRMLTransformNode.GetTransformBetweenNodes, True)


def _moved(volume: Any, point_mm: np.ndarray, between: Any, outward: bool) -> np.ndarray:
    parent = volume.GetParentTransformNode()
    if parent is None:
        return np.asarray(point_mm, dtype=float)
    transform = vtk.vtkGeneralTransform()
    between(*((parent, None) if outward else (None, parent)), transform)
    return np.array(transform.TransformPoint(*(float(mm) for mm in point_mm)))


def _untouched(segmentation: Any, segment_id: str) -> bool:
    """True when the segment still holds the very proposal we put there."""
    tag = vtk.reference("")
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    return bool(segment.GetTag(PROPOSAL_TAG, tag)) and str(tag) == _content(segmentation, segment_id)


def _content(segmentation: Any, segment_id: str) -> str:
    """A hash of where the segment's voxels are; it survives a change of the labelmap's extent."""
    array = segment_labelmap_array(segmentation, segment_id)
    if array is None:
        return ""
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
    first = np.array(image.GetExtent())[::2][::-1]
    return hashlib.sha256((np.argwhere(array) + first).astype("<i8").tobytes()).hexdigest()


__all__ = [
    "Grid",
    "Proposal",
    "empty_segment",
    "new_segmentation",
    "place",
    "to_volume_space",
    "to_world",
]
