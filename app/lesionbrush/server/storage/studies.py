"""The studies folder: MONAI Label's own datastore, with checked names and files that are never half there.

MONAI Label's bookkeeping is not made for threads. Here the index is replaced as a whole, under a lock, and
its file watcher, a thread of its own, is off. A damaged index is made anew from the files.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from threading import RLock
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel

from lesionbrush.errors import InvalidRequest, StorageFull
from lesionbrush.server.errors import AlreadyStored, UnknownImage, naming_full_disk
from lesionbrush.server.storage.cases import TAG, Cases
from lesionbrush.server.storage.durable import write_text
from lesionbrush.server.storage.index import read_index, rebuild
from lesionbrush.server.storage.names import require_name, split
from lesionbrush.server.storage.private import private_root
from lesionbrush.server.storage.uploads import SUFFIXES, suffix_of

logger = logging.getLogger(__name__)


class Studies(LocalDatastore):
    """Images `<folder>/<id><suffix>` and labels `<folder>/labels/<tag>/<id><suffix>`.

    private: the server's own folder in it; cases: the accepted ones. Raises InvalidRequest, StudiesInUse.
    """

    elsewhere = False
    """Whether CTs have to be fetched before they can be read."""
    _datastore: LocalDatastoreModel
    _config_ts: float

    def __init__(self, folder: str) -> None:
        if "://" in folder:
            raise InvalidRequest(
                f"the studies are a folder of CTs on this machine, not an address ({folder})"
            )
        self.folder = Path(folder)
        self.private = private_root(self.folder)
        self.cases = Cases(self.folder, self.private)
        self._indexing = RLock()
        self._index_is_behind = False
        super().__init__(folder, extensions=[f"*{suffix}" for suffix in SUFFIXES], auto_reload=False)

    def locate(self, image: str) -> Path:
        """The file of an image id; the folder is looked through again before it is called unknown.

        Raises UnknownImage.
        """
        uri = self.get_image_uri(image) or self._after_refresh(image)
        if not uri or not Path(uri).is_file():
            raise UnknownImage(
                f"no image is called {image!r} on this server; GET /datastore/?output=all lists them"
            )
        return Path(uri)

    def _after_refresh(self, image: str) -> str:
        self.refresh()
        return str(self.get_image_uri(image))

    def without_case(self) -> list[str]:
        """Sorted ids of the CTs from which no case was made: neither labelled nor the reference of one."""
        self.refresh()
        used = self.cases.references()
        objects = self._datastore.objects
        return sorted(image for image in objects if TAG not in objects[image].labels and image not in used)

    def facts(self, image: str) -> dict[str, str]:
        """What MONAI Label's clients show of a CT, and never its path. Raises UnknownImage."""
        return {"name": self.locate(image).name}

    def fetch_label(self, image: str, tag: str) -> None:
        """For studies elsewhere: bring a label here. A folder has all it has."""

    def place_for_image(self, image: str, file_name: str) -> Path:
        """Where a new image goes. Raises InvalidRequest (its id or type), AlreadyStored."""
        suffix = suffix_of(file_name)
        require_name("image", image)
        self.refresh()
        if self.get_image_uri(image):
            raise AlreadyStored(
                f"an image {image!r} is stored already, and is not overwritten: choose another id"
            )
        return Path(self._datastore.image_path()) / f"{image}{suffix}"

    def place_for_label(self, image: str, tag: str, file_name: str) -> Path:
        """Where a new label goes. Raises InvalidRequest, UnknownImage, AlreadyStored."""
        suffix = suffix_of(file_name)
        require_name("tag", tag)
        self.locate(image)
        if self.get_label_uri(image, tag):
            raise AlreadyStored(f"image {image!r} has a label {tag!r} already, and it is not overwritten")
        return Path(self._datastore.label_path(tag)) / f"{image}{suffix}"

    def notice(self, image: str) -> None:
        """A case has come. Its files are the truth, so an index that cannot be written now is no failure."""
        try:
            self.refresh()
        except OSError as error:
            logger.warning("the index cannot be written now: %s", error.strerror)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        with self._indexing:
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        with self._indexing:
            super().update_label_info(label_id, label_tag, info)

    def _to_id(self, file: str) -> tuple[str, str]:
        """Stock code takes every dot for the start of a file type, and so one DICOM UID for another."""
        return split(file) or (file, "")

    def _reconcile_datastore(self) -> None:
        with self._indexing:
            self._init_from_datastore_file()
            fresh = rebuild(self._datastore, self.folder, self._notes)
            if fresh.objects == self._datastore.objects and not self._index_is_behind:
                return
            self._datastore, self._index_is_behind = fresh, True
            try:
                self._update_datastore_file()
            except StorageFull:  # it can be read all the same, and is written with the next chance
                logger.warning("the index cannot be written now: the disk is full")

    def _notes(self, image: str) -> Mapping[str, Any]:
        """For an accepted case: that it is synthetic, and of what; the whole record lies beside the image."""
        record = self.cases.record(image) or {}
        kept = ("synthetic", "generated", "model", "seed", "quick_look", "reference_id", "reference_sha256")
        return {key: record[key] for key in (*kept, "accepted") if key in record}

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the index when it has changed. A damaged one is kept aside, and the files are looked at."""
        path = Path(self._datastore_config_path)
        with self._indexing, FileLock(self._lock_file):
            if not path.exists() or path.stat().st_mtime == self._config_ts:
                return
            try:
                self._datastore = read_index(path, self._datastore_path)
                self._config_ts = path.stat().st_mtime
            except (ValueError, IsADirectoryError):
                kept = self.private.aside / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%f}-{path.name}"
                os.replace(path, kept)
                self._index_is_behind = True
                logger.warning("the index %s is damaged: it is kept aside, and made anew", path.name)

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the index, all of it or nothing. Raises StorageFull."""
        text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        path = Path(self._datastore_config_path)
        with self._indexing, naming_full_disk():
            write_text(path, text, self.private.tmp)
            self._config_ts, self._index_is_behind = path.stat().st_mtime, False
