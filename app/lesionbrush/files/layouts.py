"""Layouts on disk: a label volume, and a table of what its labels mean beside it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.files.io import write_volume


def names_path(path: Path) -> Path:
    """`ct_labels.nii.gz` -> `ct_labels.json`."""
    return path.with_name(f"{path.name.split('.')[0]}.json")


def write_layout(layout: Layout, path: Path, note: str = "") -> None:
    """Both files; raises as `write_volume`."""
    labels = layout.labels.array.astype(np.uint8 if layout.labels.array.max() < 256 else np.int16)
    write_volume(replace(layout.labels, array=labels), path, note)
    table = {str(number): name for number, name in sorted(layout.names.items())}
    temporary = names_path(path).with_suffix(".tmp")
    temporary.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, names_path(path))
