"""What was measured in a chest CT, typed: for a report, for training on text, for what evaluates a text."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from lesionbrush.cohorts.truth import LesionTruth

Texture = Literal["solid", "part-solid", "ground-glass"]
Side = Literal["right", "left"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(Frozen):
    """A number, or why there is none: never both, never neither."""

    value: float | None = None
    why_not: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Measurement:
        if (self.value is None) == (not self.why_not):
            raise ValueError("a measurement is a value, or says why there is none")
        return self


class NoduleFinding(Frozen):
    """lobe: its name in LOBES, or "right lung", "left lung"; None: it lies outside both lungs.

    texture: by HU alone; truth: sizes and HU as of every lesion of the project.
    """

    lobe: str | None
    texture: Texture
    truth: LesionTruth


class ChestFindings(Frozen):
    """Of one CT. Volumes in ml, widths in mm, shares in percent, noise in HU.

    laa950_percent: of the lungs without airways, below -950 HU. heart_width_mm: the greatest, and
    chest_width_mm that inside the ribs on the same axial slice; cardiothoracic_ratio: one over the other.
    slice_mm: from slice to slice; how thick they are, no volume says. cut_lungs: those that the border of the
    volume cuts, whose ml are what lies in it.
    """

    right_lung_ml: Measurement
    left_lung_ml: Measurement
    laa950_percent: Measurement
    heart_width_mm: Measurement
    chest_width_mm: Measurement
    cardiothoracic_ratio: Measurement
    effusion_right_ml: Measurement
    effusion_left_ml: Measurement
    consolidation_ml: Measurement
    airways_ml: Measurement
    noise_hu: Measurement
    slice_mm: float
    cut_lungs: tuple[Side, ...] = ()
    nodules: tuple[NoduleFinding, ...] | None = None
    """None: no mask was given, so nobody looked for any."""
    remarks: tuple[str, ...] = ()
