"""More cases like a result: what a user asks for, and the specification of a cohort that it comes to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lesionbrush.anatomy.lungs import find_lungs
from lesionbrush.cohorts.checking import NOT_FOR_MODELS
from lesionbrush.cohorts.donors import MASK, ORGANS
from lesionbrush.cohorts.hosts import LUNGS
from lesionbrush.cohorts.reading import parse_specification
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.core.inputs import Layout
from lesionbrush.core.request import EditRequest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import write_layout
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
    """order: of the result; lesion: 0 and 1, on the grid of its CT; hosts: by name, in order of names."""

    order: Order
    reference: Volume
    lesion: Volume
    wanted: Likeness
    hosts: Mapping[str, Path]

    @property
    def request(self) -> EditRequest:
        assert isinstance(self.order.request, EditRequest)
        return self.order.request

    @property
    def name(self) -> str:
        """Of the cohort; all that is asked for is in it, so that the same again goes on where it stopped."""
        hosts = [(name, str(path)) for name, path in self.hosts.items()]
        said = (self.order.model, self.request.model_dump_json(), self.wanted.model_dump_json(), hosts)
        voxels = (self.reference.voxel_sha256, self.lesion.voxel_sha256)
        return f"like{sha256(repr((said, voxels)).encode()).hexdigest()[:16]}"

    @property
    def steps(self) -> int:
        return self.wanted.count * self.request.steps

    def lay_out(self, folder: Path) -> CohortSpecification:
        """Writes there what the cohort is made of. Raises InvalidRequest, NoLungs, StorageFull, OSError."""
        folder.mkdir(exist_ok=True)
        return self._here(folder) if self.wanted.place == "here" else self._in_organ(folder)

    def _here(self, folder: Path) -> CohortSpecification:
        (host,) = self.hosts.values()
        assert self.order.reference is not None
        if self.order.reference.image is None:  # an upload is not kept for ever
            host = _copy(host, folder)
        mask = folder / f"{MASK}.nii.gz"
        write_volume(self.lesion, mask)
        labels = folder / f"{ORGANS}.nii.gz"
        write_layout(Layout(self.lesion, {1: _LESION}), labels)
        reference = {"folder": str(host), "labels": str(labels)}
        return self._specification([reference], {"mask": str(mask)})

    def _in_organ(self, folder: Path) -> CohortSpecification:
        organs = Layout(find_lungs(self.reference).labels, LUNGS)
        if organ_of(self.lesion, organs) is None:
            raise InvalidRequest(
                "the lesion lies in no lung, and no other organ is found by itself: ask with place here, or "
                "make a cohort with labels of organs (run.py cohort)"
            )
        donor = folder / "donor"
        donor.mkdir(exist_ok=True)
        write_volume(self.lesion, donor / f"{MASK}.nii.gz")
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
