"""Vessels inside the lungs: what is bright and long at one of several widths."""

from __future__ import annotations

import numpy as np
import SimpleITK
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from lesionbrush.anatomy.lung_steps.air import Parts
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.volume import Array

WIDTHS_MM = (0.9, 1.6, 2.8)  # of the Gaussian: a vessel of twice its width answers most
TUBE_HU = (18.0, 45.0)  # an answer of the first belongs to a vessel that somewhere has one of the second
BRIGHT_HU = 60.0  # above the lung
PLEURA_MM = 2.0  # or a slice, whose share of the chest wall is as bright as a vessel
SOLID_HU, MASS_MM, RIM_MM = -300.0, 5.0, 3.0
LEAST_ML = 0.03
MARGIN_MM = 6.0


def find_vessels(grid: CoarseGrid, lung: Array, airways: Array) -> Array:
    """bool (X, Y, Z): arteries and veins of one lung (bool), apart from its outermost PLEURA_MM.

    airways: their lumen. Their walls, nodules and fissures, which are no tubes, are mostly left out.
    """
    vessels = np.zeros(lung.shape, bool)
    if not lung.any():
        return vessels
    box = dilate(bounding_box(lung), MARGIN_MM, np.array(grid.spacing_mm), lung.shape)
    part, mine, lumen = grid.crop(box), lung[box], airways[box]
    base = float(np.median(part.hu[mine]))
    hu = np.where(mine & ~lumen, np.maximum(part.hu, base), base)
    tubes = np.max([_tubes(hu, part.spacing_mm, width) for width in WIDTHS_MM], axis=0)
    deep = part.distance_mm(~mine) > max(PLEURA_MM, *part.spacing_mm)
    wall = ndimage.binary_dilation(lumen) | _masses(part, mine)
    found = apply_hysteresis_threshold(tubes * (deep & ~wall), *TUBE_HU) & (part.hu > base + BRIGHT_HU)
    parts = Parts.of(found, np.ones((3, 3, 3), bool))
    vessels[box] = parts.mask(parts.voxels * grid.voxel_ml > LEAST_ML)
    return vessels


def _masses(grid: CoarseGrid, lung: Array) -> Array:
    """What is solid and thicker than a vessel in a lung, with its rim, whose edges answer like tubes."""
    core = grid.distance_mm(~(lung & (grid.hu > SOLID_HU))) > MASS_MM
    return np.asarray(grid.distance_mm(core) <= MASS_MM + RIM_MM)


def _tubes(hu: Array, spacing_mm: tuple[float, float, float], width_mm: float) -> Array:
    """How much a tube of about this width stands out, HU (X, Y, Z)."""
    image = SimpleITK.GetImageFromArray(hu.astype(np.float32))
    image.SetSpacing(spacing_mm[::-1])
    smooth = SimpleITK.SmoothingRecursiveGaussian(image, width_mm)
    answer = SimpleITK.ObjectnessMeasure(
        smooth, 0.5, 0.5, 5.0, scaleObjectnessMeasure=True, objectDimension=1, brightObject=True
    )
    found: Array = SimpleITK.GetArrayFromImage(answer) * width_mm**2
    return found
