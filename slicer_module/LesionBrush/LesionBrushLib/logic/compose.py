"""Synthetic volumes in the scene: the reference's voxels with the changed box in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..client.boxes import Box, voxel_sha256
from .problems import BrokenBox, OtherReference
from .voxels import Grid, hu_array, image_data, stored_array, to_vtk

SYNTHETIC = "LesionBrush.Synthetic"
PROVENANCE = "LesionBrush.Provenance"
REFERENCE_ROLE = "LesionBrush.reference"
QUICK = "fast"
"""The quality of a quick look."""
QUICK_LOOK = f"quick look ({QUICK})"


def is_synthetic(node: Any) -> bool:
    return node is not None and node.GetAttribute(SYNTHETIC) == "1"


def provenance_of(node: Any) -> dict[str, Any]:
    """The record kept with a synthetic volume; {} when it has none."""
    text = node.GetAttribute(PROVENANCE) or "{}"
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def mark(provenance: dict[str, Any]) -> str:
    """GENERATED: it shows nobody, be it a whole new CT or an edit of one."""
    return "SYNTHETIC GENERATED" if provenance.get("generated") else "SYNTHETIC"


def is_quick(provenance: dict[str, Any]) -> bool:
    """Made with few steps, for a first look."""
    request = provenance.get("request")
    return isinstance(request, dict) and request.get("quality") == QUICK


def is_in_quick(provenance: dict[str, Any]) -> bool:
    """Painted into a quick look, or into what was painted into one."""
    earlier = provenance.get("made_from")
    while isinstance(earlier, dict):
        if is_quick(earlier):
            return True
        earlier = earlier.get("made_from")
    return False


def haste(provenance: dict[str, Any]) -> str:
    """What names say of it: `quick look (fast)`, `in a quick look (fast)`, or nothing."""
    if is_quick(provenance):
        return QUICK_LOOK
    return f"in a {QUICK_LOOK}" if is_in_quick(provenance) else ""


def haste_sentence(provenance: dict[str, Any]) -> str:
    """The same for somebody who is about to keep it."""
    if is_quick(provenance):
        return f"This is a {QUICK_LOOK}: made in few steps, with a grain that is not yet that of a lesion."
    if is_in_quick(provenance):
        return f"This was painted into a {QUICK_LOOK}: what was there before was made in few steps."
    return ""


def synthetic_name(provenance: dict[str, Any], title: str = "") -> str:
    """`SYNTHETIC lung_lesion seed 7 quick look (fast)`: the name is what views show in their corners."""
    parts = [mark(provenance), str(provenance.get("model", "CT"))]
    if "seed" in provenance:
        parts.append(f"seed {provenance['seed']}")
    return " ".join(part for part in (*parts, haste(provenance), title) if part)


def checked_base(reference: Any, boxes: Iterable[Box]) -> np.ndarray:
    """(k, j, i) int16 voxels of the reference, once they are known to be those the boxes were made for.

    Raises OtherReference (the hash says no), BrokenBox (outside the CT, or no int16), NotACT.
    """
    hu = hu_array(reference)
    shape = Grid.of(reference).shape_ijk
    boxes = list(boxes)
    for box in boxes:
        inside = len(box.offset) == 3 and all(
            at.start >= 0 and at.stop <= n for at, n in zip(box.place, shape)
        )
        if box.array.ndim != 3 or box.array.dtype != np.int16 or not box.array.size or not inside:
            raise BrokenBox(
                f"the result ({box.array.shape} voxels of {box.array.dtype} at {box.offset}) does not fit "
                f"into {reference.GetName()} ({shape} voxels): choose the CT that was sent, or try again"
            )
    known = voxel_sha256(hu.T)
    if any(box.reference_voxels != known for box in boxes):
        raise OtherReference(
            f"{reference.GetName()} is not the CT this result was made for, or its voxels were changed "
            "since: choose the CT that was sent, or synthesize again"
        )
    return hu


def new_synthetic(scene: Any, reference: Any, grid: Grid, base_kji: np.ndarray) -> Any:
    """A volume with a copy of these voxels on the grid; in the space of the reference, where there is one,
    and below it in the subject hierarchy."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName("SYNTHETIC"))
    node.SetIJKToRASMatrix(to_vtk(grid.ijk_to_ras))
    node.SetAndObserveImageData(image_data(base_kji))
    node.SetAttribute(SYNTHETIC, "1")
    if reference is not None:
        node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
        node.SetNodeReferenceID(REFERENCE_ROLE, reference.GetID())
    _show_alike(scene, node, reference)
    place_under(scene, node, reference)
    return node


def write_box(node: Any, box: Box, provenance: dict[str, Any]) -> np.ndarray:
    """Put a box into a synthetic volume, in place; returns what was there, (k, j, i), to put it back."""
    array = stored_array(node)
    i, j, k = box.place
    before = array[k, j, i].copy()
    array[k, j, i] = box.array.T
    node.SetAttribute(PROVENANCE, json.dumps(provenance, sort_keys=True))
    modified(node)
    return before


def restore_box(node: Any, box: Box, before_kji: np.ndarray) -> None:
    i, j, k = box.place
    stored_array(node)[k, j, i] = before_kji


def modified(node: Any) -> None:
    """Tell everybody that voxels changed."""
    node.GetImageData().GetPointData().GetScalars().Modified()
    node.GetImageData().Modified()
    node.Modified()


def difference(reference: Any, synthetic: Any) -> tuple[np.ndarray, Grid] | None:
    """(k, j, i) int16 HU synthetic - reference of the box in which they differ, and its grid; None: nowhere.

    Read from the two volumes, so it works for a result that came with a saved scene as well.
    """
    before, after = hu_array(reference), hu_array(synthetic)
    if not Grid.of(reference).same(Grid.of(synthetic)):
        return None
    changed = before != after
    if not changed.any():
        return None
    ends = []
    for axis in range(3):
        hit = np.flatnonzero(changed.any(axis=tuple(other for other in range(3) if other != axis)))
        ends.append((int(hit[0]), int(hit[-1]) + 1))
    box = tuple(slice(first, last) for first, last in ends)
    hu = after[box].astype(np.int32) - before[box]
    limits = np.iinfo(np.int16)
    (k, k_end), (j, j_end), (i, i_end) = ends
    grid = Grid.of(reference).part((i, j, k), (i_end - i, j_end - j, k_end - k))
    return hu.clip(limits.min, limits.max).astype(np.int16), grid


def place_under(scene: Any, node: Any, parent: Any | None) -> None:
    """Make the node a child of its reference in the subject hierarchy."""
    tree = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") or _tree(scene)
    if tree is None or parent is None:
        return
    above = tree.GetItemByDataNode(parent) or tree.CreateItem(tree.GetSceneItemID(), parent)
    item = tree.GetItemByDataNode(node) or tree.CreateItem(above, node)
    tree.SetItemParent(item, above)


def _tree(scene: Any) -> Any:
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def _show_alike(scene: Any, node: Any, reference: Any) -> None:
    """The window of the reference, or one of soft tissue, so that the two look alike wherever they are shown.

    CreateDefaultDisplayNodes would first look for a window of its own in all voxels, which takes seconds.
    """
    display = scene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.UnRegister(None)
    model = reference.GetScalarVolumeDisplayNode() if reference is not None else None
    window, level = (400.0, 40.0) if model is None else (model.GetWindow(), model.GetLevel())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    scene.AddNode(display)
    display.SetDefaultColorMap()
    node.SetAndObserveDisplayNodeID(display.GetID())
