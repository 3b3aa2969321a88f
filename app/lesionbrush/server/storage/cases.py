"""Completed cases in a studies folder: image, label `final` and record, all three or none of them.

A case is made ready in a private folder, then that folder is renamed into `.lesionbrush/accepts/`: from that
moment the case is decided. Then its files are renamed into place, the image last, because the image is what
makes a case visible. What a crash interrupts is finished at the next start. Imports no MONAI Label.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lesionbrush.errors import LesionBrushError
from lesionbrush.files.durable import sync_folder
from lesionbrush.files.records import SUFFIX as RECORD_SUFFIX
from lesionbrush.server.storage.durable import PUBLISHING, discard, move, write_json
from lesionbrush.server.storage.names import require_name
from lesionbrush.server.storage.private import PrivateRoot
from lesionbrush.server.storage.uploads import require_unused

TAG = "final"
"""Of a label: what MONAI Label calls what is done. A SEG in an archive has no tag, and counts as this one."""
SUFFIX = ".nii.gz"
IMAGE, LABEL, RECORD = f"image{SUFFIX}", f"label{SUFFIX}", "provenance.json"

_PLAN = "plan.json"
_DRAFTS = ".lesionbrush-*"

logger = logging.getLogger(__name__)


class Cases:
    """The one place where a case comes into being. Finishes, when made, what a crash has interrupted."""

    def __init__(self, folder: Path, private: PrivateRoot) -> None:
        self.folder, self.private = folder.resolve(), private
        with PUBLISHING:
            self._remove_drafts()
            for pending in private.accepts.iterdir():
                self._recover(pending)
            self._images: dict[str, str] = {}
            self._references: dict[str, Any] = {}
            for record in self._list_records():
                self._images[record["key_sha256"]] = record["image"]
                self._references[record["image"]] = record.get("reference_id")

    def files(self, image: str) -> dict[str, Path]:
        """Where each part of a case goes, in the order in which they get there."""
        labels = self.folder / "labels" / TAG
        return {
            RECORD: self.folder / f"{image}{RECORD_SUFFIX}",
            LABEL: labels / f"{image}{SUFFIX}",
            IMAGE: self.folder / f"{image}{SUFFIX}",
        }

    def find(self, key_sha256: str) -> str | None:
        """The id of the case that was accepted under a key, while its files are there."""
        with PUBLISHING:
            image = self._images.get(key_sha256)
            if image is None or not all(path.is_file() for path in self.files(image).values()):
                return None
            return image

    def record(self, image: str) -> dict[str, object] | None:
        """The record beside an image, if there is one that can be read."""
        return _json_object(self.files(image)[RECORD])

    def references(self) -> set[str]:
        """Ids of what cases were made from, as long as these are there."""
        with PUBLISHING:
            made_from = self._references.items()
            there = (reference for image, reference in made_from if self.files(image)[IMAGE].is_file())
            return {reference for reference in there if isinstance(reference, str)}

    def require_free(self, image: str) -> None:
        """AlreadyStored when an image or a final label of this id exists, in whatever format."""
        for part in (IMAGE, LABEL):
            require_unused(self.files(image)[part])

    def publish(self, draft: Path, image: str, key_sha256: str) -> None:
        """The three files of `draft` become a case; all of them, or, whatever fails, none.

        Raises AlreadyStored, OSError.
        """
        with PUBLISHING:
            self.require_free(image)
            write_json(draft / _PLAN, {"image": image})
            sync_folder(draft)
            pending = self.private.accepts / draft.name
            try:
                move(draft, pending)
                self._finish(pending, image)
            except OSError:
                self._undo(pending, image)
                raise
            self._images[key_sha256] = image
            self._references[image] = (self.record(image) or {}).get("reference_id")

    def _finish(self, pending: Path, image: str) -> None:
        for name, target in self.files(image).items():
            if (pending / name).exists():  # else it is there already
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(pending / name, target)
        for folder in {target.parent for target in self.files(image).values()}:
            sync_folder(folder)
        discard(pending, self.private.tmp)

    def _undo(self, pending: Path, image: str) -> None:
        """Take the files back, the image first. A crash in between is finished forwards at the next start."""
        for name, target in reversed(self.files(image).items()):
            if pending.is_dir() and not (pending / name).exists() and target.exists():
                os.replace(target, pending / name)
        discard(pending, self.private.tmp)

    def _recover(self, pending: Path) -> None:
        plan = _json_object(pending / _PLAN)
        image = plan.get("image") if plan else None
        try:
            image = require_name("image", str(image)) if image else None
        except LesionBrushError:
            image = None
        if image is None or not self._can_finish(pending, image):
            logger.warning(
                "a case that a crash had interrupted cannot be completed; its files are kept aside"
            )
            os.replace(pending, self.private.aside / pending.name)
            return
        self._finish(pending, image)
        logger.warning("a case that a crash had interrupted is complete now")

    def _can_finish(self, pending: Path, image: str) -> bool:
        """Is each part in exactly one of its two places? Somebody may have been here since the crash.

        A record that is there already is the one of a case whose image has gone; it is replaced.
        """
        targets = self.files(image)
        staged = {name: (pending / name).exists() for name in targets}
        return all(
            targets[name].exists() != here or (name == RECORD and here) for name, here in staged.items()
        )

    def _list_records(self) -> list[dict[str, Any]]:
        """The record of every case that was accepted here."""
        found = []
        for path in sorted(self.folder.glob(f"*{RECORD_SUFFIX}")):
            record = _json_object(path) or {}
            named = f"{record.get('image')}{RECORD_SUFFIX}" == path.name
            if named and isinstance(record.get("key_sha256"), str):
                found.append(record)
        return found

    def _remove_drafts(self) -> None:
        """What a crash left of uploads that were on their way into the studies."""
        folders = [self.folder, *(self.folder / "labels").glob("*/")]
        for draft in (path for folder in folders for path in folder.glob(_DRAFTS)):
            remove: Callable[[Path], object] = shutil.rmtree if draft.is_dir() else Path.unlink
            remove(draft)


def _json_object(path: Path) -> dict[str, object] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
