"""Pictures for the panel: arrays to PNG, PNG to what Qt draws."""

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import qt


def png_bytes(rgb: np.ndarray) -> bytes:
    """(H, W, 3) uint8 to a PNG."""
    height, width, _ = rgb.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 0  # every row: no filter
    rows[:, 1:] = rgb.reshape(height, 3 * width)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 3)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pixmap(png: bytes) -> Any:
    """A QPixmap; empty when the bytes are no picture. By way of a file: every binding can read those."""
    with TemporaryDirectory(prefix="lesionbrush-") as folder:
        path = Path(folder) / "picture.png"
        path.write_bytes(png)
        return qt.QPixmap(str(path))
