"""What a caller may ask for. The JSON schema of `SynthesisRequest` is what clients show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionbrush.attributes import ATTRIBUTES, HETEROGENEITY_HU_SCALE, MEAN_HU_SCALE, TEXTURES
from lesionbrush.errors import InvalidRequest

RARE_GUIDANCE = 2.0
Degree = Annotated[float, Field(ge=0, le=1)]
Sampler = Literal["ddim", "ddpm", "dpm_solver_pp_2m"]


class Attributes(BaseModel):
    """How the lesion should look; what is left out is left to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lesion: Literal["present", "none"] = Field("present", description="none: healthy tissue under the mask")
    texture: Literal["ground_glass", "part_solid", "solid"] | None = Field(
        "solid", description="null leaves it to the model"
    )
    margin: Degree | None = Field(None, description="0 poorly defined, 1 sharp")
    spiculation: Degree | None = Field(None, description="0 none, 1 marked")
    lobulation: Degree | None = Field(None, description="0 none, 1 marked")
    calcification: Literal["none", "solid"] | None = Field(
        None, description="other kinds are too rare in the data to be learned"
    )
    mean_hu: Annotated[float, Field(ge=-950, le=1000)] | None = Field(None, description="mean HU in the mask")
    heterogeneity_hu: Annotated[float, Field(ge=0, le=500)] | None = Field(
        None, description="standard deviation of HU in the mask"
    )

    def vector(self, names: Sequence[str] = ATTRIBUTES) -> np.ndarray:
        """(len(names),) float32, NaN where open; without a lesion all others are.

        margin and spiculation are given twice, as the readers score them and as the image shows them.
        """
        if self.lesion == "none":
            return np.array([0.0 if name == "lesion" else np.nan for name in names], dtype=np.float32)
        values = {
            "lesion": 1.0,
            "texture": None if self.texture is None else TEXTURES[self.texture],
            "margin": self.margin,
            "spiculation": self.spiculation,
            "lobulation": self.lobulation,
            "calcified": None if self.calcification is None else self.calcification != "none",
            "mean_hu": _scaled(self.mean_hu, MEAN_HU_SCALE),
            "heterogeneity_hu": _scaled(self.heterogeneity_hu, HETEROGENEITY_HU_SCALE),
            "border_roughness": None if self.margin is None else 1 - self.margin,
            "concavity": self.spiculation,
        }
        return np.array([np.nan if (v := values[name]) is None else float(v) for name in names], np.float32)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


class SynthesisRequest(BaseModel):
    """One request: how to sample, what to make, and what to send back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same voxels")
    variants: int = Field(1, ge=1, le=16, description="number of samples, each from another seed")
    steps: int = Field(12, ge=1, le=1000, description="denoising steps: more is slower and finer")
    sampler: Sampler = "ddpm"
    margin_mm: float = Field(3.0, ge=0, le=20, description="how far around the mask voxels may change")
    guidance_strength: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="how much attributes count; 1: as trained; null: 2 for ground glass, part-solid and "
        "calcified lesions, which are rare in the data, else 1; other than 0 and 1 takes twice the time",
    )
    attributes: Attributes = Attributes()
    label: int | None = Field(None, ge=1, description="which label of the mask is the lesion")
    output: Literal["volume", "box"] = Field(
        "volume", description="the whole CT, or only the box that changed"
    )

    @property
    def guidance(self) -> float:
        """The strength in force."""
        if self.guidance_strength is not None:
            return self.guidance_strength
        wish = self.attributes
        rare = wish.texture in ("ground_glass", "part_solid") or wish.calcification == "solid"
        return RARE_GUIDANCE if rare and wish.lesion == "present" else 1.0


def parse_request(values: Mapping[str, Any] | str) -> SynthesisRequest:
    """A request from a mapping or JSON text. InvalidRequest names every bad key with its value."""
    try:
        if isinstance(values, str):
            values = json.loads(values)
        return SynthesisRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("; ".join(_sentence(dict(item)) for item in error.errors())) from error
    except (ValueError, RecursionError) as error:  # JSON's own errors, endless numbers, endless nesting
        raise InvalidRequest(f"the parameters are not JSON: {error}") from error


def _sentence(item: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "parameters"
    if item["type"] == "extra_forbidden":
        known = ", ".join((Attributes if len(item["loc"]) > 1 else SynthesisRequest).model_fields)
        return f"{name}: unknown parameter (got {item['input']!r}); known are {known}"
    return f"{name}: {item['msg']} (got {item['input']!r})"
