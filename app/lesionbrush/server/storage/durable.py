"""Folders and texts that are there whole or not at all, also after a crash. Imports no web framework.

`PUBLISHING` is the one lock under which names in a studies folder come into being.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import uuid4

from lesionbrush.files.durable import sync_file, sync_folder

PUBLISHING = RLock()


def move(source: Path, target: Path) -> None:
    """Rename, replacing what was there; both names last when this returns."""
    os.replace(source, target)
    for folder in {source.parent, target.parent}:
        sync_folder(folder)


def write_text(path: Path, text: str, drafts: Path) -> None:
    """All of the text or what was there before. drafts: a folder on the same disk. Raises OSError."""
    draft = drafts / f"{uuid4().hex}.draft"
    try:
        draft.write_text(text, encoding="utf-8")
        sync_file(draft)
        move(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """For a folder that is published as a whole: on the disk when this returns, but not atomic by itself."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    sync_file(path)


def discard(folder: Path, trash: Path) -> None:
    """A folder vanishes under its name at once, and from the disk soon after. Missing is fine."""
    gone = trash / f"{uuid4().hex}.gone"
    try:
        os.replace(folder, gone)
    except FileNotFoundError:
        return
    except OSError:  # a full disk may not take the new name; then it goes from where it is
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)
