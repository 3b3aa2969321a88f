"""More cases like a result: what a user asks for, and the specification of a cohort that it comes to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.anatomy.lungs import find_lungs
from lesionbrush.cohorts.checking import NOT_FOR_MODELS
from lesionbrush.cohorts.donors import MASK, ORGANS
from lesionbrush.cohorts.hosts import LUNGS
from lesionbrush.cohorts.reading import parse_specification
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.core.boxes import Box, bounding_box
from lesionbrush.core.inputs import Layout
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.server.errors import UnknownReference
from lesionbrush.server.synthesis.order import Order
from lesionbrush.systems import parse_request
from lesionbrush.transfer.patients import organ_of

HU_OF_SPREAD = 100.0
"""How far HU stray either way at a spread of 1; other numbers by as much of themselves."""
_LESION, _CT = "lesion", "ct"


class Likeness(BaseModel):
    """How many, and how much like the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=1, le=500, description="cases to make")
    place: Literal["organ", "here"] = Field(
        "organ", description="elsewhere in the same organ; or under the same mask, with other seeds"
    )
    spread: float = Field(
        0.1, ge=0, le=1, description="how far numbers of the attributes stray: a share; of HU, 100 HU at 1"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="same seed, same cases")
    images: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=10_000, description="stored CTs they go into; null: all that are real"
    )


@dataclass(frozen=True, eq=False)
class LikeOrder:
    """order: of the result; voxel_sha256: of its CT; inside: of the lesion, bool in its box, in stored order;
    hosts: by name, in order of names. No CT is in it, as it waits and is kept with the job.
    """

    order: Order
    voxel_sha256: str
    box: Box
    inside: Array
    wanted: Likeness
    hosts: Mapping[str, Path]

    @classmethod
    def of(
        cls, order: Order, synthesis: Synthesis, lesion: Volume, wanted: Likeness, hosts: Mapping[str, Path]
    ) -> LikeOrder:
        """lesion: not 0 in it, on the grid of the CT."""
        box = bounding_box(lesion.array)
        voxels = synthesis.reference.voxel_sha256
        return cls(order, voxels, box, lesion.array[box] > 0, wanted, hosts)

    @property
    def request(self) -> EditRequest:
        assert isinstance(self.order.request, EditRequest)
        return self.order.request

    @property
    def name(self) -> str:
        """Of the cohort; all that is asked for is in it, so that the same again goes on where it stopped."""
        hosts = [(name, str(path)) for name, path in self.hosts.items()]
        said = (self.order.model, self.request.model_dump_json(), self.wanted.model_dump_json(), hosts)
        voxels = (self.voxel_sha256, str(self.box), self.inside.tobytes())
        return f"like{sha256(repr((said, voxels)).encode()).hexdigest()[:16]}"

    @property
    def steps(self) -> int:
        return self.wanted.count * self.request.steps

    def lay_out(self, folder: Path, ct: Volume) -> CohortSpecification:
        """Writes there what the cohort is made of. ct: of the result.

        Raises InvalidRequest, NoLungs, UnknownReference (another CT by now), StorageFull, OSError.
        """
        if ct.voxel_sha256 != self.voxel_sha256:
            raise UnknownReference("the reference CT has changed since this result: synthesize again")
        lesion = np.zeros(ct.shape, np.uint8)
        lesion[self.box] = self.inside
        folder.mkdir(exist_ok=True)
        lay_out = self._here if self.wanted.place == "here" else self._in_organ
        return lay_out(folder, ct, ct.with_array(lesion))

    def _here(self, folder: Path, _: Volume, lesion: Volume) -> CohortSpecification:
        (host,) = self.hosts.values()
        assert self.order.reference is not None
        if self.order.reference.image is None:  # an upload is not kept for ever
            host = _copy(host, folder)
        mask = folder / f"{MASK}.nii.gz"
        write_volume(lesion, mask)
        labels = folder / f"{ORGANS}.nii.gz"
        write_layout(Layout(lesion, {1: _LESION}), labels)
        reference = {"folder": str(host), "labels": str(labels)}
        return self._specification([reference], {"mask": str(mask)})

    def _in_organ(self, folder: Path, ct: Volume, lesion: Volume) -> CohortSpecification:
        organs = Layout(find_lungs(ct).labels, LUNGS)
        if organ_of(lesion, organs) is None:
            raise InvalidRequest(
                "the lesion lies in no lung, and no other organ is found by itself: ask with place here, or "
                "make a cohort with labels of organs (run.py cohort)"
            )
        donor = folder / "donor"
        donor.mkdir(exist_ok=True)
        write_volume(lesion, donor / f"{MASK}.nii.gz")
        write_layout(organs, donor / f"{ORGANS}.nii.gz")
        spread = self.wanted.spread
        limits = {"scale": [1 - spread / 2, 1 + spread / 2], "rotation_deg": 180, "shift_mm": 1000}
        references = [{"folder": str(path)} for path in self.hosts.values()]
        return self._specification(references, {"transfer": {"cases": str(donor), "limits": limits}})

    def _specification(
        self, references: Sequence[Mapping[str, str]], origin: Mapping[str, Any]
    ) -> CohortSpecification:
        system = self.request.model_dump()["system"]
        parameters = {k: v for k, v in self.request.model_dump().items() if k not in NOT_FOR_MODELS}
        values = {
            "name": self.name,
            "description": f"like a result of {self.order.model}",
            "seed": self.wanted.seed,
            "references": [{**one, "license": "as of the studies"} for one in references],
            "cases": {"total": self.wanted.count},
            "findings": [{**origin, "attributes": stray(self._attributes, self.wanted.spread, system)}],
            "models": {"any": {"name": self.order.model, "parameters": parameters}},
        }
        return parse_specification(values, None, "the cohort")

    @property
    def _attributes(self) -> dict[str, Any]:
        said: dict[str, Any] = self.request.model_dump().get("attributes") or {}
        return said


def stray(attributes: Mapping[str, Any], spread: float, system: str) -> dict[str, Any]:
    """Each number as a range around itself, as far as the system takes it; all else as it is."""

    def taken(name: str, value: float) -> bool:
        try:
            parse_request({"attributes": {**attributes, name: value}}, system)
        except InvalidRequest:
            return False
        return True

    found: dict[str, Any] = dict(attributes)
    for name, value in attributes.items():
        if isinstance(value, float):
            half = spread * (HU_OF_SPREAD if name.endswith("_hu") else abs(value))
            low, high = (end if taken(name, end) else value for end in (value - half, value + half))
            found[name] = {"uniform": [low, high]}
    return found


def _copy(ct: Path, folder: Path) -> Path:
    """All of it, or what is there already."""
    suffix = "" if ct.is_dir() else "".join(ct.suffixes)
    place = folder / f"{_CT}{suffix}"
    if place.exists():
        return place
    draft = folder / f"{_CT}.draft{suffix}"
    shutil.rmtree(draft, ignore_errors=True)
    (shutil.copytree if ct.is_dir() else shutil.copyfile)(ct, draft)
    return draft.rename(place)
