"""Whether a volume holds labels or HU, told from its voxels."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.volume import Array, Volume

SLICES_LOOKED_AT = 16
LEAST_ALIKE = 0.5
"""Of neighbours: 0.8 and more in label maps of organs, 0.05 and less in CTs with their noise."""
FEW_VALUES = 16
"""No CT has as few; small label maps are all border."""
DENSER_THAN_AIR_HU = -500
"""Every CT has less than this somewhere: the room, lung or bowel gas. No label map has."""


def share_alike(array: Array) -> float:
    """Of the pairs of neighbours in plane, both background aside, those with the same value. 1 for no pair.

    array: (I, J, K); background: the lowest value. Of many slices some are looked at.
    """
    shown = array[:, :, :: max(1, array.shape[2] // SLICES_LOOKED_AT)]
    lowest, alike, pairs = array.min(), 0, 0
    for one, other in ((shown[1:], shown[:-1]), (shown[:, 1:], shown[:, :-1])):
        counted = (one != lowest) | (other != lowest)
        pairs += np.count_nonzero(counted)
        alike += np.count_nonzero(counted & (one == other))
    return alike / pairs if pairs else 1.0


def is_label_map(volume: Volume) -> bool:
    """True for whole numbers without air, few or mostly like their neighbours, however they are numbered."""
    lowest, highest = volume.value_range
    if not (np.isfinite(lowest) and np.isfinite(highest)) or lowest < DENSER_THAN_AIR_HU:
        return False
    fractions = volume.array.dtype.kind == "f" and not np.array_equal(volume.array, np.rint(volume.array))
    if fractions:
        return False
    return share_alike(volume.array) > LEAST_ALIKE or np.unique(volume.array).size <= FEW_VALUES
