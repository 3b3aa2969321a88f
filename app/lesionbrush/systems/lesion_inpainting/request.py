"""What a caller may ask of lesion inpainting: how to sample, and what the lesion should look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from lesionbrush.core.request import MOST_STEPS, EditRequest
from lesionbrush.systems.lesion_inpainting.attributes import (
    ATTRIBUTES,
    HETEROGENEITY_HU_SCALE,
    MEAN_HU_SCALE,
    TEXTURES,
    part_solid_texture,
)

Degree = Annotated[float, Field(ge=0, le=1)]
Sampler = Literal["ddim", "ddpm", "dpm_solver_pp_2m"]
Quality = Literal["fast", "standard", "fine"]
STEPS: dict[Quality, int] = {"fast": 3, "standard": 8, "fine": 16}
"""How many each takes; measured by `evaluate steps`."""


class Attributes(BaseModel):
    """How the lesion should look; what is left out is left to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lesion: Literal["present", "none"] = Field("present", description="none: healthy tissue under the mask")
    texture: Literal["ground_glass", "part_solid", "solid"] | None = Field(
        "solid", description="null leaves it to the model"
    )
    solid_share: Annotated[float, Field(ge=0.05, le=0.9)] | None = Field(
        None, description="share of the volume of a part-solid lesion that its solid core takes"
    )
    margin: Degree | None = Field(None, description="0 poorly defined, 1 sharp")
    spiculation: Degree | None = Field(None, description="0 none, 1 marked")
    lobulation: Degree | None = Field(None, description="0 none, 1 marked")
    calcification: Literal["none", "solid", "central", "non_central", "laminated", "popcorn"] | None = Field(
        "none", description="as radiologists call it; null leaves it to the model"
    )
    mean_hu: Annotated[float, Field(ge=-950, le=1000)] | None = Field(None, description="mean HU in the mask")
    heterogeneity_hu: Annotated[float, Field(ge=0, le=500)] | None = Field(
        None, description="standard deviation of HU in the mask"
    )

    @model_validator(mode="after")
    def _core_in_ground_glass(self) -> Attributes:
        if self.solid_share is not None and self.texture != "part_solid":
            raise ValueError(
                f"solid_share {self.solid_share:g} is of lesions with texture part_solid, not {self.texture}"
            )
        return self

    @model_validator(mode="after")
    def _spread_of_calcium(self) -> Attributes:
        if self.heterogeneity_hu is not None and self.calcification not in (None, "none"):
            raise ValueError(
                f"heterogeneity_hu {self.heterogeneity_hu:g} is of lesions without calcification: with "
                f"{self.calcification}, calcium decides how much HU differ; leave it out"
            )
        return self

    def vector(self, names: Sequence[str] = ATTRIBUTES) -> np.ndarray:
        """(len(names),) float32, NaN where open; without a lesion all others are.

        margin and spiculation are given twice, as the readers score them and as the image shows them.
        """
        if self.lesion == "none":
            return np.array([0.0 if name == "lesion" else np.nan for name in names], dtype=np.float32)
        values = {
            "lesion": 1.0,
            "texture": self._texture(),
            "margin": self.margin,
            "spiculation": self.spiculation,
            "lobulation": self.lobulation,
            "calcified": None if self.calcification is None else self.calcification != "none",
            "mean_hu": _scale(self.mean_hu, MEAN_HU_SCALE),
            "heterogeneity_hu": _scale(self.heterogeneity_hu, HETEROGENEITY_HU_SCALE),
            "border_roughness": None if self.margin is None else 1 - self.margin,
            "concavity": self.spiculation,
        }
        return np.array([np.nan if (v := values[name]) is None else float(v) for name in names], np.float32)

    def _texture(self) -> float | None:
        if self.texture == "part_solid":
            return part_solid_texture(self.solid_share)
        return None if self.texture is None else TEXTURES[self.texture]


def _scale(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


class QualityRequest(EditRequest):
    """An edit whose number of steps may be asked for by name."""

    quality: Quality | None = Field(
        None,
        description="a number of steps by name; fast is for a first look: a critic tells it from real ones "
        "more easily; null: as steps says",
    )
    steps: int = Field(
        STEPS["standard"], ge=1, le=MOST_STEPS, description="denoising steps: more is slower and finer"
    )

    @model_validator(mode="before")
    @classmethod
    def _steps_of_quality(cls, given: Any) -> Any:
        """The default beside a quality is no wish: forms send every field."""
        if not isinstance(given, Mapping) or given.get("quality") not in STEPS:
            return given
        steps, asked = STEPS[given["quality"]], given.get("steps", STEPS["standard"])
        if asked not in (steps, STEPS["standard"]):
            raise ValueError(
                f"quality {given['quality']} is {steps} steps, not {asked}: leave one of them out"
            )
        return {**given, "steps": steps}


class SynthesisRequest(QualityRequest):
    """One request to the lesion inpainting system: how to sample, and what to make."""

    system: SkipJsonSchema[Literal["lesion_inpainting"]] = "lesion_inpainting"
    sampler: Sampler | None = Field(
        None, description="null: dpm_solver_pp_2m, and for healthy tissue ddpm, which is calmer"
    )
    guidance_strength: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="how much attributes count; 1, and null: as trained; other than 0 and 1 takes twice the "
        "time",
    )
    draw_shape: bool = Field(
        True,
        description="draw the margin, lobulation and spiculation asked for into the mask; false: keep its "
        "outline, which has them already, and only tell the model",
    )
    variety: Degree = Field(
        0.5,
        description="how far densities that were left open stray from typical ones: 1 as far as in real "
        "lesions, 0 not at all",
    )
    keep_vessels: bool = Field(
        True,
        description="vessels and airways under the mask are seen through ground glass; false: what is under "
        "the mask is not looked at, as where a lesion is made anew in its own place",
    )
    shape_mm: float = Field(
        5.0,
        ge=0,
        le=20,
        description="how far beyond the margin drawn spicules and lobes may reach, at their full strength",
    )
    healthy_from: Literal["nearby", "model"] = Field(
        "nearby",
        description="where healthy tissue comes from (lesion: none): lung of the same CT within 40 mm that "
        "fits, with its vessels, joined by the model; or the model alone, which knows of no vessels",
    )
    attributes: Attributes = Attributes()

    @property
    def heals_from_nearby(self) -> bool:
        """Whether healthy tissue is to come from elsewhere in the CT, see `donors`."""
        return self.attributes.lesion == "none" and self.healthy_from == "nearby"

    @property
    def reach_mm(self) -> float:
        """The margin, and further where spicules or lobes are drawn."""
        wish = self.attributes
        strength = max(wish.spiculation or 0.0, wish.lobulation or 0.0)
        draws = self.draw_shape and wish.lesion == "present"
        return self.margin_mm + (self.shape_mm * strength if draws else 0.0)

    def settle(self) -> SynthesisRequest:
        return self.model_copy(update={"sampler": self.sampler_used})

    @property
    def sampler_used(self) -> Sampler:
        return self.sampler or ("ddpm" if self.attributes.lesion == "none" else "dpm_solver_pp_2m")

    @property
    def guidance(self) -> float:
        """The strength in force."""
        return 1.0 if self.guidance_strength is None else self.guidance_strength
