"""NIfTI-1 in memory: what is sent as an array, and what comes back as one.

Arrays are (i, j, k); an affine is 4x4, voxel index -> RAS mm.
"""

import gzip
import struct
import zlib
from typing import Any

import numpy as np

from .wire import BrokenAnswer

Array = Any  # a numpy array: its own type hints differ between numpy 1 and 2
_TYPES = {"uint8": 2, "int16": 4, "int32": 8, "uint16": 512}
_HEADER_BYTES = 352


def write_nifti(array: Array, affine: Any) -> bytes:
    """A .nii, the sform being the affine; the same voxels give the same bytes."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return _header(array, np.asarray(affine, np.float64)) + little.tobytes(order="F")


def _header(array: Array, affine: Array) -> bytes:
    """The 348 bytes of the standard and the 4 that say there are no extensions."""
    header = bytearray(_HEADER_BYTES)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *array.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _TYPES[array.dtype.name], 8 * array.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *spacing_mm, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<3f", header, 108, _HEADER_BYTES, 1.0, 0.0)  # where voxels start; slope; intercept
    struct.pack_into("<B", header, 123, 2)  # mm
    struct.pack_into("<2h", header, 252, 0, 1)  # no qform; the sform is in scanner coordinates
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1")
    return bytes(header)


def read_nifti(content: bytes) -> "tuple[Array, Array]":
    """Array and affine of a .nii or .nii.gz as this project's server writes it: whole numbers, as stored.

    Raises BrokenAnswer for any other file.
    """
    try:
        whole = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return _voxels(whole), _affine(whole)
    except (struct.error, KeyError, ValueError, OSError, EOFError, zlib.error) as error:
        raise BrokenAnswer(f"this is no NIfTI of whole numbers: {error!r}") from error


def _voxels(content: bytes) -> Array:
    """Raises ValueError where the file is longer or shorter than it says."""
    if content[344:347] != b"n+1" or struct.unpack_from("<i", content, 0) != (348,):
        raise ValueError("its header is another")
    axes, *shape = struct.unpack_from("<4h", content, 40)
    (code,), (start, slope, intercept) = struct.unpack_from("<h", content, 70), _floats(content, 108, 3)
    if axes != 3 or (slope, intercept) not in ((1, 0), (0, 0)):
        raise ValueError(f"{axes} axes, slope {slope:g}, intercept {intercept:g}")
    dtype = np.dtype({code: name for name, code in _TYPES.items()}[code]).newbyteorder("<")
    flat = np.frombuffer(content, dtype, offset=int(start))
    return flat.reshape(shape, order="F").astype(dtype.newbyteorder("="))


def _affine(content: bytes) -> Array:
    if struct.unpack_from("<h", content, 254)[0] < 1:
        raise ValueError("it does not say where it lies")
    return np.vstack((np.reshape(_floats(content, 280, 12), (3, 4)), (0.0, 0.0, 0.0, 1.0)))


def _floats(content: bytes, start: int, count: int) -> "tuple[float, ...]":
    return struct.unpack_from(f"<{count}f", content, start)
