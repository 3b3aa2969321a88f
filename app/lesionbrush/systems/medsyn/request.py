"""What a caller may ask of MedSyn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, BaseRequest, EditRequest

Sampler = Literal["dpm_solver_pp_2m", "ddim", "ddpm"]


class ChestRequest(BaseRequest):
    """What both kinds of networks are asked."""

    system: str
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps, coarse; as published: 50")
    fine_steps: int = Field(8, ge=1, le=MOST_STEPS, description="denoising steps, fine; as published: 20")
    size: int
    sampler: Sampler = Field("dpm_solver_pp_2m", description="ddim is the published one")
    strength: float = Field(
        1.0, ge=0, le=5, description="of the text: 1 as trained; more goes beyond, 0 leaves it out"
    )


class MedSynRequest(ChestRequest):
    """A whole new chest CT, with its lobes, airways and vessels."""

    system: SkipJsonSchema[Literal["medsyn"]] = "medsyn"
    size: Literal[64, 128, 256] = Field(
        128, description="voxels a side: 256 is the published one, and takes eight times as long as 128"
    )


class ReleasedRequest(ChestRequest):
    """A whole new chest CT by the authors' weights, as their program samples them by default."""

    system: SkipJsonSchema[Literal["medsyn_released"]] = "medsyn_released"
    steps: int = Field(50, ge=1, le=MOST_STEPS, description="denoising steps, coarse")
    fine_steps: int = Field(20, ge=1, le=MOST_STEPS, description="denoising steps, fine")
    size: Literal[64, 256] = Field(256, description="voxels a side: 64 leaves the fine ones out")
    sampler: Sampler = Field("ddim", description="dpm_solver_pp_2m needs fewer steps")


class FindingRequest(ChestRequest, EditRequest):
    """What a text adds to a chest, in the lungs of a CT that is there."""

    system: SkipJsonSchema[Literal["medsyn_finding"]] = "medsyn_finding"
    size: Literal[64, 128] = Field(
        64, description="voxels a side that the finding is made of: 128 is finer, and takes ten times as long"
    )
    steps: int = Field(12, ge=1, le=MOST_STEPS, description="denoising steps, coarse")
    strength: float = Field(2.0, gt=0, le=5, description="of the text: 1 as trained; more goes beyond")
    amount_ml: float | None = Field(
        None, ge=3, le=5000, description="of lung that is replaced, as by fluid; null: as the text says"
    )
    margin_mm: float = Field(1.0, ge=0, le=20, description="how far around the lungs voxels may change")
    against: str = Field(
        "No pleural effusion. No emphysema. No consolidation. Normal heart size.",
        description="what the CT shows as it is: what the text says otherwise changes",
    )
