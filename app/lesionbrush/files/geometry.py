"""From LPS to RAS, and whether a stated geometry can be used. Affines are 4x4, voxel index -> RAS mm."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from nibabel.orientations import aff2axcodes

from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import DamagedFile, UnsupportedSeries

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM and ITK count to the left and to the back: their first two world axes change sign."""
SAME_VOXELS = 0.1
"""Two statements of one geometry agree when no corner of the volume moves by more of a voxel."""
_PERPENDICULAR = 1e-3
"""Cosine between axes. It makes a length in mm wrong by less than a part in a thousand."""


def require_perpendicular(name: str, volume: Volume) -> None:
    """Raise UnsupportedSeries where axes meet at an angle: no length in mm would be what it says.

    name: of the file, for the text.
    """
    axes = volume.affine[:3, :3] / volume.spacing_mm
    lengths_mm = np.multiply(volume.shape, volume.spacing_mm)
    for one, other in combinations(range(3), 2):
        cosine = float(axes[:, one] @ axes[:, other])
        if abs(cosine) > _PERPENDICULAR:
            sideways_mm = abs(cosine) * min(lengths_mm[one], lengths_mm[other])
            degrees = np.degrees(np.arcsin(min(abs(cosine), 1)))
            raise UnsupportedSeries(
                f"{name}: the slices are shifted sideways by up to {sideways_mm:.2f} mm, as with a gantry "
                f"tilt of {degrees:.1f} degrees: correct the tilt first (for example with dcm2niix)"
            )


def corners_apart_voxels(volume: Volume, affine: Array) -> float:
    """How far the farthest corner of a volume moves with another affine, in its own voxels; NaN stays NaN."""
    moved_mm = Volume(volume.array, affine).corners_mm() - volume.corners_mm()
    return float(np.abs(moved_mm @ np.linalg.inv(volume.affine[:3, :3]).T).max())


def require_agreement(name: str, volume: Volume, other: Array, sources: tuple[str, str], remedy: str) -> None:
    """Raise DamagedFile where a file states two geometries: readers differ in which one they take.

    other: the second affine; sources: what states the first and the second.
    """
    apart = corners_apart_voxels(volume, other)
    if apart <= SAME_VOXELS:
        return
    first, second = sources
    raise DamagedFile(
        f"{name} states two geometries, up to {apart:.3g} voxels apart, and programs differ in which one "
        f"they take. {first}: {describe(volume.affine)}. {second}: {describe(other)}. {remedy}"
    )


def describe(affine: Array) -> str:
    """Where the axes lead, the spacing and the first voxel."""
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        return "unusable numbers"
    first = ", ".join(f"{mm:.4g}" for mm in affine[:3, 3])
    spacing = " x ".join(f"{mm:.4g}" for mm in spacing_mm)
    axes = "".join(code or "?" for code in aff2axcodes(affine))
    return f"axes to {axes}, {spacing} mm, first voxel at ({first}) mm RAS"
