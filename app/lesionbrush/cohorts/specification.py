"""What a cohort is to be, as one file says it. Paths in it are relative to the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from lesionbrush.cohorts.draws import Draw, Scalar
from lesionbrush.errors import InvalidRequest
from lesionbrush.phantom.chest import BUMPS
from lesionbrush.transfer.limits import CarryLimits

Split = Literal["train", "val", "test"]
Twins = Literal["none", "untouched", "healed"]
SIDES = ("left", "right", "any")
BASE = "base"
"""Of the validation context: the folder that relative paths start from."""
ANY_TISSUE = "any"
SMALLEST_MM, LARGEST_MM = 2.0, 120.0
LONGEST_SHAPE = 3.0


def _from_base(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get(BASE)
    return path if base is None else (Path(base) / path.expanduser()).absolute()


SpecPath = Annotated[Path, AfterValidator(_from_base)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceRule(_Strict):
    """CTs of one folder. In the patterns of files beside a CT, `{name}` is its name without the file type."""

    folder: SpecPath = Field(description="with CT files, or with a folder for each DICOM series; or one CT")
    files: str = Field("*", description="which ones in it, such as *_ct.nii.gz or */ct.nii.gz")
    labels: str | None = Field(
        None, description="label volume beside each CT, such as {name}_organs.nii.gz; null: lungs are found"
    )
    label_names: SpecPath | None = Field(
        None, description="JSON table of what labels mean, where the files do not say"
    )
    lesions: str | None = Field(
        None, description="mask beside each CT of lesions it has already, kept clear of"
    )
    patient: str | None = Field(
        None,
        description="regular expression whose first group in a CT's name is its patient; null: a DICOM "
        "series says it, and every other CT is a patient of its own",
    )
    license: str = Field("not said", description="of these CTs, for the dataset card")

    @field_validator("patient")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and re.compile(pattern).groups < 1:
                raise ValueError("write a group around the patient, such as (P[0-9]+)")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from error
        return pattern


class PlaceRule(_Strict):
    """Where a lesion goes."""

    inside: Draw = Field(
        Draw(value="lung"), description="an organ by its name: lung, liver, left kidney, ..."
    )
    side: Draw = Field(Draw(value="any"), description="left, right or any, of paired organs")
    surface_mm: tuple[float, float] | None = Field(
        None, description="from the lesion's edge to the organ's surface, from and to; null: more than 4"
    )
    gap_mm: float = Field(5.0, ge=0, le=100, description="to other lesions: more than an edit's margin")

    @field_validator("surface_mm")
    @classmethod
    def _in_order(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not 0 <= ends[0] < ends[1]:
            raise ValueError("give two distances of 0 or more, the smaller one first")
        return ends

    @field_validator("side")
    @classmethod
    def _is_a_side(cls, draw: Draw) -> Draw:
        return _one_of(draw, SIDES)

    @field_validator("inside")
    @classmethod
    def _is_a_name(cls, draw: Draw) -> Draw:
        if not all(isinstance(name, str) and name.strip() for name in draw.extremes):
            raise ValueError("give the name of an organ, such as liver")
        return draw


class TransferRule(_Strict):
    """Real masks carried from other patients, see docs/transfer.md."""

    cases: SpecPath = Field(description="a mask, or a folder of cases: folders with mask.* and organs.*")
    names: SpecPath | None = Field(None, description="JSON table of what the organs' labels mean")
    label: int | None = Field(None, ge=1, description="which label of a mask is the lesion")
    into: str | None = Field(None, description="the organ they go into; null: the one they come from")
    limits: CarryLimits = CarryLimits()

    @field_validator("limits", mode="wrap")
    @classmethod
    def _known_limits(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> CarryLimits:
        known = [field.name for field in fields(CarryLimits)]
        for name in given if isinstance(given, Mapping) else ():
            if name not in known:
                raise ValueError(f"{name}: unknown limit; known are {', '.join(known)}")
        try:
            limits: CarryLimits = handler(given)
        except InvalidRequest as error:
            raise ValueError(str(error)) from error
        return limits


class FindingRule(_Strict):
    """Lesions of one kind in a case: drawn by their size, taken from rows of a table, or carried over."""

    number: Draw = Field(Draw(value=1), description="how many of them in a case")
    diameter_mm: Draw | None = Field(None, description="of a ball of the same volume")
    shape: Draw = Field(Draw(value="round"), description=", ".join(BUMPS))
    elongation: Draw = Field(Draw(value=1.0), description="longest over shortest axis, 1 to 3")
    table: SpecPath | None = Field(
        None, description="CSV; each row is a lesion: diameter_mm, shape, inside, attributes.mean_hu, ..."
    )
    transfer: TransferRule | None = None
    place: PlaceRule = PlaceRule()
    attributes: dict[str, Draw] = Field(
        default_factory=dict, description="of the model's request, such as texture or mean_hu"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> FindingRule:
        ways = ("diameter_mm", "table", "transfer")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"write one of {', '.join(ways)}; it has {' and '.join(given) or 'none of them'}"
            )
        return self

    @field_validator("number")
    @classmethod
    def _counts(cls, draw: Draw) -> Draw:
        ends = draw.extremes
        whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 50 for one in ends)
        if not whole or draw.normal is not None:
            raise ValueError("give whole numbers from 0 to 50")
        return draw

    @field_validator("shape")
    @classmethod
    def _is_a_shape(cls, draw: Draw) -> Draw:
        return _one_of(draw, tuple(BUMPS))

    @field_validator("diameter_mm")
    @classmethod
    def _is_a_size(cls, draw: Draw | None) -> Draw | None:
        return draw if draw is None else _within(draw, SMALLEST_MM, LARGEST_MM)

    @field_validator("elongation")
    @classmethod
    def _is_a_ratio(cls, draw: Draw) -> Draw:
        return _within(draw, 1.0, LONGEST_SHAPE)


class ModelRule(_Strict):
    """Which model makes the lesions of a tissue."""

    name: str
    parameters: dict[str, Draw] = Field(
        default_factory=dict, description="of its request, such as steps or quality; no attributes, no seed"
    )


class CaseCount(_Strict):
    """How many cases: of each reference, or in all."""

    per_reference: int | None = Field(None, ge=1, le=100_000)
    total: int | None = Field(None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> CaseCount:
        if (self.per_reference is None) == (self.total is None):
            raise ValueError("write per_reference or total, one of them")
        return self


class CohortSpecification(_Strict):
    """A whole cohort."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", description="letters, digits, _ and -")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same voxels")
    references: tuple[ReferenceRule, ...]
    cases: CaseCount
    findings: tuple[FindingRule, ...]
    models: dict[str, ModelRule] = Field(
        min_length=1, description="by an organ's name, or `any`: which model makes its lesions"
    )
    healthy_twins: Twins = Field(
        "none",
        description="each case also without its lesions: untouched, the reference itself; healed, the same "
        "model's healthy tissue under the same masks",
    )
    splits: dict[Split, float] = Field({"train": 1.0}, description="shares by patient, 1 together")

    @field_validator("references", "findings")
    @classmethod
    def _not_empty(cls, rules: tuple[Any, ...]) -> tuple[Any, ...]:
        if not rules:  # a min_length would also complain of lists with a mistake in an item
            raise ValueError("give at least one")
        return rules

    @field_validator("splits")
    @classmethod
    def _shares(cls, shares: dict[Split, float]) -> dict[Split, float]:
        if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError("give shares of 0 or more that are 1 together")
        return shares


def _one_of(draw: Draw, known: tuple[Scalar, ...]) -> Draw:
    wrong = [one for one in draw.extremes if one not in known]
    if wrong or draw.uniform is not None or draw.normal is not None:
        raise ValueError(f"{wrong[0] if wrong else 'numbers'}: choose among {', '.join(map(str, known))}")
    return draw


def _within(draw: Draw, low: float, high: float) -> Draw:
    for one in draw.extremes:
        if isinstance(one, (bool, str)) or one is None or not low <= one <= high:
            raise ValueError(f"{one}: give numbers from {low:g} to {high:g}")
    return draw
