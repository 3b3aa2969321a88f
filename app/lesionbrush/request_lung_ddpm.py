"""What a caller may ask of Lung-DDPM and Lung-DDPM+."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.request_base import MOST_STEPS, BaseRequest


class LungDDPMRequest(BaseRequest):
    """One request to Lung-DDPM: the lungs around a nodule, from a layout of lungs and nodule."""

    system: SkipJsonSchema[Literal["lung_ddpm"]] = "lung_ddpm"
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps; the paper takes 250 with ddpm")
    sampler: Literal["ddim", "ddpm", "dpm_solver_pp_2m"] = "dpm_solver_pp_2m"
    region: Literal["edit", "lungs"] = Field(
        "edit", description="which voxels may change: mask and margin, or all of both lungs as well"
    )
    as_published: bool = Field(
        False, description="the released sampler with its flaws, for those who want the paper's numbers"
    )

    @property
    def edits_lungs(self) -> bool:
        return self.region == "lungs"


class LungDDPMPlusRequest(BaseRequest):
    """One request to Lung-DDPM+: a nodule in a cube around it."""

    system: SkipJsonSchema[Literal["lung_ddpm_plus"]] = "lung_ddpm_plus"
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps; the paper takes 50")
    start: Literal["blended", "inversion"] = Field(
        "blended",
        description="inversion: from the inverted reference, as published, which takes twice the time; "
        "blended: the reference is held around the edit region at every step",
    )
    as_published: bool = Field(
        False, description="the released sampler with its flaws, for those who want the paper's numbers"
    )
