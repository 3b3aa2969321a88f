"""The picture of a layout before and after a change, where most of what changed is seen."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.montage import AXIAL, CORONAL, SOFT, Panel, Plane, View, badge_of, sheet, to_lps
from lesionbrush.systems.semantic.layout_edits.organs import is_organ

_LEVELS, _DARKEST_HU, _BRIGHTEST_HU = 12, -120, 220
"""Greys of labels where there is no CT: so many between, after which they come again."""


def picture(before: Layout, after: Layout, ct: Volume | None) -> Image.Image:
    """An axial and a coronal slice with the outlines of all labels, before and after side by side."""
    changed = _changed(before, after)
    panels = [
        _panel(layout, ct, (plane, most_telling(changed, plane)), caption)
        for plane in (AXIAL, CORONAL)
        for layout, caption in ((before, "before"), (after, "after"))
    ]
    return sheet(panels, 2, title="layout, changed", panel_px=384)


def _changed(before: Layout, after: Layout) -> Volume:
    """uint16, in LPS: where another name stands, the number of one of both, an organ's before body's."""
    names = sorted({*before.names.values(), *after.names.values()}, key=lambda name: (is_organ(name), name))
    one, other = (_by_name(layout, names) for layout in (before, after))
    numbers = np.where(one != other, np.maximum(one, other), 0).astype(np.uint16)
    return before.labels.with_array(numbers)


def most_telling(changed: Volume, plane: Plane) -> int:
    """The slice with most of the changes, those of a small organ counted as much as those of a large one."""
    lps, _ = to_lps(changed)
    slices = np.moveaxis(lps, plane.normal, 0).reshape(lps.shape[plane.normal], -1)
    counts = np.stack([np.bincount(one, minlength=int(lps.max()) + 1) for one in slices])[:, 1:]
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    return int(shares.sum(axis=1).argmax())


def _by_name(layout: Layout, names: list[str]) -> Array:
    codes = np.zeros(int(layout.labels.array.max()) + 1, np.int32)
    for number, name in layout.names.items():
        if 0 <= number < len(codes):
            codes[number] = names.index(name) + 1
    found: Array = codes[layout.labels.array]
    return found


def _panel(layout: Layout, ct: Volume | None, where: tuple[Plane, int], caption: str) -> Panel:
    plane, index = where
    _, spacing_mm = to_lps(layout.labels)
    view = View(plane, index, (0, 0), None)
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
