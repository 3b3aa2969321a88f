"""The body, and its tissues, by thresholds and morphology: for layouts that have organs alone.

Arrays are (Z, Y, X) views of a CT, HU. Imports no torch.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionbrush.systems.semantic.classes import AIR, BODY, BONE, FAT, MUSCLE

SKIN_HU, COARSE_MM, TABLE_MM = -300.0, 3.0, 9.0
"""What is thinner than TABLE_MM and outside is a table, a blanket or a tube."""
FAT_HU, MUSCLE_HU, BONE_HU = (-190.0, -30.0), (-30.0, 150.0), 200.0
LEAST_BONE_VOXELS = 30


def find_body(hu: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """bool: the largest thing denser than air, in each slice with all that it encloses: lungs and gas too."""
    every = max(1, int(COARSE_MM / float(spacing_mm[1:].min())))
    dense = hu[:, ::every, ::every] > SKIN_HU
    width = max(1, round(TABLE_MM / (every * float(spacing_mm[1:].max()))))
    solid = ndimage.binary_opening(dense, np.ones((1, width, width)))
    labels, count = ndimage.label(solid)
    if not count:
        return np.zeros(hu.shape, bool)
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    grown = ndimage.binary_dilation(largest, iterations=width, mask=dense)
    filled = fill_slices(grown)
    whole: np.ndarray = np.repeat(np.repeat(filled, every, axis=1), every, axis=2)
    return whole[:, : hu.shape[1], : hu.shape[2]]


def add_body(labels: np.ndarray, body: np.ndarray) -> np.ndarray:
    """uint8: the classes, with body where nothing else is and the body goes."""
    return np.where((labels == 0) & body, np.uint8(BODY), labels)


def add_tissues(labels: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """uint8: what is called body parted into fat, muscle, bone and air; the rest, say bowel, stays body."""
    found = labels.copy()
    plain = labels == BODY
    found[plain & (hu < SKIN_HU)] = AIR
    for (low, high), number in ((FAT_HU, FAT), (MUSCLE_HU, MUSCLE)):
        found[plain & (hu >= low) & (hu < high)] = number
    found[plain & _bones(hu)] = BONE
    return found


def _bones(hu: np.ndarray) -> np.ndarray:
    """What is as dense as bone, with the marrow it encloses in a slice; specks are contrast or calcium."""
    labels, _ = ndimage.label(hu > BONE_HU)
    sizes = np.bincount(labels.ravel())
    large = sizes >= LEAST_BONE_VOXELS
    large[0] = False
    return fill_slices(large[labels])


def fill_slices(inside: np.ndarray) -> np.ndarray:
    """bool (Z, Y, X): each slice with all that it encloses. SciPy's own filling takes 50 times as long."""
    labels, count = ndimage.label(~inside, structure=_IN_SLICES)
    open_ = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        open_[edge.ravel()] = True
    return inside | ~open_[labels]


_IN_SLICES = np.zeros((3, 3, 3), bool)
_IN_SLICES[1] = ndimage.generate_binary_structure(2, 1)
