"""Files and names that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

_CAN_SYNC_FOLDERS = os.name != "nt"  # Windows has no such call


def sync_file(path: Path) -> None:
    """What was written to a file is on the disk when this returns. Raises OSError."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """So are the names in a folder: those of files that are new, and those that a rename gave."""
    if not _CAN_SYNC_FOLDERS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
