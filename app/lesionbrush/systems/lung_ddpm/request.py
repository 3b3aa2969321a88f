"""What a caller may ask of Lung-DDPM and Lung-DDPM+."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, EditRequest

Sampler = Literal["ddim", "ddpm", "dpm_solver_pp_2m"]


class _Published(EditRequest):
    """A request that may be for the sampler of a paper, whose settings are then the paper's."""

    released: ClassVar[Mapping[str, Any]]

    @model_validator(mode="before")
    @classmethod
    def _as_released(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("as_published") in (True, "true"):
            return {**values, **cls.released}
        return values


class LungDDPMRequest(_Published):
    """One request to Lung-DDPM: the lungs around a nodule, from a layout of lungs and nodule."""

    released: ClassVar = {"steps": 250, "sampler": "ddpm"}

    system: SkipJsonSchema[Literal["lung_ddpm"]] = "lung_ddpm"
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps")
    sampler: Sampler = "dpm_solver_pp_2m"
    region: Literal["edit", "lungs"] = Field(
        "edit", description="which voxels may change: mask and margin, or all of both lungs as well"
    )
    as_published: bool = Field(
        False, description="the released sampler with its flaws, for the paper's numbers: 250 steps of ddpm"
    )


class LungDDPMPlusRequest(_Published):
    """One request to Lung-DDPM+: a nodule in a cube around it."""

    released: ClassVar = {"steps": 50, "sampler": "dpm_solver_pp_2m", "start": "inversion"}

    system: SkipJsonSchema[Literal["lung_ddpm_plus"]] = "lung_ddpm_plus"
    steps: int = Field(25, ge=1, le=MOST_STEPS, description="denoising steps")
    sampler: Sampler = Field("dpm_solver_pp_2m", description="of the blended start; inversion has its own")
    start: Literal["blended", "inversion"] = Field(
        "blended",
        description="inversion: from the inverted reference, as published, which takes twice the time; "
        "blended: the reference is held around the edit region at every step",
    )
    as_published: bool = Field(
        False,
        description="the released sampler with its flaws, for the paper's numbers: inversion, 50 steps",
    )
