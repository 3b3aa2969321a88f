"""What steers a synthesis beside CT and mask: nodes that were chosen, and texts, by the names in a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from ..client.answers import OWN, REFERENCE, Take
from ..client.inputs import Input, Layout
from ..client.uploads import ct_upload, labels_upload, mask_upload
from .editing import empty_segment
from .masks import (
    Place,
    between,
    box,
    image_array,
    is_segmentation,
    oriented,
    part_on_grid,
    reach,
    segment_part,
    whole,
)
from .parameters import Parameters
from .problems import EmptyMask, NotReady
from .voxels import Grid, hu_array, stored_array

AIR_HU = -1000
NAMELESS = ("", "(none)")
NO_ORGAN = ("85756007",)
"""Tissue: what a segment is to Slicer until somebody says."""
TEXT, VOLUME, LAYOUT = "text", "volume", "layout"


@dataclass(frozen=True, eq=False)
class Steering:
    """One volume, copied. array_kji: int16 HU, uint8 0/1 of a mask, or labels that have names."""

    array_kji: np.ndarray
    grid: Grid
    names: Mapping[int, str] | None = None

    def upload(self) -> Input:
        """As NIfTI; a mask is cut to its bounding box."""
        array, ijk_to_ras = self.array_kji.T, self.grid.ijk_to_ras
        if self.names is not None:
            return Layout(labels_upload(array, ijk_to_ras), self.names)
        make = mask_upload if array.dtype == np.uint8 else ct_upload
        return make(array, ijk_to_ras)


def title(take: Take) -> str:
    """`pathology_mask` -> "Pathology mask"."""
    return take.name.replace("_", " ").capitalize()


def missing_inputs(chosen: Parameters, takes: Sequence[Take]) -> list[str]:
    """What has to be chosen before a synthesis with a model that takes these, as sentences."""
    known, found = {take.name: take for take in takes}, []
    for take in takes:
        there = _chosen(chosen, take)
        if take.required and not there:
            found.append(f"{'write' if take.kind == TEXT else 'choose'} {title(take)}: {take.about}")
        other = known.get(take.on)
        if other is not None and there != _chosen(chosen, other):
            lacking, given = (other, take) if there else (take, other)
            found.append(f"choose {title(lacking)} as well ({lacking.about}), or none as {title(given)}")
    return found


def _chosen(chosen: Parameters, take: Take) -> bool:
    if take.kind == TEXT:
        return bool(chosen.texts.get(take.name, "").strip())
    return chosen.input_node(take.name) is not None


def exported(chosen: Parameters, takes: Sequence[Take], reference: Any) -> dict[str, Steering | str]:
    """Main thread. What was chosen of what the model takes, each on the grid it belongs to.

    reference: the CT that is edited; None: a whole new CT has none, and all lie on grids of their own. Raises
    NotReady (something is missing, several lesions, no names), NotACT, EmptyMask.
    """
    for lacking in missing_inputs(chosen, takes):
        raise NotReady(lacking)
    return {take.name: _exported(chosen, take, reference) for take in takes if _chosen(chosen, take)}


def _exported(chosen: Parameters, take: Take, reference: Any) -> Steering | str:
    if take.kind == TEXT:
        return chosen.texts[take.name]
    node = chosen.input_node(take.name)
    host = reference if take.on == REFERENCE else chosen.input_node(take.on)
    place = Place.of(host if host is not None else node)
    if take.kind == VOLUME:
        return _volume(node, place)
    if take.kind == LAYOUT:
        return _layout(node, place)
    return (_segments if is_segmentation(node) else _label_volume)(node, place, take)


def _volume(node: Any, place: Place) -> Steering:
    """HU on the grid: as they are, or interpolated; air where the volume ends."""
    hu, own, transform = hu_array(node), Grid.of(node), between(node, place.node)
    if transform is None and own.same(place.grid):
        return Steering(np.array(hu), own)
    image = oriented(own, hu)
    low, high = reach(image, place.grid, transform)
    if (low >= high).any():
        raise NotReady(f"{node.GetName()} lies outside {place.name}: choose one that belongs to it")
    return Steering(np.array(_resampled(image, place.grid, transform, AIR_HU), np.int16), place.grid)


def _resampled(image: Any, grid: Grid, transform: Any, outside: float, linear: bool = True) -> np.ndarray:
    on_grid = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, oriented(grid), on_grid, linear, False, transform, outside
    )
    return image_array(on_grid)


def _segments(node: Any, place: Place, take: Take) -> Steering:
    """The segments that are shown, together; where some have the name of the input in theirs, only those:
    trachea and others are often beside lungs."""
    names, word = _names(node), take.name.rstrip("s").replace("_", " ")
    segments = [key for key in names if _is_shown(node, key) and not empty_segment(node, key)]
    if _may_be_several(take):
        segments = [key for key in segments if word in names[key].lower()] or segments
    _require_one(node, len(segments), take)
    mask = np.zeros(place.grid.shape_ijk[::-1], np.uint8)
    for key in segments:
        part, first = segment_part(node, key, place)
        mask[box(part, first)] |= part
    return Steering(mask, place.grid)


def _label_volume(node: Any, place: Place, take: Take) -> Steering:
    labels, own, transform = _labels(node), Grid.of(node), between(node, place.node)
    _require_one(node, len(np.unique(labels[labels > 0])), take)
    mask = (labels > 0).astype(np.uint8)
    if transform is None and own.same(place.grid):
        return Steering(mask, own)
    found = part_on_grid(oriented(own, mask), place.grid, transform)
    if found is None:
        raise EmptyMask(f"{node.GetName()} lies outside {place.name}: choose the one that belongs to it")
    return Steering(whole(*found, place.grid), place.grid)


def _may_be_several(take: Take) -> bool:
    """On the volume of another input a mask is the one lesion in it."""
    return take.on in (REFERENCE, OWN)


def _require_one(node: Any, found: int, take: Take) -> None:
    name = node.GetName()
    if found > 1 and not _may_be_several(take):
        raise NotReady(f"{name} holds {found} lesions: hide all segments, or remove all labels, but one")
    if found == 0:
        raise EmptyMask(f"{name} is empty, or all of it is hidden: choose another, or none")


def _layout(node: Any, place: Place) -> Steering:
    """All labels, or all segments, hidden ones too; where segments overlap the later one counts."""
    labels, names = _of_segments(node, place) if is_segmentation(node) else _of_labels(node, place)
    present = {int(label) for label in np.unique(labels)} - {0}
    if not present:
        raise EmptyMask(f"{node.GetName()} is empty, or lies outside {place.name}: choose another")
    nameless = sorted(label for label in present if names.get(label, "") in NAMELESS)
    if nameless:
        raise NotReady(
            f"label {nameless[0]} of {node.GetName()} has no name, and names decide: give the volume a color "
            "table with names, or choose a segmentation"
        )
    kind = np.uint8 if max(present) < 256 else np.int16
    return Steering(labels.astype(kind), place.grid, {label: names[label] for label in sorted(present)})


def _of_segments(node: Any, place: Place) -> tuple[np.ndarray, dict[int, str]]:
    labels = np.zeros(place.grid.shape_ijk[::-1], np.int16)
    names = {n: f"{name}{_code(node, key, name)}" for n, (key, name) in enumerate(_names(node).items(), 1)}
    for label, key in enumerate(_names(node), 1):
        try:
            part, first = segment_part(node, key, place)
        except EmptyMask:  # it lies elsewhere, or nothing is in it
            continue
        labels[box(part, first)][part > 0] = label
    return labels, names


def _of_labels(node: Any, place: Place) -> tuple[np.ndarray, dict[int, str]]:
    labels, own, transform = _labels(node), Grid.of(node), between(node, place.node)
    if transform is not None or not own.same(place.grid):
        labels = _resampled(oriented(own, labels), place.grid, transform, 0, linear=False)
    display = node.GetDisplayNode()
    colours = display.GetColorNode() if display is not None else None
    present = [int(label) for label in np.unique(labels)]
    return labels, {n: str(colours.GetColorName(n) or "") for n in present} if colours is not None else {}


def _labels(node: Any) -> np.ndarray:
    """(k, j, i) int16 of a label volume."""
    return stored_array(node).astype(np.int16)


def _names(node: Any) -> dict[str, str]:
    """Of all segments, by ID."""
    data = node.GetSegmentation()
    ids = [str(data.GetNthSegmentID(n)) for n in range(data.GetNumberOfSegments())]
    return {key: str(data.GetSegment(key).GetName()) for key in ids}


def _code(node: Any, segment_id: str, name: str) -> str:
    """What the segment is by SNOMED CT, as ` [SCT 64033007 24028007]`, where its name does not say it:
    servers from before they knew codes know names."""
    entry = vtk.reference("")
    segment = node.GetSegmentation().GetSegment(segment_id)
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    parts = [part.split("^") for part in str(entry).split("~")[2:4]]
    known = [part for part in parts if len(part) == 3 and part[0] == "SCT" and part[1].isdigit()]
    if not known or known[0][1] in NO_ORGAN or all(word.lower() in name.lower() for *_, word in known):
        return ""
    return f" [SCT {' '.join(code for _, code, _ in known)}]"


def _is_shown(node: Any, segment_id: str) -> bool:
    display = node.GetDisplayNode()
    return display is None or bool(display.GetSegmentVisibility(segment_id))
