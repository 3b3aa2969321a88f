"""The four channels of MedSyn as numbers: a CT, lobes, airways and vessels, each in [-1, 1].

Chests are stored with one uint8 label a voxel, whose bits say what is there. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.hu import HUWindow

CHANNELS = ("ct", "lobes", "airways", "vessels")
CT, LOBE, AIRWAY, VESSEL = range(4)
WINDOW = HUWindow(-1024.0, 600.0)
"""Sec. V.A of the paper: above 600 HU there is nothing."""

LOBE_BITS, AIRWAY_BIT, VESSEL_BIT, HEART_BIT = 0b111, 0b1000, 0b10000, 0b100000
LOBE_ORDER = tuple(LOBES)
"""Numbers of LOBES, in the order of the channel's levels."""


def lobes_to_unit(labels: np.ndarray, order: Sequence[int] = LOBE_ORDER) -> np.ndarray:
    """Numbers of LOBES, 0 where none is, at even steps from -1 to 1: neighbours in number are no closer in
    the lung, so an estimate between two is no third lobe; see `lobes_from_unit`. A number that is not in
    `order` is as none."""
    level = np.zeros(max(LOBES) + 1, np.float32)
    level[list(order)] = np.arange(1, len(order) + 1)
    return (level[labels] * (2 / len(order)) - 1).astype(np.float32)


def lobes_from_unit(unit: np.ndarray, order: Sequence[int] = LOBE_ORDER) -> np.ndarray:
    """uint8: the number of the nearest level."""
    level = np.clip(np.rint((unit + 1) * (len(order) / 2)), 0, len(order)).astype(np.uint8)
    return np.array((0, *order), np.uint8)[level]


def share_to_unit(share: np.ndarray) -> np.ndarray:
    """0 to 1 as -1 to 1."""
    return (share * 2 - 1).astype(np.float32)
