"""The four channels of MedSyn as numbers: a CT, lobes, airways and vessels, each in [-1, 1].

Chests are stored with one uint8 label a voxel, whose bits say what is there. Imports no torch.
"""

from __future__ import annotations

import numpy as np

from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.hu import HUWindow

CHANNELS = ("ct", "lobes", "airways", "vessels")
CT, LOBE, AIRWAY, VESSEL = range(4)
WINDOW = HUWindow(-1024.0, 600.0)
"""Sec. V.A of the paper: above 600 HU there is nothing."""

LOBE_BITS, AIRWAY_BIT, VESSEL_BIT, HEART_BIT = 0b111, 0b1000, 0b10000, 0b100000
LOBE_STEP = 2 / len(LOBES)


def lobes_to_unit(labels: np.ndarray) -> np.ndarray:
    """Numbers of LOBES, 0 where none is, at even steps from -1 to 1: neighbours in number are no closer in
    the lung, so an estimate between two is no third lobe; see `lobes_from_unit`."""
    return (labels.astype(np.float32) * LOBE_STEP - 1).astype(np.float32)


def lobes_from_unit(unit: np.ndarray) -> np.ndarray:
    """uint8: the nearest number."""
    return np.clip(np.rint((unit + 1) / LOBE_STEP), 0, len(LOBES)).astype(np.uint8)


def share_to_unit(share: np.ndarray) -> np.ndarray:
    """0 to 1 as -1 to 1."""
    return (share * 2 - 1).astype(np.float32)
