"""A small chest, lesions in it, and what a server would answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from LesionBrushLib.client.boxes import Box, voxel_sha256
from LesionBrushLib.logic.helpers import is_helper
from mrml_kit import World, array_of

SHAPE_KJI = (32, 90, 100)
SPACING_MM = (1.5, 1.5, 2.5)
LUNG_HU, TISSUE_HU, LESION_HU = -850, 40, 60
LEFT_LUNG_RAS = (-30.0, 0.0, 0.0)
"""In the middle of a lung of the straight chest; RAS mm."""


def straight() -> np.ndarray:
    """IJK to RAS of a usual CT: i to the left, j to the back, the middle of the volume at 0."""
    return centred(np.diag((-1.0, -1.0, 1.0)))


def oblique() -> np.ndarray:
    """The same, tilted about two axes."""
    a, b = np.deg2rad(20), np.deg2rad(-12)
    about_x = np.array(((1, 0, 0), (0, np.cos(a), -np.sin(a)), (0, np.sin(a), np.cos(a))))
    about_z = np.array(((np.cos(b), -np.sin(b), 0), (np.sin(b), np.cos(b), 0), (0, 0, 1)))
    return centred(about_z @ about_x @ np.diag((-1.0, -1.0, 1.0)))


def centred(directions: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = directions * SPACING_MM
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(SHAPE_KJI[::-1]) - 1) / 2)
    return matrix


def offsets_mm() -> np.ndarray:
    """(k, j, i, 3) mm from the middle along i, j, k."""
    k, j, i = np.indices(SHAPE_KJI, dtype=float)
    middle = (np.array(SHAPE_KJI[::-1]) - 1) / 2
    return (np.stack((i, j, k), axis=-1) - middle) * SPACING_MM


def chest() -> np.ndarray:
    """(k, j, i) int16: air, an ellipse of tissue, two lungs in it with a vessel each."""
    x, y, _ = np.moveaxis(offsets_mm(), -1, 0)
    hu = np.full(SHAPE_KJI, -1000, np.int16)
    hu[np.hypot(x / 68, y / 58) < 1] = TISSUE_HU
    for side in (-1, 1):
        hu[np.hypot((x - side * 30) / 24, y / 44) < 1] = LUNG_HU
        hu[np.hypot(x - side * 18, y + 10) < 3] = TISSUE_HU
    noise = np.random.default_rng(4).normal(0, 12, SHAPE_KJI)
    return (hu + noise).astype(np.int16)


def ball(radius_mm: float = 9.0, centre_mm: tuple[float, float, float] = (30.0, 0.0, 0.0)) -> np.ndarray:
    """(k, j, i) bool around a point given in mm along i, j, k from the middle."""
    return np.linalg.norm(offsets_mm() - centre_mm, axis=-1) <= radius_mm


def answer(ct: Any, mask: np.ndarray, *hus: int) -> tuple[list[Box], list[dict[str, Any]]]:
    """What a server would send: one variant per HU, the mask filled with it, seeds from 7."""
    array = array_of(ct)
    at = np.argwhere(mask)
    low, high = np.maximum(at.min(0) - 2, 0), np.minimum(at.max(0) + 3, array.shape)
    place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    offset = tuple(int(start) for start in low[::-1])
    boxes = []
    for hu in hus:
        part = array[place].astype(np.int16)
        part[mask[place]] = hu
        boxes.append(Box(np.asfortranarray(part.T), offset, voxel_sha256(array.astype(np.int16).T)))
    return boxes, [{"model": "lung_lesion", "seed": 7 + n} for n in range(len(hus))]


def arrangement(world: World) -> int:
    return int(world.nodes("vtkMRMLLayoutNode")[0].GetViewArrangement())


def offered(world: World) -> list[Any]:
    """Volumes that a selector shows."""
    return [node for node in world.nodes("vtkMRMLScalarVolumeNode") if not node.GetHideFromEditors()]


def helpers(world: World) -> list[Any]:
    """All hidden nodes of ours in the scene."""
    nodes = [world.scene.GetNthNode(n) for n in range(world.scene.GetNumberOfNodes())]
    return [node for node in nodes if is_helper(node)]


def display_state(segmentation: Any) -> list[Any]:
    """Display nodes in order, and the views each is restricted to."""
    displays = [segmentation.GetNthDisplayNode(n) for n in range(segmentation.GetNumberOfDisplayNodes())]
    return [(d.GetID(), [d.GetNthViewNodeID(n) for n in range(d.GetNumberOfViewNodeIDs())]) for d in displays]
