"""Where a synthetic CT comes from: the record beside every output."""

from __future__ import annotations

import platform
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from lesionbrush import __version__


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


EDITED = "Synthetic CT made by LesionBrush. Not for diagnosis; not a medical device."
GENERATED = (
    "Synthetic CT generated as a whole by LesionBrush: no voxel of a patient was kept. "
    "Not for diagnosis; not a medical device."
)
MARK, MARK_GENERATED = "SYNTHETIC LesionBrush", "SYNTHETIC GENERATED LesionBrush"


def as_note(text: str) -> str:
    """A text of a file that says that it is synthetic; "" for any other, which is nobody's business."""
    return text if text.startswith("SYNTHETIC") else ""


class Provenance(BaseModel):
    """Everything needed to say what an output is and to make it again.

    generated: a whole new CT, or an edit of one: no voxel of a patient was kept. reference_sha256: of the
    CT that was edited, None where there was none; made_from: its record, where it is synthetic itself.
    request: as its system's type writes it; its key `system` says which. voxels_changed: of a generation all.
    """

    model_config = ConfigDict(frozen=True)

    synthetic: bool = True
    generated: bool = False
    notice: str = EDITED
    model: str
    weights_sha256: str
    weights_license: str
    attribution: str
    request: dict[str, Any]
    variant: int
    seed: int
    reference_sha256: str | None
    inputs_sha256: dict[str, str] = {}
    box_offset: tuple[int, int, int]
    box_shape: tuple[int, int, int]
    voxels_changed: int
    in_mask: MaskStatistics | None
    device: str
    remarks: tuple[str, ...] = ()
    seconds: dict[str, float]
    created: str
    versions: dict[str, str]
    made_from: Provenance | None = None

    @property
    def mark(self) -> str:
        return MARK_GENERATED if self.generated else MARK

    @property
    def is_edit(self) -> bool:
        """Of a CT that was there, be it real or generated."""
        return self.reference_sha256 is not None

    @property
    def note(self) -> str:
        """At most 79 ASCII bytes: what NIfTI's header field holds with the zero behind it."""
        return f"{self.mark} {__version__} {self.model} seed {self.seed}"[:79]


@cache
def versions() -> dict[str, str]:
    """Versions that can change a voxel. Kept: looking them up reads every package's metadata, some 30 ms."""
    found = {"lesionbrush": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "monai", "openvino"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
