"""A layout of organs with what lies around them: body, fat, muscle, bone and air of its CT."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.systems.semantic.body import add_body, add_tissues, find_body
from lesionbrush.systems.semantic.classes import BODY, CLASSES
from lesionbrush.systems.semantic.layout_edits.organs import find_body_label


def with_tissues(layout: Layout, ct: Volume) -> Layout:
    """Labels of other names stay; what is called body, or nothing, is parted by thresholds. ct: same grid.

    Body has a number even where nothing is left of it: an organ that is taken out becomes body.
    """
    turned = Orientation.of(ct.affine)
    theirs, hu = turned.view(layout.labels.array), turned.view(ct.array)
    free = (theirs == 0) | (theirs == (find_body_label(layout.names) or 0))
    body = find_body(hu, turned.spacing_mm(ct.spacing_mm))
    found = add_tissues(add_body(np.where(free, 0, 1).astype(np.uint8), body), hu)
    first = max([int(theirs.max()), *layout.names]) + 1
    tissues = range(BODY + 1, len(CLASSES))
    classes = [BODY, *(number for number in tissues if (free & (found == number)).any())]
    whole, names = np.where(free, 0, theirs).astype(np.uint16), dict(layout.names)
    for label, number in enumerate(classes, start=first):
        whole[free & (found == number)] = label
        names[label] = CLASSES[number]
    return Layout(layout.labels.with_array(np.asfortranarray(turned.to_stored(whole))), names)
