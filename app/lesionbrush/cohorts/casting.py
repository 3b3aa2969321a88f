"""The list of cases: which reference each is of, its id, and its split. No order of anything matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lesionbrush.cohorts.draws import generator_for
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.specification import CohortSpecification, Split


@dataclass(frozen=True)
class PlannedCase:
    """id: the reference's name and a number; all that is drawn for the case hangs on it."""

    id: str
    reference: str
    split: Split


def cast(specification: CohortSpecification, references: Sequence[CohortReference]) -> list[PlannedCase]:
    """By id. Of a total that does not divide, some references get one more, the same ones every time."""
    splits = split_patients(specification, [one.patient for one in references])
    counts = _counts(specification, [one.name for one in references])
    return [
        PlannedCase(f"{one.name}-{number:04d}", one.name, splits[one.patient])
        for one in sorted(references, key=lambda one: one.name)
        for number in range(1, counts[one.name] + 1)
    ]


def split_patients(specification: CohortSpecification, patients: Sequence[str]) -> dict[str, Split]:
    """Which split each patient is in, with all of its CTs; in shares as near as whole patients allow."""
    order = _shuffled(specification.seed, "split", patients)
    found: dict[str, Split] = {}
    share, start = 0.0, 0
    for name, part in specification.splits.items():
        share += part
        stop = round(share * len(order))
        found |= dict.fromkeys(order[start:stop], name)
        start = stop
    return found


def _counts(specification: CohortSpecification, names: Sequence[str]) -> dict[str, int]:
    wanted = specification.cases
    if wanted.per_reference is not None:
        return dict.fromkeys(names, wanted.per_reference)
    assert wanted.total is not None
    each, rest = divmod(wanted.total, len(names))
    more = set(_shuffled(specification.seed, "more", names)[:rest])
    return {name: each + (name in more) for name in names}


def _shuffled(seed: int, what: str, names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (generator_for(seed, what, name).random(), name))
