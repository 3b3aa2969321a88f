"""The picture of a case of `transfer`: where each lesion was, where it went, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.montage import (
    AXIAL,
    BONE,
    CORONAL,
    LUNG,
    SOFT,
    Panel,
    Plane,
    Window,
    badge_of,
    lesion_view,
    sheet,
)
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.patients import Attempt, SourcePatient
from lesionbrush.transfer.results import Carried

MOST_ROWS = 8
FIELD_MM = 150.0
BONES = {
    "bone",
    "rib",
    "ribs",
    "sacrum",
    "femur",
    "hip",
    "humerus",
    "scapula",
    "clavicula",
    "vertebrae",
    "vertebra",
}
_NOTHING_HU, _ORGAN_HU, _LESION_HU = -300, 0, 150  # of a patient without a CT, in the soft-tissue window


def window_of(organ: str | None) -> Window:
    """What this organ is looked at in."""
    words = set(OrganName.of(organ or "").organ)
    if "lung" in words:
        return LUNG
    return BONE if words & BONES else SOFT


def picture(
    title: str,
    source: tuple[SourcePatient, Volume | None],
    target: tuple[Volume, Layout],
    attempts: Sequence[Attempt],
    synthetic: Volume | None,
) -> Image.Image:
    """A row for each lesion that was carried, the largest first: its own patient, the other one in two planes
    with the outlines of organ and lesion, and the same slices of the synthetic CT where there is one.

    source: the patient and its CT, None to draw its labels; target: CT and organs.
    """
    carried = [one for one in attempts if isinstance(one.result, Carried)][:MOST_ROWS]
    panels = [panel for one in carried for panel in _row(one, source, target, synthetic)]
    return sheet(panels, len(panels) // len(carried), title=title)


def _row(
    attempt: Attempt,
    source: tuple[SourcePatient, Volume | None],
    target: tuple[Volume, Layout],
    synthetic: Volume | None,
) -> Iterator[Panel]:
    assert isinstance(attempt.result, Carried)
    (ct, organs), mask, window = target, attempt.result.mask, window_of(attempt.into)
    yield _of_source(attempt, *source)
    organ = organs.mask(attempt.into or "")
    for plane in (AXIAL, CORONAL):
        outlines = mask.with_array((organ != (mask.array > 0)).astype(np.uint8))
        shown = _panel(ct, mask, plane, window, f"lesion {attempt.number} in {attempt.into}, {plane.name}")
        view = lesion_view(mask, FIELD_MM, plane)
        yield replace(shown, outline=view.cut(outlines, fill=0) > 0, badge=badge_of(ct))
        if synthetic is not None:
            made = _panel(synthetic, mask, plane, window, f"synthetic, {plane.name}, {window}")
            yield replace(made, badge=badge_of(synthetic) or "SYNTHETIC")


def _of_source(attempt: Attempt, patient: SourcePatient, ct: Volume | None) -> Panel:
    """The lesion in its own patient: outlined in the CT, or drawn from the labels alone."""
    inside = attempt.mask.array > 0
    organ = np.zeros(inside.shape, bool)
    if patient.organs is not None and attempt.organ is not None:
        organ = patient.organs.mask(attempt.organ)
    caption = f"lesion {attempt.number} in its own {attempt.organ or 'patient'}"
    if ct is not None:
        shown = _panel(ct, attempt.mask, AXIAL, window_of(attempt.organ or attempt.into), caption)
        outlines = attempt.mask.with_array((organ != inside).astype(np.uint8))
        view = lesion_view(attempt.mask, FIELD_MM)
        return replace(shown, outline=view.cut(outlines, fill=0) > 0, badge=badge_of(ct))
    drawn = np.where(inside, _LESION_HU, np.where(organ, _ORGAN_HU, _NOTHING_HU)).astype(np.int16)
    return _panel(attempt.mask.with_array(drawn), attempt.mask, AXIAL, SOFT, caption)


def _panel(volume: Volume, mask: Volume, plane: Plane, window: Window, caption: str) -> Panel:
    return replace(lesion_view(mask, FIELD_MM, plane).panel(volume, window, ""), caption=caption)
