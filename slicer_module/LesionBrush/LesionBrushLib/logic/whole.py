"""Whole new CTs: each a box that is all of its grid, and a segmentation of what is where in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from ..client.boxes import Box
from ..client.orders import GeneratedCT, Labels
from ..client.records import is_whole
from .compose import REFERENCE_ROLE, provenance_of
from .masks import BINARY, oriented
from .problems import BrokenBox
from .voxels import Grid

LABELS_ROLE = "LesionBrush.labels"
LABELS = "LesionBrush.Labels"


def common_grid(volumes: Sequence[GeneratedCT]) -> Grid:
    """Raises BrokenBox when they do not all lie on one, or what is where in them does not."""
    grids = [Grid(volume.array.shape, np.asarray(volume.affine)) for volume in volumes]
    for volume, grid in zip(volumes, grids):
        labels = volume.labels
        if labels is not None and labels.array.shape != grid.shape_ijk:
            raise BrokenBox(
                f"the CT has {grid.shape_ijk} voxels and its labels {labels.array.shape}: generate again"
            )
        if not grid.same(grids[0]):
            raise BrokenBox("the variants do not lie on one grid: generate again")
    return grids[0]


def as_boxes(volumes: Sequence[GeneratedCT]) -> list[Box]:
    return [Box(volume.array, (0, 0, 0), "") for volume in volumes]


def pair(reference: Any, synthetic: Any) -> tuple[Any, Any]:
    """What is compared: a CT and what was made from it, or a whole new CT beside any CT that lies where it
    does; else either alone."""
    if synthetic is None or synthetic is reference:
        return reference, None
    if is_whole(provenance_of(synthetic)):
        beside = reference is not None and _overlap(reference, synthetic)
        return (reference, synthetic) if beside else (synthetic, None)
    return reference, synthetic if synthetic.GetNodeReference(REFERENCE_ROLE) is reference else None


def _overlap(one: Any, other: Any) -> bool:
    """Whether two volumes have any place in common, so that linked views can show both."""
    bounds = []
    for node in (one, other):
        found = [0.0] * 6
        node.GetRASBounds(found)
        bounds.append(np.reshape(found, (3, 2)))
    a, b = bounds
    return bool(((a[:, 0] < b[:, 1]) & (b[:, 0] < a[:, 1])).all())


def is_labels(node: Any) -> bool:
    """Whether a segmentation says what is where in a result; nobody's lesion is painted there."""
    return node is not None and node.GetAttribute(LABELS) == "1"


def labels_of(volume: Any) -> Any:
    """The segmentation of what is where in a result, or None."""
    return volume.GetNodeReference(LABELS_ROLE)


def show_labels(scene: Any, volume: Any, labels: Labels | None) -> None:
    """Make a segmentation of what is where in a volume, in place of the one it had."""
    remove_labels(scene, volume)
    if labels is None:
        return
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} labels")
    node.SetAttribute(LABELS, "1")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    array = labels.array.transpose(2, 1, 0)
    image = oriented(Grid.of(volume), array.astype(np.int16))
    for label, name in sorted(labels.names.items()):
        if (array == label).any():
            node.GetSegmentation().AddSegment(_segment(image, label, name), f"label_{label}")
    volume.SetNodeReferenceID(LABELS_ROLE, node.GetID())


def _segment(image: Any, label: int, name: str) -> Any:
    """All segments share one image: a copy for each of thirty organs would be gigabytes."""
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetLabelValue(label)
    segment.SetColor(*np.random.default_rng(label).uniform(0.3, 1.0, 3))
    segment.AddRepresentation(BINARY, image)
    return segment


def remove_labels(scene: Any, volume: Any) -> None:
    node = labels_of(volume)
    if node is not None:
        scene.RemoveNode(node)
