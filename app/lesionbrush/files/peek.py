"""What a file is, before all of it is read: told from its header and its size."""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from lesionbrush.core.labels import is_label_map
from lesionbrush.errors import LesionBrushError
from lesionbrush.files.io import read_volume

_WITHOUT_SIGN = (sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkUInt32, sitk.sitkUInt64)
_BYTES_A_VOXEL = 0.1
"""Compressed: label maps have a tenth of it, CTs with their noise ten times as many."""


def holds_labels(path: Path) -> bool:
    """True for a label map in place of a CT.

    By a pixel type without sign, where no scale factors may make HU of it; voxels are read where a file is
    small for as many. False for what cannot be read, and for a label map that is found only by reading it:
    one with sign and not compressed. path: no DICOM.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetPixelID() in _WITHOUT_SIGN:
            return True
        small = path.stat().st_size < _BYTES_A_VOXEL * math.prod(reader.GetSize())
        return small and is_label_map(read_volume(path))
    except (RuntimeError, OSError, LesionBrushError):  # told when it is read as a CT
        return False
