"""What a caller may ask of semantic CT."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, BaseRequest, EditRequest
from lesionbrush.systems.semantic.classes import Painted

Sampler = Literal["dpm_solver_pp_2m", "ddim", "ddpm"]
STEPS: Any = Field(
    25, ge=1, le=MOST_STEPS, description="denoising steps; as published: 1000 with the sampler ddpm"
)
SAMPLER: Any = Field("dpm_solver_pp_2m", description="ddpm is the published one and needs many steps")
STRENGTH: Any = Field(
    1.0, ge=0, le=5, description="of the layout: 1 as trained; more goes beyond, at twice the time"
)
TABLE: Any = Field(
    "",
    max_length=4000,
    description="what names of the layout stand for where that is not known: 'my name = liver; other = body'",
)


class SemanticRequest(EditRequest):
    """A CT in which some organs are otherwise: what changed in its layout is made anew."""

    system: SkipJsonSchema[Literal["semantic"]] = "semantic"
    steps: int = STEPS
    organ: Painted | None = Field(
        None,
        description="what the mask is to be: an organ, or body where one is taken out; null: what the "
        "layout says is under it",
    )
    sampler: Sampler = SAMPLER
    strength: float = STRENGTH
    classes: str = TABLE


class SemanticWholeRequest(BaseRequest):
    """A whole new CT on the grid of a layout."""

    system: SkipJsonSchema[Literal["semantic_whole"]] = "semantic_whole"
    steps: int = STEPS
    sampler: Sampler = SAMPLER
    strength: float = STRENGTH
    classes: str = TABLE
