"""Volumes that steer a synthesis beside CT and mask: the nodes chosen, by the names in a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from ..client.uploads import Upload, ct_upload, mask_upload
from .editing import empty_segment
from .masks import between, image_array, oriented, part_on_grid, reach, segment_part, whole
from .parameters import Parameters
from .problems import EmptyMask, NotReady
from .voxels import Grid, hu_array, stored_array

KNOWN = ("lungs", "anatomy", "pathology", "pathology_mask")
AIR_HU = -1000
SAME_MM = 1e-3
"""Two grids whose voxels lie closer than this are one."""


@dataclass(frozen=True, eq=False)
class Steering:
    """One volume, copied. array_kji: int16 HU, or uint8 0/1 of a mask."""

    array_kji: np.ndarray
    grid: Grid

    def upload(self) -> Upload:
        """As NIfTI; a mask is cut to its bounding box."""
        make = mask_upload if self.array_kji.dtype == np.uint8 else ct_upload
        return make(self.array_kji.T, self.grid.ijk_to_ras)


def missing_inputs(chosen: Parameters, taken: Sequence[str]) -> list[str]:
    """What has to be chosen before a synthesis with a model that takes these, as sentences."""
    if not {"pathology", "pathology_mask"} <= set(taken):
        return []
    if chosen.pathology is not None and chosen.pathology_mask is None:
        return ["choose the lesion in the pathology CT (Pathology mask), or none as Pathology CT"]
    if chosen.pathology is None and chosen.pathology_mask is not None:
        return ["choose the CT of the pathology mask (Pathology CT), or none as Pathology mask"]
    return []


def exported(chosen: Parameters, taken: Sequence[str]) -> dict[str, Steering]:
    """Main thread. What was chosen of what the model takes; lungs and anatomy on the grid of the CT.

    Raises NotReady (half of a pair, several lesions), NotACT, EmptyMask.
    """
    for lacking in missing_inputs(chosen, taken):
        raise NotReady(lacking)
    makers = {
        "lungs": lambda node: _mask(node, chosen.reference, _lung_segments(node), several=True),
        "anatomy": lambda node: _anatomy(node, chosen.reference),
        "pathology": lambda node: Steering(np.array(hu_array(node)), Grid.of(node)),
        "pathology_mask": lambda node: _mask(node, chosen.pathology, _shown_segments(node), several=False),
    }
    nodes = {name: getattr(chosen, name) for name in KNOWN if name in taken}
    return {name: makers[name](node) for name, node in nodes.items() if node is not None}


def _mask(node: Any, volume: Any, segments: Sequence[str], several: bool) -> Steering:
    """Segments together, or a label volume, on the grid of a volume. several: there may be more than one."""
    found = len(segments) if _is_segmentation(node) else len(np.unique(stored_array(node)[_labels(node)]))
    name = node.GetName()
    if found > 1 and not several:
        raise NotReady(f"{name} holds {found} lesions: hide all segments, or remove all labels, but one")
    if found == 0:
        raise EmptyMask(f"{name} is empty, or all of it is hidden: choose another, or none")
    if _is_segmentation(node):
        parts = [segment_part(node, segment, volume) for segment in segments]
        grid = Grid.of(volume)
        mask = np.zeros(grid.shape_ijk[::-1], np.uint8)
        for part, first in parts:
            mask |= whole(part, first, grid)
        return Steering(mask, grid)
    return _label_volume(node, volume)


def _label_volume(node: Any, volume: Any) -> Steering:
    grid, own = Grid.of(volume), Grid.of(node)
    labels = _labels(node).astype(np.uint8)
    transform = between(node, volume)
    if transform is None and _same(own, grid):
        return Steering(labels, grid)
    found = part_on_grid(oriented(own, labels), grid, transform)
    if found is None:
        raise EmptyMask(
            f"{node.GetName()} lies outside {volume.GetName()}: choose the one that belongs to it"
        )
    return Steering(whole(*found, grid), grid)


def _anatomy(node: Any, reference: Any) -> Steering:
    """HU on the grid of the CT: as they are, or interpolated; air where the map ends."""
    hu, own, grid = hu_array(node), Grid.of(node), Grid.of(reference)
    transform = between(node, reference)
    if transform is None and _same(own, grid):
        return Steering(np.array(hu), grid)
    image = oriented(own, hu)
    low, high = reach(image, grid, transform)
    if (low >= high).any():
        raise NotReady(f"{node.GetName()} lies outside {reference.GetName()}: choose a map of this CT")
    on_grid = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, oriented(grid), on_grid, True, False, transform, AIR_HU
    )
    return Steering(np.array(image_array(on_grid), np.int16), grid)


def _same(a: Grid, b: Grid) -> bool:
    """Whether the corners of two grids lie in the same places."""
    if a.shape_ijk != b.shape_ijk:
        return False
    corner = np.array(a.shape_ijk) - 1
    return all(np.abs(a.ras(at) - b.ras(at)).max() < SAME_MM for at in (0 * corner, *np.diag(corner)))


def _labels(node: Any) -> np.ndarray:
    """(k, j, i) bool of a label volume."""
    Grid.of(node)  # says which volume holds no voxels
    return stored_array(node) > 0


def _is_segmentation(node: Any) -> bool:
    return bool(node.IsA("vtkMRMLSegmentationNode"))


def _shown_segments(node: Any) -> list[str]:
    """IDs of the segments that are neither empty nor hidden; [] for a label volume."""
    if not _is_segmentation(node):
        return []
    data, display = node.GetSegmentation(), node.GetDisplayNode()
    ids = [str(data.GetNthSegmentID(n)) for n in range(data.GetNumberOfSegments())]
    shown = [segment for segment in ids if display is None or display.GetSegmentVisibility(segment)]
    return [segment for segment in shown if not empty_segment(node, segment)]


def _lung_segments(node: Any) -> list[str]:
    """Those with "lung" in their names, where any has: trachea and others are often beside them."""
    shown = _shown_segments(node)
    names = {segment: node.GetSegmentation().GetSegment(segment).GetName() for segment in shown}
    return [segment for segment in shown if "lung" in str(names[segment]).lower()] or shown
