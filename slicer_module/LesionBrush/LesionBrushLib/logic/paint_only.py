"""Where the brush may paint: anywhere, in lung, in tissue like that at a point, or inside a segment.

It is the Segment Editor's own masking that holds the brush; what is chosen here is written to its node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from .choices import chosen_reference, chosen_segment
from .editing import empty_segment
from .masks import segment_mask
from .parameters import Parameters
from .problems import NotReady
from .propose import Organ, near
from .voxels import Grid, stored_array

ANYWHERE, LUNG, LIKE, SEGMENT = "", "lung", "like", "segment"
KINDS = (ANYWHERE, LUNG, LIKE, SEGMENT)
LUNG_HU = (-1024.0, -300.0)
PROBE_MM = 3.0
"""Radius of the ball that tissue at a point is known by."""
SPREADS, LEAST_WIDTH_HU, MOST_WIDTH_HU = 3.0, 30.0, 300.0
"""Nearly all voxels of a tissue lie within so many standard deviations of its noise."""


@dataclass(frozen=True)
class PaintOnly:
    """What the Segment Editor is told. hu: from, to, None for any; segment_id: inside which, "" for any."""

    hu: tuple[float, float] | None = None
    segment_id: str = ""

    def put(self, editor_node: Any) -> None:
        """Into a vtkMRMLSegmentEditorNode. Inside a segment the brush takes nothing away from that one."""
        if self.hu is not None:
            editor_node.SetSourceVolumeIntensityMaskRange(*self.hu)
        editor_node.SetSourceVolumeIntensityMask(self.hu is not None)
        inside = slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
        if self.segment_id:
            editor_node.SetMaskSegmentID(self.segment_id)
            editor_node.SetMaskMode(inside)
            editor_node.SetOverwriteMode(editor_node.OverwriteNone)
        elif editor_node.GetMaskMode() == inside:
            editor_node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)


def paint_only(chosen: Parameters) -> PaintOnly:
    """As the parameters say; anywhere where they name a segment that is gone, or the lesion itself."""
    if chosen.paint_in == LUNG:
        return PaintOnly(LUNG_HU)
    if chosen.paint_in == LIKE:
        return PaintOnly((chosen.like_hu - chosen.like_width_hu, chosen.like_hu + chosen.like_width_hu))
    if chosen.paint_in == SEGMENT and chosen.paint_segment in segments_to_paint_in(chosen):
        return PaintOnly(segment_id=chosen.paint_segment)
    return PaintOnly()


def segments_to_paint_in(chosen: Parameters) -> dict[str, str]:
    """Names by ID: all segments beside the lesion in its segmentation."""
    if chosen.segmentation is None:
        return {}
    data, lesion = chosen.segmentation.GetSegmentation(), chosen_segment(chosen)
    ids = [str(data.GetNthSegmentID(n)) for n in range(data.GetNumberOfSegments())]
    return {one: str(data.GetSegment(one).GetName()) for one in ids if one != lesion}


def chosen_organ(chosen: Parameters) -> Organ | None:
    """The segment the brush is held to, on the grid of the CT; None where it is not. Raises NotReady."""
    segment = paint_only(chosen).segment_id
    if not segment:
        return None
    name = segments_to_paint_in(chosen)[segment]
    if empty_segment(chosen.segmentation, segment):
        raise NotReady(f"{name} is empty: choose another segment to paint in")
    mask = segment_mask(chosen.segmentation, segment, chosen_reference(chosen))
    return Organ(mask > 0, name)


def choose(chosen: Parameters, kind: str, segment_id: str = "") -> None:
    """Take one of KINDS, of SEGMENT with its ID. Raises NotReady, and then nothing is changed."""
    if kind not in KINDS:
        raise NotReady(f"unknown place to paint in {kind!r}: choose one of {', '.join(filter(None, KINDS))}")
    if kind == SEGMENT and segment_id not in segments_to_paint_in(chosen):
        raise NotReady(
            f"there is no segment {segment_id!r} beside the lesion: paint or import the organ as a segment "
            "of the same segmentation"
        )
    chosen.paint_in, chosen.paint_segment = kind, segment_id


def tissue_at(volume: Any, ras_mm: np.ndarray) -> tuple[float, float]:
    """Median HU around a point of the volume's own RAS, and how far to either side its noise reaches."""
    grid = Grid.of(volume)
    hu = near(stored_array(volume), grid, ras_mm, PROBE_MM)
    if not hu.size:
        raise NotReady("the crosshair is outside the CT: hold Shift and move the mouse over the organ")
    level_hu = float(np.median(hu))
    spread_hu = 1.4826 * float(np.median(np.abs(hu - level_hu)))
    width_hu = 5.0 * np.ceil(SPREADS * spread_hu / 5.0)
    return level_hu, float(np.clip(width_hu, LEAST_WIDTH_HU, MOST_WIDTH_HU))
