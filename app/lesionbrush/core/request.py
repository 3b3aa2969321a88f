"""What every request has in common, whatever the system. See `request`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS = 1000


class BaseRequest(BaseModel):
    """How many samples, how far they reach, and what to send back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same voxels")
    variants: int = Field(1, ge=1, le=16, description="number of samples, each from another seed")
    steps: int = Field(12, ge=1, le=MOST_STEPS, description="denoising steps: more is slower and finer")
    margin_mm: float = Field(3.0, ge=0, le=20, description="how far around the mask voxels may change")
    label: int | None = Field(None, ge=1, description="which label of the mask is the lesion")
    output: Literal["volume", "box"] = Field(
        "volume", description="the whole CT, or only the box that changed"
    )

    def settled(self) -> BaseRequest:
        """The same, with what was left to the system filled in: what a record is to say."""
        return self

    @property
    def reach_mm(self) -> float:
        """How far from the mask a voxel may change: the margin, or more where a system draws more."""
        return self.margin_mm

    @property
    def edits_lungs(self) -> bool:
        """Whether all of the lungs may change, not only mask and margin."""
        return False

    @property
    def heals_from_nearby(self) -> bool:
        """Whether healthy tissue is to come from elsewhere in the CT, see `donors`."""
        return False
