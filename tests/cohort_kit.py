"""Small references with organs of balls, and specifications of cohorts that a tiny model makes in no time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack, write_case
from lesionbrush.cohorts.reading import parse_specification
from lesionbrush.cohorts.references import find_references
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import write_layout
from server_kit import make_ct
from transfer_kit import ball

LEFT_LUNG, RIGHT_LUNG, LIVER = 1, 2, 3
PATIENT = "Miller"
SPECIFICATION: dict[str, Any] = {
    "name": "tiny_cohort",
    "description": "balls",
    "seed": 3,
    "references": [
        {
            "folder": "cts",
            "files": "*_ct.nii.gz",
            "labels": "{name}_organs.nii.gz",
            "license": "CC BY 4.0",
        }
    ],
    "cases": {"per_reference": 2},
    "findings": [
        {
            "diameter_mm": {"uniform": [5.0, 8.0]},
            "shape": {"choice": ["round", "lobulated"]},
            "place": {"inside": "lung"},
            "attributes": {"mean_hu": {"uniform": [-100, 50]}},
        }
    ],
    "models": {"any": {"name": "tiny", "parameters": {"steps": 2}}},
}

TWO_NODULES = [{"number": 2, "diameter_mm": 6, "place": {"inside": "lung"}, "attributes": {"mean_hu": -50}}]


def write_references(folder: Path, count: int = 2) -> Path:
    """Patients with two lungs and a liver, each a ball; their file names have a patient's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        ct = make_ct()
        ct = ct.with_array(np.roll(ct.array, number, axis=0))
        name = f"{PATIENT}_{number}_ct"
        write_volume(ct, folder / f"{name}.nii.gz")
        write_layout(Layout(organ_labels(ct), NAMES), folder / f"{name}_organs.nii.gz")
    return folder


NAMES = {LEFT_LUNG: "lung_left", RIGHT_LUNG: "lung_right", LIVER: "liver"}


def organ_labels(ct: Volume) -> Volume:
    middle = ct.affine[:3, :3] @ ((np.array(ct.shape) - 1) / 2) + ct.affine[:3, 3]
    on = ct.shape, ct.affine
    balls = (((-17, 12, 0), 15), ((17, 12, 0), 14), ((0, -18, 0), 13))
    labels = np.zeros(ct.shape, np.uint8)
    for number, (away, radius) in enumerate(balls, start=1):
        labels[ball(middle + np.array(away), radius, on).array > 0] = number
    return Volume(labels, ct.affine)


def specification(base: Path, **changes: Any) -> CohortSpecification:
    return parse_specification({**SPECIFICATION, **changes}, base, "tiny.yaml")


def begin(base: Path, out: Path, **changes: Any) -> CohortFolder:
    asked = specification(base, **changes)
    return CohortFolder.begin(out, asked, find_references(asked.references))


def make_here(folder: CohortFolder) -> None:
    """All cases, in this process."""
    maker = CaseMaker(folder.specification, folder.asked, ModelRack("cpu"))
    for reference in folder.references:
        host = CohortHost.read(reference)
        for case in folder.pending():
            if case.reference == reference.name:
                write_case(maker.make(case, host), folder.folder_of(case.id))


@dataclass(frozen=True)
class OneHost:
    """A reference that is read, and its first case."""

    host: CohortHost
    case: PlannedCase
    specification: CohortSpecification


def one_host(base: Path, **changes: Any) -> OneHost:
    asked = specification(base, **changes)
    reference = find_references(asked.references)[0]
    return OneHost(
        CohortHost.read(reference), PlannedCase(f"{reference.name}-0001", reference.name, "train"), asked
    )


def state(folder: Path) -> dict[str, bytes]:
    """Every file below, but for what says how long something took."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != ".json"}


def depth_mm(mask: Array, organ: Array, spacing_mm: tuple[float, float, float]) -> float:
    """Of the mask's voxel that is nearest to what is not organ, by brute force."""
    outside = np.argwhere(~organ) * spacing_mm
    return min(
        float(np.linalg.norm(outside - at * np.array(spacing_mm), axis=1).min()) for at in np.argwhere(mask)
    )
