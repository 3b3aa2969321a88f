"""What lies beside the box and the mask of a case: where it comes from, what was asked, what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lesionbrush.cohorts.casting import CaseKind
from lesionbrush.cohorts.findings import WantedLesion
from lesionbrush.cohorts.specification import Split, Twins
from lesionbrush.cohorts.truth import LesionTruth
from lesionbrush.core.boxes import Box, box_of
from lesionbrush.core.provenance import Provenance
from lesionbrush.errors import DamagedFile

BOX, MASK, TWIN, RECORD = "box.nii.gz", "mask.nii.gz", "twin.nii.gz", "case.json"


class LesionRecord(BaseModel):
    """label: of its voxels in the mask file; organ: it lies in; model: "" for one that was there already.

    reach_mm: how far around it the CT may have changed; surface_mm: from its edge to the organ's surface, as
    far as it was measured.
    """

    model_config = ConfigDict(frozen=True)

    label: int
    wanted: WantedLesion
    organ: str
    model: str
    request: dict[str, Any]
    reach_mm: float
    surface_mm: float | None
    truth: LesionTruth

    @property
    def off_hu(self) -> float | None:
        """|HU asked for - HU measured|: of the mean or of the contrast, None where none was asked for."""
        for name, measured in (("mean_hu", self.truth.mean_hu), ("contrast_hu", self.truth.contrast_hu)):
            asked = self.wanted.attributes.get(name)
            if isinstance(asked, (int, float)) and not isinstance(asked, bool) and measured is not None:
                return abs(float(asked) - measured)
        return None


class CaseRecord(BaseModel):
    """One case. asked: digest of the cohort; offset, shape: of the box in the reference, in stored order.

    provenance: of the last edit, with those before it in `made_from`; None for a case without a lesion. twin:
    the same of `twin.nii.gz`, the box with healthy tissue, where there is one.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    asked: str
    reference: str
    split: Split
    kind: CaseKind = "lesions"
    twins: Twins
    reference_sha256: str
    offset: tuple[int, int, int]
    shape: tuple[int, int, int]
    lesions: tuple[LesionRecord, ...]
    seam_hu: float
    provenance: Provenance | None
    twin: Provenance | None = None
    files_sha256: dict[str, str] = {}
    seconds: float

    @property
    def box(self) -> Box:
        return box_of((o, o + n) for o, n in zip(self.offset, self.shape, strict=True))

    @property
    def worst(self) -> float:
        """What the case is sorted by in pictures, HU: its seam, and how far HU are from those asked for."""
        return max(self.seam_hu, 0.0) + max((one.off_hu or 0.0 for one in self.lesions), default=0.0)

    @classmethod
    def read(cls, folder: Path) -> CaseRecord:
        """Raises DamagedFile."""
        try:
            return cls.model_validate_json((folder / RECORD).read_bytes())
        except (OSError, ValidationError) as error:
            raise DamagedFile(
                f"{folder.name}/{RECORD} is no record of a case: remove that folder, then resume the cohort"
            ) from error
