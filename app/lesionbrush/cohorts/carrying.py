"""Lesions of donors for a host: which ones are offered, in which order, and where one of them goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lesionbrush.cohorts.donors import SourceCase, find_sources
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.placing import Settled
from lesionbrush.cohorts.specification import TransferRule
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array, Volume
from lesionbrush.transfer.carry import carry
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.patients import SourcePatient, organ_of, split_lesions
from lesionbrush.transfer.results import Refused

GapOf = Callable[[str], float]
"""mm to other lesions, by the organ that one goes into."""


@dataclass(frozen=True, eq=False)
class Offer:
    """One lesion of a donor. mask: 1 in it; organ: it lies in, None for none; own: of that, on its grid."""

    name: str
    mask: Volume
    organ: str | None
    own: Volume | None


@dataclass(frozen=True, eq=False)
class HandedOver:
    """organ: its name in the host; move: what was done with the mask on its way."""

    organ: str
    settled: Settled
    move: dict[str, Any]


def count_donors(rule: TransferRule, donor: str | None) -> int:
    return len(_donors_of(rule, donor))


def offers(rule: TransferRule, donor: str | None, generator: np.random.Generator) -> Iterator[Offer]:
    """All lesions of all donors, or of the one with this name, in a random order."""
    donors = _donors_of(rule, donor)
    for k in generator.permutation(len(donors)):
        patient = _read(donors[k])
        lesions = split_lesions(patient.lesions)
        for n in generator.permutation(len(lesions)):
            mask = lesions[n]
            organ = None if patient.organs is None else organ_of(mask, patient.organs)
            own = (
                None
                if organ is None or patient.organs is None
                else mask.with_array(patient.organs.mask(organ))
            )
            yield Offer(f"{donors[k].name}, lesion {n + 1}", mask, organ, own)


def hand_over(
    offer: Offer, rule: TransferRule, host: CohortHost, gap_of: GapOf, generator: np.random.Generator
) -> HandedOver | Refused:
    """Into the first organ of the host that takes it, or what the first one said."""
    wanted = rule.into or offer.organ
    if wanted is None:
        return Refused("no_organ", "it touches no organ with a name: say with `into` where it goes")
    found = host.organs_for(wanted, "any") if rule.into else host.patient.find(offer.organ)
    if isinstance(found, Refused):
        return found
    refused: Refused | None = None
    for name, into in found.items():
        opposite = offer.organ is not None and OrganName.of(name).is_opposite(OrganName.of(offer.organ))
        limits = replace(rule.limits, gap_mm=gap_of(name))
        result = carry(offer.mask, offer.own, into, limits, generator, opposite=opposite)
        if not isinstance(result, Refused):
            box = bounding_box(result.mask.array)
            inside: Array = result.mask.array[box] > 0
            return HandedOver(name, Settled(box, inside, None), asdict(result.move))
        refused = refused or result
    assert refused is not None
    return refused


def _donors_of(rule: TransferRule, donor: str | None) -> list[SourceCase]:
    found = _donors(rule.cases, rule.names, rule.label)
    return [one for one in found if donor in (None, one.name)]


@lru_cache(maxsize=4)
def _donors(cases: Path, names: Path | None, label: int | None) -> tuple[SourceCase, ...]:
    return tuple(find_sources(cases, None, names, None, label))


@lru_cache(maxsize=4)
def _read(donor: SourceCase) -> SourcePatient:
    return donor.read()[0]
