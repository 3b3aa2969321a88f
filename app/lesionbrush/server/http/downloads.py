"""Reading the datastore, at MONAI Label's own addresses: images, labels, and what is known of a label.

Its own code for these answers an unknown id with a bare error, and one checksum option with a crash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from lesionbrush.server.errors import UnknownLabel
from lesionbrush.server.http.deps import TheStudies
from lesionbrush.server.http.replies import FileReply
from lesionbrush.server.storage.studies import Studies

router = APIRouter(prefix="/datastore")

_OCTETS = "application/octet-stream"


async def the_label(studies: TheStudies, label: str, tag: str) -> Path:
    """Raises UnknownImage, UnknownLabel."""
    return _label(studies, label, tag)


@router.get("/image")
@router.head("/image")
async def get_image(image: str, studies: TheStudies) -> FileReply:
    """A stored CT, as it was stored."""
    path = studies.locate(image)
    return FileReply(path, media_type=_OCTETS, filename=path.name)


@router.get("/label")
async def get_label(path: Annotated[Path, Depends(the_label)]) -> FileReply:
    return FileReply(path, media_type=_OCTETS, filename=path.name)


@router.head("/label")
async def has_label(image: str, tag: str, studies: TheStudies) -> FileReply:
    """MONAI Label calls the same thing `image` here and `label` in GET."""
    path = _label(studies, image, tag)
    return FileReply(path, media_type=_OCTETS, filename=path.name)


@router.get("/label/info")
async def get_label_info(label: str, tag: str, studies: TheStudies) -> dict[str, Any]:
    """What was stored with a label."""
    _label(studies, label, tag)
    info: dict[str, Any] = studies.get_label_info(label, tag)
    return info


def _label(studies: Studies, image: str, tag: str) -> Path:
    studies.locate(image)
    uri = studies.get_label_uri(image, tag)
    if not uri or not Path(uri).is_file():
        raise UnknownLabel(f"image {image!r} has no label {tag!r}; GET /datastore/?output=all lists them")
    return Path(uri)
