"""Where the record of a volume goes: beside it, and never over the record of another volume."""

from pathlib import Path

from .uploads import SUFFIXES, split

SIDECAR = ".provenance.json"


def place_for_record(volume: Path) -> Path:
    """`ct.nii.gz` -> `ct.provenance.json`; when say `ct.nrrd` lies beside it, `ct.nii.gz.provenance.json`.

    As `lesionbrush.provenance` does it. Raises ValueError for an unknown file type.
    """
    stem, own = split(volume)
    others = (volume.with_name(stem + suffix) for suffix in SUFFIXES if suffix != own)
    shared = any(other.exists() for other in others)
    return volume.with_name((volume.name if shared else stem) + SIDECAR)
