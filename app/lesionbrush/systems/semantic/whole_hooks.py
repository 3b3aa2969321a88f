"""What a whole CT is made from, and on which grid. Imports no torch."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.generate import Frame, GenerateHooks
from lesionbrush.core.inputs import OWN, Input, Inputs
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.semantic.classes import BODY, read_table
from lesionbrush.systems.semantic.layouts import ClassMap, complete, read_classes
from lesionbrush.systems.semantic.request import SemanticWholeRequest

MOST_VOXELS = 512 * 512 * 400
INPUTS = (
    Input("layout", "layout", "organs in their body, a label volume with names", required=True, on=OWN),
    Input("body_of", "volume", "the CT that the layout is of, whose body is taken if it has none", on=OWN),
)


def frame_of(request: SemanticWholeRequest, inputs: Inputs, wanted: Frame | None) -> Frame:
    """The grid of the layout. InvalidRequest for another one that is wanted, and for one too large."""
    del request
    layout = inputs.layout("layout")
    assert layout is not None
    if wanted is not None:
        raise InvalidRequest("semantic_whole makes its CT on the grid of the layout: name no other grid")
    if layout.labels.array.size > MOST_VOXELS:
        raise InvalidRequest(
            f"layout: {layout.labels.array.size:,} voxels are more than {MOST_VOXELS:,}: send fewer slices"
        )
    return Frame.of(layout.labels)


def classes_of(inputs: Inputs, request: SemanticWholeRequest) -> ClassMap:
    """What is to be where, (Z, Y, X). InvalidRequest for a layout without a body, and as `read_classes`."""
    layout, ct = inputs.layout("layout"), inputs.volume("body_of")
    assert layout is not None
    found = read_classes(layout, read_table(request.classes))
    if ct is not None:
        layout.labels.require_same_grid(require_ct(ct), "body_of")
        turned = Orientation.of(ct.affine)
        spacing_mm = turned.spacing_mm(ct.spacing_mm)
        return ClassMap(
            complete(found.labels, turned.view(ct.array), spacing_mm, tissues=False), found.others
        )
    if not (found.labels == BODY).any():
        raise InvalidRequest(
            "layout: nothing in it is called body, so where the patient ends is not known; add such a label, "
            "or send the CT that the layout is of as body_of"
        )
    return ClassMap(np.ascontiguousarray(found.labels), found.others)


HOOKS = GenerateHooks(INPUTS, frame_of)
