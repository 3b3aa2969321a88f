"""The record beside every volume that was made."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from lesionbrush.core.provenance import Provenance
from lesionbrush.errors import DamagedFile
from lesionbrush.files.durable import whole_files

SUFFIX = ".provenance.json"
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def sidecar_path(volume_path: Path) -> Path:
    """Where the record of a volume is: `ct.nii.gz` -> `ct.provenance.json`.

    It is `ct.nii.gz.provenance.json` when it was written beside say `ct.nrrd`.
    """
    own = volume_path.with_name(volume_path.name + SUFFIX)
    return own if own.exists() else volume_path.with_name(stem_of(volume_path) + SUFFIX)


def place_for_record(volume_path: Path) -> Path:
    """Where to write the record: two volumes of one name and two types must not share theirs."""
    stem, name = stem_of(volume_path), volume_path.name
    own_suffix = name[len(stem) :].lower()
    others = (volume_path.with_name(stem + suffix) for suffix in _VOLUMES if suffix != own_suffix)
    shared = any(other.exists() for other in others)
    return volume_path.with_name((name if shared else stem) + SUFFIX)


def stem_of(volume_path: Path) -> str:
    """The name without its file type; other dots, as in DICOM UIDs, belong to the name."""
    name = volume_path.name
    suffix = next((suffix for suffix in _VOLUMES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def write_sidecar(provenance: Provenance, volume_path: Path) -> Path:
    """Write the record beside a volume, all or nothing. StorageFull when the disk is."""
    path = place_for_record(volume_path)
    with whole_files(path) as (draft,):
        draft.write_text(provenance.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def read_sidecar(volume_path: Path) -> Provenance:
    """The record beside a volume."""
    return Provenance.model_validate(json.loads(sidecar_path(volume_path).read_text(encoding="utf-8")))


def record_of(volume_path: Path) -> Provenance | None:
    """The record beside a volume, None for one that has none; DamagedFile for one that cannot be read."""
    return None if volume_path.is_dir() else read_record(sidecar_path(volume_path), volume_path)


def read_record(path: Path, volume_path: Path) -> Provenance | None:
    """A record, None where there is no such file; DamagedFile for one that cannot be read."""
    if not path.is_file():
        return None
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedFile(
            f"{path.name} is no record of LesionBrush: mend or remove it; it says what {volume_path.name} is"
        ) from error
