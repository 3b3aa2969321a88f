"""Which lesions a case gets, and where: drawn by its id, put into its host one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.donors import SourceCase, find_sources
from lesionbrush.cohorts.draws import Scalar, generator_for
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.placing import Settled, settle
from lesionbrush.cohorts.shapes import draw_form
from lesionbrush.cohorts.specification import CohortSpecification, FindingRule, TransferRule
from lesionbrush.cohorts.tables import TableRow, read_table
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.transfer.carry import carry
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.patients import SourcePatient, organ_of, split_lesions
from lesionbrush.transfer.results import Refused


class WantedLesion(BaseModel):
    """What is asked of one lesion, all of it plain values. rule: its number in `findings`, from 0.

    diameter_mm, shape, elongation: None for one that is carried over; then `donor` names its mask, and
    `move` says what was done with it.
    """

    model_config = ConfigDict(frozen=True)

    rule: int
    inside: str
    side: str = "any"
    diameter_mm: float | None = None
    shape: str | None = None
    elongation: float | None = None
    surface_mm: tuple[float, float] | None = None
    gap_mm: float
    attributes: dict[str, Scalar] = {}
    donor: str | None = None
    move: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class PlacedLesion:
    """organ: its name in the host's labels; settled: where it lies."""

    wanted: WantedLesion
    organ: str
    settled: Settled

    def mask(self, ct: Volume) -> Volume:
        """uint8 on the grid of the CT, 1 in it."""
        array = np.zeros(ct.shape, np.uint8)
        array[self.settled.box] = self.settled.inside
        return ct.with_array(array)


class NotPlaced(InvalidRequest):
    """A lesion of a case has no place in its host."""

    code = "not_placed"


def place_lesions(
    specification: CohortSpecification, case: PlannedCase, host: CohortHost
) -> list[PlacedLesion]:
    """All of a case, in the order of the rules. Raises NotPlaced, and as reading a table or a donor."""
    placed: list[PlacedLesion] = []
    for number, rule in enumerate(specification.findings):
        for lesion in range(_count(specification, case, number)):
            names = (case.id, str(number), str(lesion))
            one = _place(specification, (number, rule), names, host)
            host = host.with_taken(one.mask(host.ct).array > 0)
            placed.append(one)
    return placed


def _count(specification: CohortSpecification, case: PlannedCase, number: int) -> int:
    draw = specification.findings[number].number
    return int(str(draw.draw(generator_for(specification.seed, case.id, str(number), "number"))))


def _place(
    specification: CohortSpecification,
    numbered: tuple[int, FindingRule],
    names: tuple[str, ...],
    host: CohortHost,
) -> PlacedLesion:
    number, rule = numbered
    generator = generator_for(specification.seed, *names, "place")
    if rule.transfer is not None:
        return _carry_over(rule.transfer, _Asked(specification.seed, names, number, rule), host, generator)
    if rule.table is not None:
        rule = _row_for(rule.table, rule, host.reference.name, generator).rule
    wanted = _Asked(specification.seed, names, number, rule).lesion()
    assert wanted.diameter_mm is not None
    assert wanted.shape is not None
    assert wanted.elongation is not None
    organs = host.organs_for(wanted.inside, wanted.side)
    if isinstance(organs, Refused):
        raise NotPlaced(f"findings.{number}: {organs.reason}")
    form = draw_form(wanted.diameter_mm, wanted.shape, wanted.elongation, generator)
    said = ""
    for name in _in_turn({name: one.extent.volume_mm3 for name, one in organs.items()}, generator):
        found = settle(form, organs[name], wanted.surface_mm, wanted.gap_mm, generator)
        if isinstance(found, Settled):
            return PlacedLesion(wanted, name, found)
        said = said or f"{name}: {found.reason}"
    raise NotPlaced(f"findings.{number}: {said}")


