"""What sampling paints while there is much noise, whatever the network says: organs in their HU. No torch.

While there is more noise than image, all that can be said of an organ is its mean, and a young network says
even that badly: it makes clouds and crumbs, which later steps keep. Starting from a painting is SDEdit (Meng
et al. 2022, arXiv:2108.01073); that the rest of the image is left to the network is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionbrush.systems.semantic.classes import BODY, CLASSES, OUTSIDE

LEAST_VOXELS, MOST_VOXELS = 50, 100_000
"""Of an organ that are looked at; of a larger one every so many."""


def organ_hu(labels: np.ndarray, hu: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(classes,) median HU of the organs that occur in `wanted`, in a CT with `labels` of the same shape.

    NaN for what is no organ, and for one with fewer than LEAST_VOXELS voxels: a card then says it.
    """
    found = np.full(len(CLASSES), np.nan)
    for number in np.unique(wanted):
        values = hu[labels == number] if OUTSIDE < number < BODY else hu[:0]
        if values.size >= LEAST_VOXELS:
            found[number] = np.median(values[:: 1 + values.size // MOST_VOXELS])
    return found


def paint(labels: np.ndarray, class_hu: Mapping[str, float], own_hu: np.ndarray | None) -> np.ndarray:
    """float32 HU, like labels. NaN where the network decides: body, and what neither of both knows.

    class_hu: by name, of training patients; own_hu: (classes,), of the CT itself, which counts first.
    """
    palette = np.full(256, np.nan, np.float32)
    for name, value in class_hu.items():
        palette[CLASSES.index(name)] = value
    if own_hu is not None:
        known = np.flatnonzero(np.isfinite(own_hu))
        palette[known] = own_hu[known]
    palette[BODY] = np.nan
    painted: np.ndarray = palette[labels]
    return painted


def check_names(class_hu: Mapping[str, float]) -> None:
    """ValueError for what is no class, or is body, which may be anything."""
    for name in class_hu:
        if name == "body" or name not in CLASSES:
            possible = ", ".join(one for one in CLASSES if one != "body")
            raise ValueError(f"class_hu: {name!r} is no class with a mean; there are {possible}")
