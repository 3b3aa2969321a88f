"""What a cohort is to be, as one file says it. Paths in it are relative to the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from lesionbrush.cohorts.draws import Draw, Scalar
from lesionbrush.cohorts.shares import BalanceRule, Stratum, Strict, require_whole
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


class ReferenceRule(Strict):
    """CTs of one folder. In the patterns of files beside a CT, `{name}` is its name without the file type."""

    folder: SpecPath = Field(description="with CT files, or with a folder for each DICOM series; or one CT")
    files: str = Field("*", description="which ones in it, such as *_ct.nii.gz or */ct.nii.gz")
    ids: tuple[str, ...] | None = Field(
        None, description="of these the ones that count, by name: of a studies folder, MONAI Label's ids"
    )
    labels: str | None = Field(
        None, description="label volume beside each CT, such as {name}_organs.nii.gz; null: lungs are found"
    )
    label_names: SpecPath | None = Field(
        None, description="JSON table of what labels mean, where the files do not say"
    )
    lesions: str | None = Field(
        None, description="mask beside each CT of lesions it has already, kept clear of"
    )
    lesion_tag: str | None = Field(
        None, description="in place of lesions: the tag of labels in a studies folder, where a CT has one"
    )
    patient: str | None = Field(
        None,
        description="regular expression whose first group in a CT's name is its patient; null: a DICOM "
        "series says it, and every other CT is a patient of its own",
    )
    license: str = Field("not said", description="of these CTs, for the dataset card")

    @model_validator(mode="after")
    def _one_mask(self) -> ReferenceRule:
        if self.lesions is not None and self.lesion_tag is not None:
            raise ValueError("write lesions or lesion_tag, one of them")
        return self

    @field_validator("patient")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and re.compile(pattern).groups < 1:
                raise ValueError("write a group around the patient, such as (P[0-9]+)")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from error
        return pattern


class PlaceRule(Strict):
    """Where a lesion goes."""

    inside: Draw = Field(
        Draw(value="lung"), description="an organ by its name: lung, liver, left kidney, ..."
    )
    side: Draw = Field(Draw(value="any"), description="left, right or any, of paired organs")
    surface_mm: tuple[float, float] | None = Field(
        None, description="from the lesion's edge to the organ's surface, from and to; null: more than 4"
    )
    gap_mm: float = Field(5.0, ge=0, le=100, description="to other lesions, at least")
    edits_may_meet: bool = Field(
        False, description="true: gap_mm alone counts; false: what an edit changes is never of two lesions"
    )

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


class TransferRule(Strict):
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


class FindingRule(Strict):
    """Lesions of one kind in a case: drawn by size, from rows of a table, carried over, or as painted."""

    number: Draw = Field(Draw(value=1), description="how many of them in a case")
    diameter_mm: Draw | None = Field(None, description="of a ball of the same volume")
    shape: Draw = Field(Draw(value="round"), description=", ".join(BUMPS))
    elongation: Draw = Field(Draw(value=1.0), description="longest over shortest axis, 1 to 3")
    table: SpecPath | None = Field(
        None, description="CSV; each row is a lesion: diameter_mm, shape, inside, attributes.mean_hu, ..."
    )
    transfer: TransferRule | None = None
    mask: SpecPath | None = Field(
        None, description="one lesion as it was painted, on the grid of the CT; {name} is the CT's name"
    )
    place: PlaceRule = PlaceRule()
    attributes: dict[str, Draw] = Field(
        default_factory=dict, description="of the model's request, such as texture or mean_hu"
    )
    balance: dict[str, tuple[Stratum, ...]] = Field(
        default_factory=dict,
        description="by a name of your own: the lesions in parts of exact shares, each as it says",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> FindingRule:
        ways = ("diameter_mm", "table", "transfer", "mask")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"write one of {', '.join(ways)}; it has {' and '.join(given) or 'none of them'}"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> FindingRule:
        if self.balance and self.table is not None:
            raise ValueError("balance: rows of a table say all of a lesion: leave it out")
        changed: dict[str, str] = {}
        for axis, strata in self.balance.items():
            require_whole([one.share for one in strata])
            for field in {field for one in strata for field in _fields_of(one.lesions)}:
                if changed.setdefault(field, axis) != axis:
                    raise ValueError(f"balance: {changed[field]} and {axis} both change {field}: join them")
            for number, one in enumerate(strata):
                self._check_part(one, f"balance.{axis}.{number}.lesions")
        return self

    def _check_part(self, stratum: Stratum, where: str) -> None:
        """ValueError for what may not be in it, or makes no sense there."""
        known = _PARTS_DRAWN if self.diameter_mm is not None else _PARTS_MASKED
        strange = [name for name in stratum.lesions if name not in known]
        if strange:
            raise ValueError(f"{where}.{strange[0]}: what may be here is {', '.join(known)}")
        try:
            self.with_parts([stratum])
        except ValidationError as error:
            first = error.errors()[0]
            said = str(first["msg"]).removeprefix("Value error, ")
            field = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}.{field}: {said} (got {first['input']!r})") from error

    def with_parts(self, strata: Sequence[Stratum]) -> FindingRule:
        """The rule for lesions that are in all of these. Raises ValidationError."""
        values = self.model_dump(exclude={"balance"})
        for one in strata:
            for name, said in one.lesions.items():
                nested = name in _NESTED and isinstance(said, Mapping)
                values[name] = {**values[name], **said} if nested else said
        return FindingRule.model_validate(values)

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


class ModelRule(Strict):
    """Which model makes the lesions of a tissue."""

    name: str
    parameters: dict[str, Draw] = Field(
        default_factory=dict, description="of its request, such as steps or quality; no attributes, no seed"
    )


class CaseCount(Strict):
    """How many cases: of each reference, in all, or one for each pair of a reference and a donor's mask."""

    per_reference: int | None = Field(None, ge=1, le=100_000)
    total: int | None = Field(None, ge=1, le=1_000_000)
    crossings: Literal["all"] | Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="each CT with each mask of the transfer rule: all of them, or a sample of so many"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> CaseCount:
        if [self.per_reference, self.total, self.crossings].count(None) != 2:
            raise ValueError("write per_reference, total or crossings, one of them")
        return self


