"""MONAI Label's index of a studies folder, made from the files: they are the truth, the index adds notes.

A model is never changed in place: readers in other threads see the old one or the new one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastoreModel

from lesionbrush.server.storage.names import split
from lesionbrush.server.storage.uploads import SUFFIXES

Notes = Callable[[str], Mapping[str, Any]]
"""What is known about an image besides its file: id -> info."""

logger = logging.getLogger(__name__)


def read_index(path: Path, base: str) -> LocalDatastoreModel:
    """Raises ValueError when the file is damaged, OSError when it cannot be read."""
    model = LocalDatastoreModel.model_validate_json(path.read_text(encoding="utf-8"))
    model.base_path, model.images_dir, model.labels_dir = base, ".", "labels"
    return model


def rebuild(known: LocalDatastoreModel, folder: Path, notes: Notes) -> LocalDatastoreModel:
    """The index as the files say; what `known` has noted about a file stays, `notes` come with a new one."""
    images, labels = volumes(folder), folder / "labels"
    tags = (
        [tag for tag in sorted(labels.glob("*/")) if not tag.name.startswith(".")] if labels.is_dir() else []
    )
    labelled = {tag.name: volumes(tag) for tag in tags}
    objects = {}
    for image, suffix in images.items():
        old = known.objects.get(image)
        found = {tag: files[image] for tag, files in labelled.items() if image in files}
        note = notes(image) if old is None else {}
        objects[image] = ImageLabelModel(
            image=_entry(old.image if old else None, image, suffix, note),
            labels={
                tag: _entry(old.labels.get(tag) if old else None, image, end, note)
                for tag, end in found.items()
            },
        )
    return known.model_copy(update={"objects": objects})


def _entry(old: DataModel | None, image: str, suffix: str, note: Mapping[str, Any]) -> DataModel:
    if old is not None and old.ext == suffix:
        return old
    return DataModel(ext=suffix, info={"ts": int(time.time()), "name": image + suffix, **note})


def volumes(folder: Path) -> dict[str, str]:
    """id -> file type of each volume in a folder. Of two with one id, the first in the order of SUFFIXES."""
    order = {suffix: number for number, suffix in enumerate(SUFFIXES)}
    found = [parts for path in folder.iterdir() if (parts := split(path.name)) and path.is_file()]
    found.sort(key=lambda parts: (parts[0], -order[parts[1].lower()], parts[1]))
    chosen = dict(found)
    if len(chosen) < len(found):
        logger.warning(
            "%d volumes are hidden by others of the same name and another file type: rename them",
            len(found) - len(chosen),
        )
    return chosen
