"""What may be asked of any system, and how it is read. The JSON schema of a request is what clients show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionbrush.errors import InvalidRequest

MOST_STEPS = 1000
RequestT = TypeVar("RequestT", bound="BaseRequest")


class BaseRequest(BaseModel):
    """How many samples. Every system's request has a field `system`, by which a record finds its type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same voxels")
    variants: int = Field(1, ge=1, le=16, description="number of samples, each from another seed")
    steps: int = Field(12, ge=1, le=MOST_STEPS, description="denoising steps: more is slower and finer")

    @property
    def seeds(self) -> list[int]:
        """One for each variant."""
        return [(self.seed + variant) % 2**31 for variant in range(self.variants)]

    def settle(self: RequestT) -> RequestT:
        """The same, with what was left to the system filled in: what a record is to say."""
        return self


class EditRequest(BaseRequest):
    """How far an edit reaches, and what to send back."""

    margin_mm: float = Field(3.0, ge=0, le=20, description="how far around the mask voxels may change")
    label: int | None = Field(None, ge=1, description="which label of the mask is the lesion")
    output: Literal["volume", "box"] = Field(
        "volume", description="the whole CT, or only the box that changed"
    )

    @property
    def reach_mm(self) -> float:
        """How far from the mask a voxel may change: the margin, or more where a system draws more."""
        return self.margin_mm


def parse(wanted: type[RequestT], values: Mapping[str, Any] | str) -> RequestT:
    """A request from a mapping or JSON text. InvalidRequest names bad keys with their values."""
    try:
        if isinstance(values, str):
            values = json.loads(values)
        return wanted.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("; ".join(_sentence(wanted, dict(item)) for item in error.errors())) from error
    except (ValueError, RecursionError) as error:  # JSON's own errors, endless numbers, endless nesting
        raise InvalidRequest(f"the parameters are not JSON: {error}") from error


def _sentence(wanted: type[BaseModel], item: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "parameters"
    if item["type"] == "extra_forbidden":
        known = ", ".join(fields_at(wanted, item["loc"][:-1]))
        return f"{name}: unknown parameter (got {item['input']!r}); known are {known}"
    return f"{name}: {item['msg']} (got {item['input']!r})"


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Names of the parameters in the part of a request that `path` leads to."""
    for name in path:
        inner = find_nested_model(model.model_fields[str(name)].annotation)
        if inner is None:
            break
        model = inner
    return [name for name in model.model_fields if name != "system"]


def find_nested_model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, also when it may be None as well."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
