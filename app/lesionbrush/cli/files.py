"""Names of the files that commands write, and what differs between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from LesionBrushLib.client import SUFFIXES
from scipy.ndimage import distance_transform_edt

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.volume import Array, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume


def volume_suffix(path: Path) -> str:
    """`.nii.gz` of `ct.nii.gz`. Raises InvalidRequest when no volume can be written to such a name."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise InvalidRequest(f"{path.name}: unknown file type; use one of {', '.join(SUFFIXES)}")


def number_paths(path: Path, count: int) -> list[Path]:
    """The path itself for one variant; `ct-1.nii.gz`, `ct-2.nii.gz`, ... for more."""
    if count == 1:
        return [path]
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    split = len(path.name) - len(ending)
    stem, suffix = path.name[:split], path.name[split:]  # as it was spelled
    return [path.with_name(f"{stem}-{number}{suffix}") for number in range(1, count + 1)]


@dataclass(frozen=True)
class ChangedVoxels:
    """Voxels that differ between two files, inside the edit region and outside, of `total`."""

    inside: int
    outside: int
    total: int


def changes_on_disk(
    reference: Path, mask: Path, synthetic: Path, reach_mm: float, also: Path | None = None
) -> ChangedVoxels:
    """What a result changed, told from the files alone.

    mask: 0/1 on the grid of the reference; the edit region is every voxel whose centre is at most `reach_mm`
    from the centre of a mask voxel. also: on the same grid; where it is not 0 belongs to the region as well.
    Raises GeometryMismatch when the grids differ.
    """
    before, lesion, after = require_ct(read_volume(reference)), read_volume(mask), read_volume(synthetic)
    before.require_same_grid(lesion)
    before.require_same_grid(after, "synthetic CT")
    changed = before.array != after.array
    region = _around(lesion.array > 0, before.spacing_mm, reach_mm)
    if also is not None:
        more = read_volume(also)
        before.require_same_grid(more, "region")
        region |= more.array > 0
    inside = int(np.count_nonzero(changed & region))
    return ChangedVoxels(inside, int(np.count_nonzero(changed)) - inside, changed.size)


def _around(mask: Array, spacing_mm: tuple[float, float, float], margin_mm: float) -> Array:
    """bool: what is at most so far from the mask."""
    box = dilate(bounding_box(mask), margin_mm, np.array(spacing_mm), mask.shape)
    region = np.zeros(mask.shape, bool)
    region[box] = distance_transform_edt(~mask[box], sampling=spacing_mm) <= margin_mm
    return region
