"""The studies folder: MONAI Label's own datastore, with checked names and files that are never half there.

MONAI Label's bookkeeping is not made for threads. All of it is done in the thread of the event loop, which is
why the functions here that touch it are short, and why its file watcher, a thread of its own, is off.
"""

from __future__ import annotations

import re
from pathlib import Path

from monailabel.datastore.local import LocalDatastore

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import AlreadyStored, UnknownImage
from lesionbrush.server.uploads import SUFFIXES, suffix_of

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class Studies(LocalDatastore):
    """Images `<folder>/<id><suffix>` and labels `<folder>/labels/<tag>/<id><suffix>`."""

    def __init__(self, folder: str) -> None:
        if "://" in folder:
            raise InvalidRequest(
                f"the studies are a folder of CTs on this machine, not an address ({folder})"
            )
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


def require_name(what: str, name: str) -> None:
    """InvalidRequest unless the name is safe as a file name on every system."""
    if not _NAME.fullmatch(name) or ".." in name or any(suffix in name.lower() for suffix in SUFFIXES):
        raise InvalidRequest(
            f"{what} {name!r}: use up to 128 letters, digits, '_', '-' and single dots, and no file type"
        )
