"""Results as files: the volume by Slicer's own writer, the record beside it. All of it or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import slicer

from ..client.records import place_for_record
from ..client.uploads import split
from .problems import CannotSave


def save_volume(node: Any, path: Path, provenance: dict[str, Any]) -> list[Path]:
    """Write a volume node and its record; returns [volume, record]. The node's own storage is not touched.

    Raises CannotSave: unknown type, no such folder, no room, no permission.
    """
    try:
        suffix, record = split(path)[1], place_for_record(path)
    except ValueError as error:
        raise CannotSave(str(error)) from error
    if not path.parent.is_dir():
        raise CannotSave(f"there is no folder {path.parent}: choose another one")
    try:
        with TemporaryDirectory(prefix=".lesionbrush-", dir=path.parent) as folder:
            draft, beside = Path(folder) / f"volume{suffix}", Path(folder) / "record.json"
            _write(node, draft)
            beside.write_text(json.dumps(provenance, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(beside, record)
            os.replace(draft, path)
    except OSError as error:
        raise CannotSave(
            f"{path.name} could not be written ({error.strerror}): choose another folder"
        ) from error
    return [path, record]


def _write(node: Any, path: Path) -> None:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not path.is_file():
        raise CannotSave(f"{path.suffix} file could not be written: is the disk full? Choose another folder")
