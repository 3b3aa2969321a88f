"""The list of cases: which reference each is of, its id, its split, and what sets it apart.

No order of anything matters. Shares are of the list as a whole: which cases are healthy, which part of a
balanced rule a lesion is in, and which split a patient is in follow from all cases there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from lesionbrush.cohorts.balancing import apportion, share_out
from lesionbrush.cohorts.donors import find_sources
from lesionbrush.cohorts.draws import generator_for
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.specification import CohortSpecification, Split
from lesionbrush.errors import InvalidRequest

CaseKind = Literal["lesions", "healthy", "removal"]
"""healthy: nothing is put in; removal: what is there is the lesion, its twin is without it."""


class BalancedPart(NamedTuple):
    """Of a balanced rule, where one lesion of a case is: rule, lesion, number: from 0."""

    rule: int
    lesion: int
    axis: str
    number: int


@dataclass(frozen=True)
class PlannedCase:
    """id: unique in the cohort; all that is drawn for the case hangs on it. donor: of a pair, its name."""

    id: str
    reference: str
    split: Split
    kind: CaseKind = "lesions"
    donor: str | None = None
    parts: tuple[BalancedPart, ...] = ()


def cast(
    specification: CohortSpecification, references: Sequence[CohortReference], donors: Sequence[str] = ()
) -> list[PlannedCase]:
    """By id. donors: names, as of `list_donors`.

    Of a total that does not divide, some references get one more, the same ones every time. Raises
    InvalidRequest (more pairs than there are, no host that a share asks for).
    """
    splits = split_patients(specification, [one.patient for one in references])
    of_split = {one.name: splits[one.patient] for one in references}
    cases = [
        replace(case, split=of_split[case.reference])
        for case in (*_with_lesions(specification, references, donors), *_removals(specification, references))
    ]
    _require_own_ids(cases)
    return sorted(_with_parts(specification, _some_healthy(specification, cases)), key=lambda case: case.id)


def _with_lesions(
    specification: CohortSpecification, references: Sequence[CohortReference], donors: Sequence[str]
) -> list[PlannedCase]:
    wanted = specification.cases
    if wanted is None:
        return []
    if wanted.crossings is not None:
        return _pairs(specification, [one.name for one in references], donors, wanted.crossings)
    counts = _counts(specification, references)
    return [
        PlannedCase(f"{name}-{number:04d}", name, "train")
        for name, count in counts.items()
        for number in range(1, count + 1)
    ]


def _counts(specification: CohortSpecification, references: Sequence[CohortReference]) -> dict[str, int]:
    wanted, names = specification.cases, [one.name for one in references]
    assert wanted is not None
    if wanted.per_reference is not None:
        return dict.fromkeys(names, wanted.per_reference)
    assert wanted.total is not None
    order = _shuffled(specification.seed, "more", names)
    if specification.balance.hosts is not None:
        facts = {one.name: one.facts for one in references}
        return share_out(specification.balance.hosts, {name: facts[name] for name in order}, wanted.total)
    each, rest = divmod(wanted.total, len(names))
    return {name: each + (name in order[:rest]) for name in names}


def _pairs(
    specification: CohortSpecification, hosts: Sequence[str], donors: Sequence[str], wanted: int | str
) -> list[PlannedCase]:
    """All of them, or those that come first in an order that hangs on their names: more add to fewer."""
    pairs = [(f"{host}-x-{donor}", host, donor) for host in hosts for donor in donors]
    if isinstance(wanted, int):
        if wanted > len(pairs):
            raise InvalidRequest(
                f"cases.crossings: {wanted}: {len(hosts)} CTs and {len(donors)} masks are {len(pairs)} "
                "pairs: ask for as many or fewer, or write all"
            )
        seed = specification.seed
        pairs = sorted(pairs, key=lambda pair: generator_for(seed, "cross", pair[0]).random())[:wanted]
    return [PlannedCase(name, host, "train", donor=donor) for name, host, donor in pairs]


def _removals(specification: CohortSpecification, references: Sequence[CohortReference]) -> list[PlannedCase]:
    with_lesions = [one.name for one in references if one.lesions is not None]
    names = with_lesions if specification.removals else []
    return [PlannedCase(f"{name}-removed", name, "train", "removal") for name in names]


def _require_own_ids(cases: Sequence[PlannedCase]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InvalidRequest(f"two cases would be called {case.id!r}: rename a CT or a donor's folder")
        seen.add(case.id)


def _some_healthy(specification: CohortSpecification, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
    """So many of those with lesions, in each split."""
    share = specification.balance.healthy
    if share is None:
        return list(cases)
    chosen: set[str] = set()
    for mine in _by_split([case for case in cases if case.kind == "lesions"]):
        order = _shuffled(specification.seed, "healthy", [case.id for case in mine])
        chosen |= set(order[: round(share * len(order))])
    return [replace(case, kind="healthy") if case.id in chosen else case for case in cases]


def _with_parts(specification: CohortSpecification, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
    """The lesions of each balanced rule dealt out to its parts, in each split."""
    found: dict[str, list[BalancedPart]] = {}
    for rule, asked in enumerate(specification.findings):
        for mine in _by_split([case for case in cases if case.kind == "lesions"] if asked.balance else []):
            lesions = [(c.id, n) for c in mine for n in range(count_lesions(specification, c, rule))]
            for axis, strata in asked.balance.items():
                order = _dealt(specification.seed, (str(rule), axis), lesions)
                counts = apportion([one.share for one in strata], len(order))
                numbers = [number for number, count in enumerate(counts) for _ in range(count)]
                for (case, lesion), number in zip(order, numbers, strict=True):
                    found.setdefault(case, []).append(BalancedPart(rule, lesion, axis, number))
    return [replace(case, parts=tuple(sorted(found.get(case.id, ())))) for case in cases]


def _dealt(seed: int, said: Sequence[str], lesions: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(lesions, key=lambda one: _chance(seed, "part", *said, one[0], str(one[1])))


def count_lesions(specification: CohortSpecification, case: PlannedCase, rule: int) -> int:
    """How many a rule adds to a case."""
    if case.kind != "lesions":
        return 0
    draw = specification.findings[rule].number
    return int(str(draw.draw(generator_for(specification.seed, case.id, str(rule), "number"))))


def _by_split(cases: Iterable[PlannedCase]) -> list[list[PlannedCase]]:
    found: dict[Split, list[PlannedCase]] = {}
    for case in cases:
        found.setdefault(case.split, []).append(case)
    return list(found.values())


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


def list_donors(specification: CohortSpecification) -> tuple[str, ...]:
    """Names of the masks that are crossed with the references, by their folders; none are read.

    Raises InvalidRequest.
    """
    if specification.cases is None or specification.cases.crossings is None:
        return ()
    rule = next(rule.transfer for rule in specification.findings if rule.transfer is not None)
    return tuple(one.name for one in find_sources(rule.cases, None, rule.names, None, rule.label))


def _shuffled(seed: int, what: str, names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (_chance(seed, what, name), name))


def _chance(seed: int, *names: str) -> float:
    return float(generator_for(seed, *names).random())
