"""Volumes and their records on this computer: beside each other, never over the record of another volume."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .uploads import SUFFIXES, split

SIDECAR = ".provenance.json"


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a CT that was made from nothing; an edit of one is generated as well."""
    return bool(record.get("generated")) and record.get("reference_sha256") is None


def place_for_record(volume: Path) -> Path:
    """`ct.nii.gz` -> `ct.provenance.json`; when say `ct.nrrd` lies beside it, `ct.nii.gz.provenance.json`.

    As `lesionbrush.core.provenance` does it. Raises ValueError for an unknown file type.
    """
    stem, own = split(volume)
    others = (volume.with_name(stem + suffix) for suffix in SUFFIXES if suffix != own)
    shared = any(other.exists() for other in others)
    return volume.with_name((volume.name if shared else stem) + SIDECAR)


def publish(drafts: list[Path], paths: list[Path], records: list[dict[str, Any]]) -> None:
    """Write the records beside the drafts, then move all into place; the volumes last."""
    for draft, path, record in zip(drafts, paths, records):
        sidecar = place_for_record(path)
        beside = draft.with_name(f"{draft.name}.json")
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, sidecar)
        os.replace(draft, path)
