"""Names that may become file names: ids of images and tags of labels. Nothing else from outside ever does."""

from __future__ import annotations

import re

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.storage.uploads import SUFFIXES

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def require_name(what: str, name: str) -> str:
    """InvalidRequest unless the name is safe as a file name on every system."""
    if not _NAME.fullmatch(name) or ".." in name or any(suffix in name.lower() for suffix in SUFFIXES):
        raise InvalidRequest(
            f"{what} {name!r}: use up to 128 letters, digits, '_', '-' and single dots, and no file type"
        )
    return name


def split(file_name: str) -> tuple[str, str] | None:
    """`1.2.840.10.nii.gz` -> (`1.2.840.10`, `.nii.gz`); None for a file that is no volume, or is hidden."""
    for suffix in SUFFIXES:
        stem = file_name[: -len(suffix)]
        if file_name.lower().endswith(suffix) and stem and not stem.startswith("."):
            return stem, file_name[-len(suffix) :]
    return None
