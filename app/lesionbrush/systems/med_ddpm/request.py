"""What a caller may ask of Med-DDPM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import EditRequest

Content = Literal["tumour", "healthy"]
Known = Literal["renoised", "blended", "clean"]


class MedDDPMRequest(EditRequest):
    """One request to Med-DDPM: what is under a mask, in a cube around it."""

    system: SkipJsonSchema[Literal["med_ddpm"]] = "med_ddpm"
    fill: Content | None = Field(
        "tumour", description="what is made under the mask; null leaves it to the model"
    )
    sampler: Literal["dpm_solver_pp_2m", "ddim", "ddpm"] = Field(
        "dpm_solver_pp_2m", description="ddpm is the published one: 250 steps"
    )
    known: Known = Field(
        "renoised",
        description="what is known, at every step: noised to the level of the image (renoised), put into the "
        "estimate before the next noise (blended, as in the thesis), or without its noise (clean, the other "
        "reading of the thesis)",
    )
