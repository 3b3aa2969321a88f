"""A series of an archive in the private cache: `<uid>/<uid>.nrrd`, `about.json`, headers in `slices/`."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

from lesionbrush.files.dicom import read_slices
from lesionbrush.files.dicom.headers import read_header
from lesionbrush.server.archive.dicomweb import PREFIX, check_address
from lesionbrush.server.storage.references import ABOUT

SUFFIX = ".nrrd"
SLICES = "slices"


def cache_folder(address: str) -> Path:
    """Where the series of an archive are kept, by default in the user's cache; it is made. InvalidRequest."""
    chosen = os.environ.get(f"{PREFIX}CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(chosen) if chosen else home / "lesionbrush" / "dicomweb"
    folder = root / sha256(check_address(address).encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def file_in(folder: Path) -> Path:
    return folder / f"{folder.name}{SUFFIX}"


def strip_slices(slices: Path) -> int:
    """Leave the headers of the slices, without pixels; returns how many instances the archive had sent."""
    used = {Path(header.filename) for header in read_slices(slices)}
    sent = list(slices.iterdir())
    for path in sent:
        if path in used:
            read_header(path).save_as(path, write_like_original=False)
        else:
            path.unlink()
    return len(sent)


def count_sent(folder: Path) -> int:
    """How many instances the archive had sent."""
    try:
        return int(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["instances"])
    except (OSError, ValueError, KeyError, TypeError):  # kept by an older server
        return sum(1 for _ in (folder / SLICES).iterdir())
