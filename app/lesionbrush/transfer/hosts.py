"""A patient that lesions are carried into: organs by name, each measured once, and what lies in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.transfer.names import OrganName, match_names
from lesionbrush.transfer.places import HostOrgan, MeasuredOrgan
from lesionbrush.transfer.results import Refused


@dataclass(frozen=True, eq=False)
class HostPatient:
    """organs: with names; taken: bool on their grid, where lesions are; into: the only organ that is wanted,
    None for that of each lesion; measured: those that were asked for, by name, None for one without voxels.
    """

    organs: Layout
    taken: Array
    into: str | None = None
    measured: dict[str, MeasuredOrgan | None] = field(default_factory=dict)

    @classmethod
    def of(cls, organs: Layout, lesions: Volume | None = None, into: str | None = None) -> HostPatient:
        """lesions: those it has, not 0 in them. Raises GeometryMismatch, InvalidRequest (no organ `into`)."""
        if into is not None and not match_names(into, organs.names.values(), other_side=False):
            raise InvalidRequest(f"the target has no {into!r}; it has {list_names(organs)}")
        if lesions is None:
            return cls(organs, np.zeros(organs.labels.shape, bool), into)
        organs.labels.require_same_grid(lesions, "mask of the target's lesions")
        return cls(organs, lesions.array > 0, into)

    def with_lesion(self, mask: Volume) -> HostPatient:
        """The same with one more; what was measured is kept."""
        return replace(self, taken=self.taken | (mask.array > 0))

    def find(self, organ: str | None) -> dict[str, HostOrgan] | Refused:
        """Where a lesion of this organ may go, by name, the same side first."""
        wanted = self.into or organ
        if wanted is None:
            return Refused("no_organ", "it touches no organ with a name: say into which organ it goes")
        names = match_names(wanted, self.organs.names.values(), other_side=self.into is None)
        if not names:
            return Refused("not_there", f"the target has no {wanted!r}; it has {list_names(self.organs)}")
        if organ is not None:
            names.sort(key=lambda name: OrganName.of(name).is_opposite(OrganName.of(organ)))
        found = {name: known for name in names if (known := self._measure(name)) is not None}
        if not found:
            return Refused("not_there", f"the target has a name for {wanted!r}, and no voxel of it")
        return {name: HostOrgan(known, self.taken) for name, known in found.items()}

    def _measure(self, name: str) -> MeasuredOrgan | None:
        if name not in self.measured:
            inside = self.organs.mask(name)
            named = [number for number in self.organs.names if number > 0]
            # A lesion may have a label of its own among the organs.
            others = np.isin(self.organs.labels.array, named) & ~inside & ~self.taken
            known = MeasuredOrgan(self.organs.labels.with_array(inside), others)
            self.measured[name] = known if inside.any() else None
        return self.measured[name]


def list_names(layout: Layout) -> str:
    """Of its organs, for a sentence."""
    return ", ".join(dict.fromkeys(name for number, name in layout.names.items() if number > 0)) or "no names"
