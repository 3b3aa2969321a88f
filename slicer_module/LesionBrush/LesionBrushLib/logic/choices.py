"""What the user has chosen, or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .editing import empty_segment
from .parameters import Parameters
from .problems import NotReady


def missing(chosen: Parameters, whole: bool = False, needs_mask: bool = True) -> list[str]:
    """What has to be chosen or painted before a synthesis, as sentences. whole: of a whole new CT."""
    if whole:
        return []
    found, segment = [], chosen_segment(chosen)
    if chosen.reference is None:
        found.append("choose a CT")
    if needs_mask and not segment:
        found.append("paint a lesion, or propose one")
    elif needs_mask and empty_segment(chosen.segmentation, segment):
        found.append("the chosen segment is empty: paint a lesion, or propose one")
    if not chosen.model:
        found.append("connect to a server and choose a model")
    return found


def chosen_reference(chosen: Parameters) -> Any:
    """Raises NotReady."""
    if chosen.reference is None:
        raise NotReady("choose a CT first")
    return chosen.reference


def chosen_segment(chosen: Parameters) -> str:
    """ID of the chosen segment; the first one when none is chosen; "" when there is none."""
    if chosen.segmentation is None:
        return ""
    data = chosen.segmentation.GetSegmentation()
    if chosen.segment_id and data.GetSegment(chosen.segment_id) is not None:
        return chosen.segment_id
    return str(data.GetNthSegmentID(0)) if data.GetNumberOfSegments() else ""


def painted_segment(chosen: Parameters) -> str:
    """The chosen segment if something is in it; else ""."""
    segment = chosen_segment(chosen)
    return segment if segment and not empty_segment(chosen.segmentation, segment) else ""


def crosshair(scene: Any) -> Sequence[float]:
    """World RAS, mm. Raises NotReady."""
    node = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if node is None:
        raise NotReady("there is no crosshair in this scene: move the mouse over a slice view first")
    return list(node.GetCrosshairRAS())