class CohortSpecification(Strict):
    """A whole cohort."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", description="letters, digits, _ and -")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same voxels")
    references: tuple[ReferenceRule, ...]
    cases: CaseCount | None = Field(None, description="with the findings; null: only removals")
    findings: tuple[FindingRule, ...] = ()
    removals: bool = Field(
        False,
        description="true: each reference with a mask of lesions is a case of its own too, whose twin is the "
        "same CT with healthy tissue of the model in their place",
    )
    balance: BalanceRule = BalanceRule()
    models: dict[str, ModelRule] = Field(
        min_length=1, description="by an organ's name, or `any`: which model makes its lesions"
    )
    healthy_twins: Twins = Field(
        "none",
        description="each case also without its lesions: untouched, the reference itself; healed, the same "
        "model's healthy tissue under the same masks",
    )
    splits: dict[Split, float] = Field({"train": 1.0}, description="shares by patient, 1 together")

    @field_validator("references")
    @classmethod
    def _not_empty(cls, rules: tuple[ReferenceRule, ...]) -> tuple[ReferenceRule, ...]:
        if not rules:  # a min_length would also complain of lists with a mistake in an item
            raise ValueError("give at least one")
        return rules

    @model_validator(mode="after")
    def _something_to_make(self) -> CohortSpecification:
        if (self.cases is None) != (not self.findings):
            missing = "cases: is missing, write it" if self.cases is None else "findings: give at least one"
            raise ValueError(f"{missing}, or neither findings nor cases beside removals")
        if self.cases is None and not self.removals:
            raise ValueError("findings: give at least one, or write removals: true")
        if self.removals and not any(rule.lesions or rule.lesion_tag for rule in self.references):
            raise ValueError("removals: no reference has lesions: name their masks, or leave removals out")
        return self

    @model_validator(mode="after")
    def _balance_fits(self) -> CohortSpecification:
        cases, balance = self.cases, self.balance
        if balance.hosts is not None and (cases is None or cases.total is None):
            raise ValueError("balance.hosts: write cases.total: CTs get more or fewer of so many cases")
        if balance.healthy is not None and (cases is None or cases.crossings is not None):
            raise ValueError("balance.healthy: write cases.total or cases.per_reference: pairs are all ill")
        return self

    @model_validator(mode="after")
    def _one_rule_is_crossed(self) -> CohortSpecification:
        if self.cases is None or self.cases.crossings is None:
            return self
        carried = [rule for rule in self.findings if rule.transfer is not None]
        if len(carried) != 1 or carried[0].number != Draw(value=1):
            raise ValueError(
                "cases.crossings: pairs are of a CT and a mask: write one rule with transfer, of number 1"
            )
        return self

    @field_validator("splits")
    @classmethod
    def _shares(cls, shares: dict[Split, float]) -> dict[Split, float]:
        if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError("give shares of 0 or more that are 1 together")
        return shares


_NESTED = ("place", "attributes")
_PARTS_DRAWN = ("diameter_mm", "shape", "elongation", *_NESTED)
_PARTS_MASKED = ("attributes",)


def _fields_of(lesions: Mapping[str, Any]) -> Iterator[str]:
    """place.inside, attributes.texture, diameter_mm, ..."""
    for name, said in lesions.items():
        inner = said if name in _NESTED and isinstance(said, Mapping) else {}
        yield from (f"{name}.{field}" for field in inner) if inner else (name,)


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
