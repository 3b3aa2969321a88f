"""The picture of a layout before and after a change, where most of it is."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.montage import AXIAL, CORONAL, SOFT, Panel, Plane, View, badge_of, sheet, to_lps

_LEVELS, _DARKEST_HU, _BRIGHTEST_HU = 12, -120, 220
"""Greys of labels where there is no CT: so many between, after which they come again."""


def picture(before: Layout, after: Layout, ct: Volume | None) -> Image.Image:
    """An axial and a coronal slice with the outlines of all labels, before and after side by side."""
    changed = _changed(before, after)
    panels = [
        _panel(layout, ct, plane, changed, caption)
        for plane in (AXIAL, CORONAL)
        for layout, caption in ((before, "before"), (after, "after"))
    ]
    return sheet(panels, 2, title="layout, changed", panel_px=384)


def _changed(before: Layout, after: Layout) -> Volume:
    """uint8: where another name stands."""
    names = sorted({*before.names.values(), *after.names.values()})
    one, other = (_by_name(layout, names) for layout in (before, after))
    return before.labels.with_array((one != other).astype(np.uint8))


def _by_name(layout: Layout, names: list[str]) -> Array:
    codes = np.zeros(int(layout.labels.array.max()) + 1, np.int32)
    for number, name in layout.names.items():
        if 0 <= number < len(codes):
            codes[number] = names.index(name) + 1
    found: Array = codes[layout.labels.array]
    return found


def _panel(layout: Layout, ct: Volume | None, plane: Plane, changed: Volume, caption: str) -> Panel:
    lps, spacing_mm = to_lps(changed)
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    view = View(plane, int(lps.sum(axis=others, dtype=np.int64).argmax()), (0, 0), None)
    labels = view.cut(layout.labels, fill=0)
    hu = _greys(labels) if ct is None else view.cut(ct)
    pixel_mm = (spacing_mm[plane.rows], spacing_mm[0])
    badge = "" if ct is None else badge_of(ct)
    return Panel(hu, pixel_mm, SOFT, f"{caption}, {plane.name}", _edges(labels), badge=badge)


def _greys(labels: Array) -> Array:
    step = (_BRIGHTEST_HU - _DARKEST_HU) / (_LEVELS - 1)
    grey = _DARKEST_HU + step * (labels.astype(np.int64) * 5 % _LEVELS)
    return np.where(labels == 0, -1000, grey).astype(np.float32)


def _edges(labels: Array) -> Array:
    """bool: the last pixel of each label, to the right and below."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges
