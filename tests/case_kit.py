"""The odd files of `shared/cases`: each was once read wrongly, or not at all."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "cases"


def case(name: str, file: str, unpack_into: Path) -> Path:
    """A file of a case, or the folder that is packed in it. A counted skip where the cases are not there."""
    path = Path(os.environ.get("LESIONBRUSH_CASES") or _ROOT) / name / file
    if not path.exists():
        pytest.skip("no data: the folder with odd cases is not here (set LESIONBRUSH_CASES)")
    if not file.endswith(".tar.gz"):
        return path
    with tarfile.open(path) as packed:
        packed.extractall(unpack_into, filter="data")
    (folder,) = (inside for inside in unpack_into.iterdir() if inside.is_dir())
    return folder
