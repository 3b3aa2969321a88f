"""What a caller may ask of Palette."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, EditRequest
from lesionbrush.systems.palette.fills import Fill


class PaletteRequest(EditRequest):
    """One request to Palette: slices of a CT filled under a mask."""

    system: SkipJsonSchema[Literal["palette"]] = "palette"
    steps: int = Field(
        20, ge=1, le=MOST_STEPS, description="denoising steps; as published: 1000 with the sampler ddpm"
    )
    fill: Fill | None = Field(
        None,
        description="what is made under the mask: an organ, a tumour, or healthy, tissue as it is around; "
        "null leaves it to the model",
    )
    region: Literal["mask", "box"] = Field(
        "mask",
        description="what is made anew: the mask alone, or the box around each of its parts, so that "
        "nothing of what was there is left to see",
    )
    box_mm: float = Field(5.0, ge=0, le=50, description="how much wider than the mask a box is on every side")
    sampler: Literal["dpm_solver_pp_2m", "ddim", "ddpm"] = Field(
        "dpm_solver_pp_2m", description="ddpm is the published one and needs many steps"
    )

    @property
    def is_checked(self) -> bool:
        """Whether what is made is looked through for spots that nobody asked for."""
        return self.fill not in (None, "tumour", "lung", "stomach")
