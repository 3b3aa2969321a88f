"""Volumes that steer a synthesis beside the CT and the mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest

InputName = Literal["lungs", "anatomy", "pathology", "pathology_mask"]

ABOUT: dict[InputName, str] = {
    "lungs": "both lungs as a label volume on the grid of the CT; found by itself when left out",
    "anatomy": "an anatomy map in HU on the grid of the CT",
    "pathology": "the CT of another case, whose lesion is to be followed",
    "pathology_mask": "the lesion in the CT of that other case",
}


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was sent of `ABOUT`; None for what was not."""

    lungs: Volume | None = None
    anatomy: Volume | None = None
    pathology: Volume | None = None
    pathology_mask: Volume | None = None

    def names(self) -> Iterator[str]:
        """Of those that are there."""
        return (field.name for field in fields(self) if getattr(self, field.name) is not None)

    def voxel_sha256(self) -> dict[str, str]:
        """By name, as `Volume.voxel_sha256`."""
        return {name: getattr(self, name).voxel_sha256 for name in self.names()}

    def require_known_to(self, model: str, accepted: tuple[InputName, ...]) -> None:
        """InvalidRequest when there is one that the model does not take, or half of a pair."""
        require_accepted(model, list(self.names()), accepted)


NO_INPUTS = Inputs()


def require_accepted(model: str, names: list[str], accepted: tuple[InputName, ...]) -> None:
    """InvalidRequest for a name that the model does not take, and for half of a pair."""
    for name in names:
        if name not in accepted:
            takes = ", ".join(accepted) or "none beside CT and mask"
            raise InvalidRequest(f"{name}: model {model!r} takes no such volume; it takes {takes}")
    if ("pathology" in names) != ("pathology_mask" in names):
        raise InvalidRequest(
            "pathology and pathology_mask belong together: send the other case's CT and its lesion mask"
        )
