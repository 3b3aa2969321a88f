"""All lesions of a mask into another patient, one by one, each into the organ that it lies in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.transfer.carry import carry
from lesionbrush.transfer.hosts import HostPatient
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.places import HostOrgan
from lesionbrush.transfer.results import Carried, Refused

TOUCHES_MM = 3.0
_OWN_LABEL = 0.9
"""A label of which so much lies in the mask is the lesion's own, and no organ."""


@dataclass(frozen=True, eq=False)
class SourcePatient:
    """lesions: not 0 in them; organs: on the same grid, None where they are not known.

    Raises GeometryMismatch.
    """

    lesions: Volume
    organs: Layout | None = None

    def __post_init__(self) -> None:
        if self.organs is not None:
            self.organs.labels.require_same_grid(self.lesions, "lesion mask")


@dataclass(frozen=True, eq=False)
class Attempt:
    """What became of one lesion. number: from 1, the largest first; mask: uint8 on its own grid; organ: what
    it lies in, None for none; into: the one of the target that the result speaks of, None for none.
    """

    number: int
    mask: Volume
    organ: str | None
    into: str | None
    result: Carried | Refused


def carry_all(
    source: SourcePatient, host: HostPatient, limits: CarryLimits, generator: np.random.Generator
) -> Iterator[Attempt]:
    """Each lesion of the source in turn; what was carried before is kept clear of, and so is what was there.

    The host stays as it is, but for what is measured of it. Raises EmptyMask.
    """
    for number, lesion in enumerate(split_lesions(source.lesions), start=1):
        organ = None if source.organs is None else organ_of(lesion, source.organs)
        own = None if organ is None or source.organs is None else lesion.with_array(source.organs.mask(organ))
        named, result = _carry_one(lesion, organ, own, host.find(organ), limits, generator)
        if isinstance(result, Carried):
            host = host.with_lesion(result.mask)
        yield Attempt(number, lesion, organ, named, result)


def _carry_one(
    lesion: Volume,
    organ: str | None,
    own: Volume | None,
    hosts: Mapping[str, HostOrgan] | Refused,
    limits: CarryLimits,
    generator: np.random.Generator,
) -> tuple[str | None, Carried | Refused]:
    """Into the first of the hosts that takes it, or what the first one said; and the name of that one."""
    if isinstance(hosts, Refused):
        return None, hosts
    refused: dict[str, Refused] = {}
    for name, host in hosts.items():
        opposite = organ is not None and OrganName.of(name).is_opposite(OrganName.of(organ))
        result = carry(lesion, own, host, limits, generator, opposite=opposite)
        if isinstance(result, Carried):
            return name, result
        refused[name] = result
    return next(iter(refused.items()))


def split_lesions(lesions: Volume) -> list[Volume]:
    """Connected parts, uint8 0/1 on the same grid, the largest first. Raises EmptyMask."""
    whole = bounding_box(lesions.array)
    parts, count = ndimage.label(lesions.array[whole] > 0, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    places = np.array(ndimage.center_of_mass(parts > 0, parts, range(1, count + 1))) + [
        p.start for p in whole
    ]
    places = places @ lesions.affine[:3, :3].T + lesions.affine[:3, 3]
    # Equal ones by where they lie in the patient: they come in the same order on any grid.
    order = np.lexsort((*np.round(places, 3).T, -sizes))
    return [lesions.with_array(_one(parts == number + 1, lesions, whole)) for number in order]


def _one(part: Array, lesions: Volume, whole: Sequence[slice]) -> Array:
    array = np.zeros(lesions.shape, np.uint8)
    array[tuple(whole)] = part
    return array


def organ_of(lesion: Volume, organs: Layout) -> str | None:
    """The name of the organ that has most of a lesion, or else most of what touches it; None for none.

    lesion: not 0 in it, on the grid of the organs.
    """
    spacing = np.array(lesion.spacing_mm)
    own = bounding_box(lesion.array)
    box = dilate(own, TOUCHES_MM, spacing, lesion.shape)
    inside, labels = lesion.array[box] > 0, organs.labels.array[box]
    near = ndimage.distance_transform_edt(~inside, sampling=spacing) <= TOUCHES_MM
    for region in (inside, near):
        counts = {
            name: int(np.isin(labels[region], numbers).sum()) for name, numbers in _numbers_of(organs).items()
        }
        names = [
            name for name, count in counts.items() if count and not _is_lesion(name, organs, inside, labels)
        ]
        if names:
            return max(names, key=lambda name: counts[name])
    return None


def _numbers_of(organs: Layout) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, name in organs.names.items():
        if number > 0:
            found.setdefault(name, []).append(number)
    return found


def _is_lesion(name: str, organs: Layout, inside: Array, labels: Array) -> bool:
    """Whether what has this name is the lesion itself, as where organ and tumour are labels of one file."""
    numbers = _numbers_of(organs)[name]
    mine = np.count_nonzero(np.isin(labels[inside], numbers))
    if mine < _OWN_LABEL * np.count_nonzero(inside):
        return False
    return mine >= _OWN_LABEL * np.count_nonzero(organs.mask(name))
