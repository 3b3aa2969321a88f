"""A reference that is read, with its organs: what lesions are put into."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionbrush.anatomy.lungs import LEFT, RIGHT, find_lungs
from lesionbrush.cohorts.donors import mask_of_any
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.core.inputs import Layout
from lesionbrush.core.labels import is_label_map
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import NotACT
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.files.records import record_of
from lesionbrush.transfer.hosts import HostPatient
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.places import HostOrgan
from lesionbrush.transfer.results import Refused

LUNGS = {RIGHT: "lung_right", LEFT: "lung_left"}


@dataclass(frozen=True, eq=False)
class CohortHost:
    """made_from: its record, where it is synthetic itself; patient: its organs, and the lesions in them."""

    reference: CohortReference
    ct: Volume
    made_from: Provenance | None
    patient: HostPatient

    @classmethod
    def read(cls, reference: CohortReference) -> CohortHost:
        """Without labels its lungs are found. Raises LesionBrushError, OSError."""
        ct = _read_ct(reference)
        organs = organs_of(ct, reference)
        lesions = None if reference.lesions is None else mask_of_any(read_volume(reference.lesions), ct)
        return cls(reference, ct, record_of(reference.path), HostPatient.of(organs, lesions))

    def with_taken(self, taken: Array) -> CohortHost:
        """The same with lesions there as well. taken: bool on the CT's grid."""
        return replace(self, patient=replace(self.patient, taken=self.patient.taken | taken))

    def organs_for(self, organ: str, side: str) -> dict[str, HostOrgan] | Refused:
        """By name: those that `organ` stands for, of one side or of any."""
        found = replace(self.patient, into=organ).find(None)
        if isinstance(found, Refused) or side == "any":
            return found
        of_side = {name: host for name, host in found.items() if OrganName.of(name).side == side}
        if of_side:
            return of_side
        return Refused(
            "not_there",
            f"no {side} {organ} is among the labels, which have {', '.join(found)}: name sides",
        )


def _read_ct(reference: CohortReference) -> Volume:
    volume = read_volume(reference.path)
    if is_label_map(volume):
        raise NotACT(
            f"{reference.path.name} is a label map and no CT: name the CTs alone under references, such as "
            'files: "*_ct.nii.gz" or ids'
        )
    return require_ct(volume)


def organs_of(ct: Volume, reference: CohortReference) -> Layout:
    """Raises NoLungs, GeometryMismatch, InvalidRequest, DamagedFile."""
    if reference.labels is None:
        return Layout(find_lungs(ct).labels, LUNGS)
    organs = read_layout(reference.labels, reference.names)
    ct.require_same_grid(organs.labels, "label volume")
    return organs