@dataclass(frozen=True)
class _Asked:
    """Draws the fields of a lesion, each with random numbers of its own."""

    seed: int
    names: tuple[str, ...]
    number: int
    rule: FindingRule

    def lesion(self, **known: Any) -> WantedLesion:
        place = self.rule.place
        values: dict[str, Any] = {
            "rule": self.number,
            "surface_mm": place.surface_mm,
            "gap_mm": place.gap_mm,
            "attributes": {name: self._draw(name, draw) for name, draw in self.rule.attributes.items()},
        }
        if self.rule.transfer is None:
            values |= {"inside": self._draw("inside", place.inside), "side": self._draw("side", place.side)}
            for name in ("diameter_mm", "shape", "elongation"):
                values[name] = self._draw(name, getattr(self.rule, name))
        return WantedLesion(**{**values, **known})

    def _draw(self, field: str, draw: Any) -> Scalar:
        value: Scalar = draw.draw(generator_for(self.seed, *self.names, field))
        return round(value, 3) if isinstance(value, float) else value


def _row_for(table: Path, defaults: FindingRule, reference: str, generator: np.random.Generator) -> TableRow:
    rows = [row for row in _table(table, defaults.model_dump_json()) if row.reference in ("", reference)]
    if not rows:
        raise NotPlaced(f"{table.name} has no row for {reference!r}, and none for every CT")
    return rows[int(generator.integers(len(rows)))]


@lru_cache(maxsize=16)
def _table(path: Path, defaults: str) -> tuple[TableRow, ...]:
    return read_table(path, FindingRule.model_validate_json(defaults))


def _in_turn(volumes: dict[str, float], generator: np.random.Generator) -> list[str]:
    """The organs in a random order, large ones first more often."""
    names = sorted(volumes)
    shares = np.array([volumes[name] for name in names])
    order = generator.choice(len(names), len(names), replace=False, p=shares / shares.sum())
    return [names[k] for k in order]


# --- real masks ---


@lru_cache(maxsize=4)
def _donors(cases: Path, names: Path | None, label: int | None) -> tuple[SourceCase, ...]:
    return tuple(find_sources(cases, None, names, None, label))


@lru_cache(maxsize=4)
def _read(donor: SourceCase) -> SourcePatient:
    return donor.read()[0]


def _carry_over(
    rule: TransferRule, asked: _Asked, host: CohortHost, generator: np.random.Generator
) -> PlacedLesion:
    """The first lesion, of donors in a random order, that fits."""
    donors = _donors(rule.cases, rule.names, rule.label)
    said = ""
    for k in generator.permutation(len(donors)):
        patient = _read(donors[k])
        lesions = split_lesions(patient.lesions)
        for n in generator.permutation(len(lesions)):
            found = _carry_one(rule, patient, lesions[n], host, generator)
            if isinstance(found, Refused):
                said = said or f"{donors[k].name}, lesion {n + 1}: {found.reason}"
                continue
            organ, settled, move = found
            donor = f"{donors[k].name}, lesion {n + 1}"
            wanted = asked.lesion(
                inside=rule.into or organ, donor=donor, move=move, gap_mm=rule.limits.gap_mm
            )
            return PlacedLesion(wanted, organ, settled)
    raise NotPlaced(f"findings.{asked.number}: none of {len(donors)} donors fits; {said}")


def _carry_one(
    rule: TransferRule,
    patient: SourcePatient,
    lesion: Volume,
    host: CohortHost,
    generator: np.random.Generator,
) -> tuple[str, Settled, dict[str, Any]] | Refused:
    organ = None if patient.organs is None else organ_of(lesion, patient.organs)
    own = None if organ is None or patient.organs is None else lesion.with_array(patient.organs.mask(organ))
    wanted = rule.into or organ
    if wanted is None:
        return Refused("no_organ", "it touches no organ with a name: say with `into` where it goes")
    found = host.organs_for(wanted, "any") if rule.into else host.patient.find(organ)
    if isinstance(found, Refused):
        return found
    refused: Refused | None = None
    for name, into in found.items():
        opposite = organ is not None and OrganName.of(name).is_opposite(OrganName.of(organ))
        result = carry(lesion, own, into, rule.limits, generator, opposite=opposite)
        if not isinstance(result, Refused):
            box = bounding_box(result.mask.array)
            inside: Array = result.mask.array[box] > 0
            return name, Settled(box, inside, None), asdict(result.move)
        refused = refused or result
    assert refused is not None
    return refused


def organs_wanted(rules: Sequence[FindingRule]) -> Iterator[str]:
    """Names that a host may be asked for."""
    for rule in rules:
        if rule.transfer is None:
            yield from (str(name) for name in rule.place.inside.extremes)
        elif rule.transfer.into is not None:
            yield rule.transfer.into
