"""Which lesions a case gets, and where: drawn by its id, put into its host one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from lesionbrush.cohorts.asking import ask
from lesionbrush.cohorts.carrying import HandedOver, count_donors, hand_over, offers
from lesionbrush.cohorts.casting import PlannedCase, count_lesions
from lesionbrush.cohorts.draws import Scalar, generator_for
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.placing import Settled, settle
from lesionbrush.cohorts.shapes import draw_form
from lesionbrush.cohorts.specification import ANY_TISSUE, CohortSpecification, FindingRule, TransferRule
from lesionbrush.cohorts.tables import TableRow, read_table
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array, Volume, mask_on_grid
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.transfer.patients import organ_of, split_lesions
from lesionbrush.transfer.results import Refused

MOST_LESIONS = 255
"""Labels of a mask file."""
DRAWN = "drawn"
"""What a body lies in whose place nobody looked for."""


class WantedLesion(BaseModel):
    """What is asked of one lesion, all of it plain values. rule: its number in `findings`, from 0; None for
    one that the reference has already. gap_mm: to other lesions, as it was kept.

    diameter_mm, shape, elongation: None for one that is carried over; then `donor` names its mask, and
    `move` says what was done with it.
    """

    model_config = ConfigDict(frozen=True)

    rule: int | None
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
    """All of a case, in the order of the rules, or those that are there, the largest first, for a removal.

    Raises NotPlaced, and as reading a table or a donor.
    """
    if case.kind == "removal":
        return _those_there(host)
    placed: list[PlacedLesion] = []
    reach_mm = 0.0
    for number in range(len(specification.findings)):
        for lesion in range(count_lesions(specification, case, number)):
            turn = _Turn(specification, case, host, number, lesion, len(placed), reach_mm)
            one = turn.place()
            reach_mm = max(reach_mm, turn.reach_of(one.organ, one.wanted))
            host = host.with_taken(one.mask(host.ct).array > 0)
            placed.append(one)
    return placed


def _those_there(host: CohortHost) -> list[PlacedLesion]:
    taken = host.patient.taken
    if not taken.any():
        raise NotPlaced("removals: its mask of lesions is empty: leave it out, or paint what is there")
    lesions = split_lesions(host.ct.with_array(taken.astype(np.uint8)))
    if len(lesions) > MOST_LESIONS:
        raise NotPlaced(f"removals: it has {len(lesions)} lesions, and a mask holds {MOST_LESIONS}")
    found = []
    for lesion in lesions:
        organ = organ_of(lesion, host.patient.organs) or ANY_TISSUE
        box = bounding_box(lesion.array)
        wanted = WantedLesion(rule=None, inside=organ, gap_mm=0)
        found.append(PlacedLesion(wanted, organ, Settled(box, lesion.array[box] > 0, None)))
    return found


def place_drawn(specification: CohortSpecification, case: PlannedCase, drawn: Array) -> PlacedLesion:
    """A body that is there already, of the first rule, whose attributes alone are drawn.

    drawn: not 0 in it, on the grid of the host. Raises EmptyMask.
    """
    asked = _Asked(specification.seed, (case.id, "0", "0"), 0, specification.findings[0])
    wanted = asked.lesion(inside=DRAWN, diameter_mm=None, shape=None, elongation=None)
    box = bounding_box(drawn)
    return PlacedLesion(wanted, DRAWN, Settled(box, drawn[box] > 0, None))


@dataclass(frozen=True)
class _Turn:
    """One lesion to be placed. number: of its rule; lesion: of that rule, from 0; before: so many are placed
    already, and what was edited reaches up to reach_mm around them.
    """

    specification: CohortSpecification
    case: PlannedCase
    host: CohortHost
    number: int
    lesion: int
    before: int
    reach_mm: float

    def place(self) -> PlacedLesion:
        """Raises NotPlaced."""
        rule, generator = self._rule(), self._generator("place")
        if rule.transfer is not None:
            return self._carry_over(rule, rule.transfer, generator)
        if rule.mask is not None:
            return self._as_painted(rule, rule.mask)
        if rule.table is not None:
            rule = _row_for(rule.table, rule, self.host.reference.name, generator).rule
        wanted = self._asked(rule).lesion()
        assert wanted.diameter_mm is not None
        assert wanted.shape is not None
        assert wanted.elongation is not None
        organs = self.host.organs_for(wanted.inside, wanted.side)
        if isinstance(organs, Refused):
            raise NotPlaced(f"findings.{self.number}: {organs.reason}")
        form = draw_form(wanted.diameter_mm, wanted.shape, wanted.elongation, generator)
        said = ""
        for name in _in_turn({name: one.extent.volume_mm3 for name, one in organs.items()}, generator):
            gap_mm = self._gap_mm(rule, name, wanted)
            found = settle(form, organs[name], wanted.surface_mm, gap_mm, generator)
            if isinstance(found, Settled):
                return PlacedLesion(wanted.model_copy(update={"gap_mm": gap_mm}), name, found)
            said = said or f"{name}: {found.reason}"
        raise NotPlaced(f"findings.{self.number}: {said}")

    def _as_painted(self, rule: FindingRule, path: Path) -> PlacedLesion:
        ct, name = self.host.ct, self.host.reference.name
        mask = mask_on_grid(read_volume(Path(str(path).replace("{name}", name))), ct)
        if (self.host.patient.taken & (mask.array > 0)).any():
            raise NotPlaced(f"findings.{self.number}: another lesion is under its mask: paint it elsewhere")
        organ, box = organ_of(mask, self.host.patient.organs) or ANY_TISSUE, bounding_box(mask.array)
        wanted = self._asked(rule).lesion(inside=organ)
        return PlacedLesion(wanted, organ, Settled(box, mask.array[box] > 0, None))

    def _rule(self) -> FindingRule:
        """As it is for the parts that this lesion is in."""
        rule = self.specification.findings[self.number]
        mine = [one for one in self.case.parts if (one.rule, one.lesion) == (self.number, self.lesion)]
        return rule.with_parts([rule.balance[one.axis][one.number] for one in mine]) if mine else rule

    def _generator(self, what: str) -> np.random.Generator:
        names = (self.case.id, str(self.number), str(self.lesion))
        return generator_for(self.specification.seed, *names, what)

    def _asked(self, rule: FindingRule) -> _Asked:
        names = (self.case.id, str(self.number), str(self.lesion))
        return _Asked(self.specification.seed, names, self.number, rule)

    def _gap_mm(self, rule: FindingRule, organ: str, wanted: WantedLesion) -> float:
        """So much that no voxel is changed by two edits, or by one in a lesion that is there."""
        if rule.place.edits_may_meet or not self.host.patient.taken.any():
            return wanted.gap_mm
        return max(wanted.gap_mm, self.reach_of(organ, wanted) + self.reach_mm)

    def reach_of(self, organ: str, wanted: WantedLesion) -> float:
        """How far around it, mm, the edit may change the CT."""
        return ask(self.specification, (self.case.id, self.before), organ, wanted.attributes)[1].reach_mm

    def _carry_over(
        self, rule: FindingRule, transfer: TransferRule, generator: np.random.Generator
    ) -> PlacedLesion:
        """The first lesion, of donors in a random order or of the one of a pair, that fits."""
        said, asked, donor = "", self._asked(rule), self.case.donor
        for offer in offers(transfer, donor, generator):
            inside = transfer.into or offer.organ or ""
            wanted = asked.lesion(inside=inside, donor=offer.name, gap_mm=transfer.limits.gap_mm)
            gap_of = partial(self._gap_mm, rule, wanted=wanted)
            found = hand_over(offer, transfer, self.host, gap_of, generator)
            if isinstance(found, HandedOver):
                more = {"move": found.move, "gap_mm": gap_of(found.organ)}
                return PlacedLesion(wanted.model_copy(update=more), found.organ, found.settled)
            said = said or f"{offer.name}: {found.reason}"
        donors = count_donors(transfer, donor)
        raise NotPlaced(f"findings.{self.number}: none of {donors} donors fits; {said}")


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
        if self.rule.diameter_mm is not None:
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
