"""Shares that a cohort is to have: of lesions of a kind, of cases without any, of hosts of a kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

RANGES = ("age_years", "slice_mm")
"""Facts of a host that are numbers: their keys are `FROM-TO`; of all others, patterns of text."""
_RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
Facts = Mapping[str, str | float]
"""What a header says of a host, by the fields of `HostShares`; what it does not say is not there."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stratum(Strict):
    """A part of the lesions of a rule, and what is different in it."""

    share: float = Field(gt=0, le=1)
    lesions: dict[str, Any] = Field(
        min_length=1, description="fields of the rule as they are here: diameter_mm, place, attributes, ..."
    )


class HostShares(Strict):
    """Shares of cases by what the DICOM headers of their CTs say. Each adds up to 1.

    sex, scanner (maker and model) and kernel are matched with `*` and `?`, without regard to case; the first
    pattern that fits counts.
    """

    sex: dict[str, float] | None = Field(None, description="such as {F: 0.5, M: 0.5}")
    age_years: dict[str, float] | None = Field(None, description="such as {0-60: 0.5, 60-120: 0.5}")
    scanner: dict[str, float] | None = Field(None, description="such as {'siemens*': 0.5, '*': 0.5}")
    kernel: dict[str, float] | None = Field(None, description="such as {'B3?f': 0.5, 'B7?f': 0.5}")
    slice_mm: dict[str, float] | None = Field(
        None, description="thickness; such as {0-1.5: 0.5, 1.5-5: 0.5}, the second end not included"
    )

    @field_validator("*")
    @classmethod
    def _add_up(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None:
            require_whole(list(shares.values()))
        return shares

    @field_validator(*RANGES)
    @classmethod
    def _are_ranges(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        for key in shares or ():
            found = _RANGE.fullmatch(key)
            if found is None or not float(found[1]) < float(found[2]):
                raise ValueError(f"{key!r}: write a range as FROM-TO, such as 40-60")
        return shares

    @property
    def wanted(self) -> dict[str, dict[str, float]]:
        """The fields that are balanced."""
        said = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: shares for name, shares in said.items() if shares is not None}


class BalanceRule(Strict):
    """What holds for the whole cohort; shares of lesions are of their rule."""

    healthy: float | None = Field(None, gt=0, lt=1, description="share of cases without a lesion")
    hosts: HostShares | None = None


def require_whole(shares: list[float]) -> None:
    """ValueError unless they are above 0 and 1 together."""
    if min(shares, default=0) <= 0 or abs(sum(shares) - 1) > 1e-6:
        said = ", ".join(f"{one:g}" for one in shares)
        raise ValueError(f"shares of {said or 'nothing'}: give some above 0 that are 1 together")


def range_of(key: str) -> tuple[float, float]:
    found = _RANGE.fullmatch(key)
    assert found is not None
    return float(found[1]), float(found[2])
