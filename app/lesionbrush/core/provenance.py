"""Where a synthetic CT comes from: the record beside every output."""

from __future__ import annotations

import errno
import json
import os
import platform
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from lesionbrush import __version__
from lesionbrush.errors import StorageFull
from lesionbrush.systems.lesion_inpainting.request import AnyRequest

SUFFIX = ".provenance.json"
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


class MaskStatistics(BaseModel):
    """HU of the synthetic CT in the lesion mask."""

    model_config = ConfigDict(frozen=True)

    voxels: int
    mean_hu: float
    std_hu: float
    p10_hu: float
    p90_hu: float

    @classmethod
    def of(cls, hu: np.ndarray) -> MaskStatistics:
        """Statistics of a flat array of HU."""
        p10, p90 = np.percentile(hu, (10, 90))
        values = (hu.mean(), hu.std(), p10, p90)
        mean, std, low, high = (round(float(value), 2) for value in values)
        return cls(voxels=hu.size, mean_hu=mean, std_hu=std, p10_hu=low, p90_hu=high)


class Provenance(BaseModel):
    """Everything needed to say what an output is and to make it again."""

    model_config = ConfigDict(frozen=True)

    synthetic: bool = True
    notice: str = "Synthetic CT made by LesionBrush. Not for diagnosis; not a medical device."
    model: str
    weights_sha256: str
    weights_license: str
    attribution: str
    request: AnyRequest
    variant: int
    seed: int
    reference_sha256: str
    inputs_sha256: dict[str, str] = {}
    box_offset: tuple[int, int, int]
    box_shape: tuple[int, int, int]
    voxels_changed: int
    in_mask: MaskStatistics
    device: str
    remarks: tuple[str, ...] = ()
    seconds: dict[str, float]
    created: str
    versions: dict[str, str]

    @property
    def note(self) -> str:
        """At most 79 ASCII bytes: what NIfTI's header field holds with the zero behind it."""
        return f"SYNTHETIC LesionBrush {__version__} {self.model} seed {self.seed}"[:79]


@cache
def versions() -> dict[str, str]:
    """Versions that can change a voxel. Kept: looking them up reads every package's metadata, some 30 ms."""
    names = ("torch", "numpy", "scipy", "monai")
    return {"lesionbrush": __version__, "python": platform.python_version(), **{n: version(n) for n in names}}


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def sidecar_path(volume_path: Path) -> Path:
    """Where the record of a volume is: `ct.nii.gz` -> `ct.provenance.json`.

    It is `ct.nii.gz.provenance.json` when it was written beside say `ct.nrrd`.
    """
    own = volume_path.with_name(volume_path.name + SUFFIX)
    return own if own.exists() else volume_path.with_name(_stem(volume_path) + SUFFIX)


def place_for_record(volume_path: Path) -> Path:
    """Where to write the record: two volumes of one name and two types must not share theirs."""
    stem, name = _stem(volume_path), volume_path.name
    own_suffix = name[len(stem) :].lower()
    others = (volume_path.with_name(stem + suffix) for suffix in _VOLUMES if suffix != own_suffix)
    shared = any(other.exists() for other in others)
    return volume_path.with_name((name if shared else stem) + SUFFIX)


def _stem(volume_path: Path) -> str:
    """The name without its file type; other dots, as in DICOM UIDs, belong to the name."""
    name = volume_path.name
    suffix = next((suffix for suffix in _VOLUMES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def write_sidecar(provenance: Provenance, volume_path: Path) -> Path:
    """Write the record beside a volume, all or nothing. StorageFull when the disk is."""
    path = place_for_record(volume_path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(provenance.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"the disk is full: {path.name} was not written") from error
    return path


def read_sidecar(volume_path: Path) -> Provenance:
    """The record beside a volume."""
    return Provenance.model_validate(json.loads(sidecar_path(volume_path).read_text(encoding="utf-8")))
