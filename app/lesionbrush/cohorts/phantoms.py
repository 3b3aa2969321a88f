"""Chests of formulas with labels, as references to try a cohort on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.phantom.chest import Phantom, chest_phantom

NAMES = {1: "lung_right", 2: "lung_left", 3: "liver"}
SHAPE, SPACING_MM = (192, 192, 96), (1.75, 1.75, 2.7)


def write_phantom(folder: Path, seed: int) -> Path:
    """`phantom_1.nii.gz` and its labels beside it. Raises StorageFull."""
    phantom = chest_phantom(seed, SHAPE, SPACING_MM)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"phantom_{seed}.nii.gz"
    write_volume(phantom.volume, path)
    labels = Volume(_labels(phantom), phantom.volume.affine)
    write_layout(Layout(labels, NAMES), folder / f"phantom_{seed}_organs.nii.gz")
    return path


def _labels(phantom: Phantom) -> Array:
    """uint8: sides are the patient's; x of RAS mm grows to the right."""
    affine = phantom.volume.affine
    x_mm = affine[0, 0] * np.arange(phantom.volume.shape[0]) + affine[0, 3]
    lungs = np.where(x_mm > 0, 1, 2).astype(np.uint8)[:, None, None]
    return np.where(phantom.lungs.array > 0, lungs, phantom.liver.array * np.uint8(3))
