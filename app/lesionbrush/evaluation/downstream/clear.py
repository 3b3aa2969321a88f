"""Boxes without a lesion: of the same lungs, or the same organ, away from the lesions that are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lesionbrush.core.boxes import Box, box_of, dilate
from lesionbrush.evaluation.downstream.samples import SIDE, LesionBox
from lesionbrush.evaluation.hosts import Host
from lesionbrush.evaluation.patches import patch_of

CLEAR = "no lesion"
DEPTH_MM = 3.0
"""In the organ by so much at least: what lies at the pleura, and at vessels, is where alarms are false."""
REACH_MM = SIDE / 2 + 2.0
TRIES = 4


def clear_boxes(host: Host, patient: str, count: int, rng: np.random.Generator) -> list[LesionBox]:
    """So many, or fewer where marked lesions leave no room. What nobody marked counts as no lesion."""
    spacing_mm, found = np.array(host.ct.spacing_mm), []
    for place in host.places(TRIES * count, rng, DEPTH_MM):
        around = dilate(box_of((n, n + 1) for n in place), REACH_MM, spacing_mm, host.ct.shape)
        if not any(own.array[around].any() for own in host.nodules):
            found.append(_box_at(host, place, around, patient))
        if len(found) == count:
            break
    return found


def _box_at(host: Host, place: np.ndarray, around: Box, patient: str) -> LesionBox:
    crop = host.ct.crop(around)
    middle = np.zeros(crop.shape, np.uint8)
    middle[tuple(place - [part.start for part in around])] = 1
    patch = patch_of(crop, crop.with_array(middle), side=SIDE)
    return LesionBox(replace(patch, inside=np.zeros_like(patch.inside)), patient, CLEAR)


def as_seen(clear: Sequence[LesionBox], lesions: Sequence[LesionBox]) -> list[LesionBox]:
    """Through the windows of the lesions, in turn: a crop that ends near its lesion gives it away."""
    return [box.through(lesions[k % len(lesions)].patch.known) for k, box in enumerate(clear)]
