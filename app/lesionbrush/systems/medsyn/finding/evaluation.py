"""What `run.py evaluate medsyn_finding` measures: does a finding come to lie where its text says?

Hosts are chests that the networks were not trained on. Voxels are counted in the lungs of the CT as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.anatomy.lungs import segment_lungs
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile
from lesionbrush.files.io import read_volume
from lesionbrush.montage import LUNG, SOFT, Panel, sheet, to_lps
from lesionbrush.systems.medsyn.finding.model import MedSynFinding
from lesionbrush.systems.medsyn.request import FindingRequest

HOSTS, SEEDS, MOST = ("LIDC-IDRI-0314", "CMB-CRC-MSB-01068", "LungFCP-01-0001"), 4, 16
RIGHT, LEFT = 1, 2
FLUID_HU, LOW_HU = (-40, 70), -950
PICTURE = "findings.png"


@dataclass(frozen=True)
class Asked:
    """text: what was asked for; side: of the lung that it names, None for both."""

    name: str
    text: str
    side: int | None = None


ASKED = (
    Asked("moderate_right", "Moderate right pleural effusion.", RIGHT),
    Asked("large_right", "Large right pleural effusion.", RIGHT),
    Asked("moderate_left", "Moderate left pleural effusion.", LEFT),
    Asked("large_left", "Large left pleural effusion.", LEFT),
    Asked("emphysema", "Severe emphysema."),
)


@dataclass(frozen=True)
class Found:
    """fluid_ml: that was not there before, in the right and the left lung; low_percent: of both lungs below
    -950 HU, more than before."""

    fluid_ml: tuple[float, float]
    low_percent: float

    @classmethod
    def of(cls, made: Synthesis, lungs: Volume) -> Found:
        """lungs: 1 right, 2 left, on the grid of the CT."""
        after, before = made.volume().array, made.reference.array
        voxel_ml = float(np.prod(made.reference.spacing_mm)) / 1000
        fluid = [(hu >= FLUID_HU[0]) & (hu <= FLUID_HU[1]) for hu in (after, before)]
        right, left = (
            float(
                voxel_ml * sum(sign * np.count_nonzero(one & (lungs.array == side)) for one, sign in signed)
            )
            for side, signed in ((side, list(zip(fluid, (1, -1), strict=True))) for side in (RIGHT, LEFT))
        )
        inside = lungs.array > 0
        low = [100 * float((hu[inside] < LOW_HU).mean()) for hu in (after, before)]
        return cls((right, left), low[0] - low[1])


def evaluate_findings(model: MedSynFinding, data: Path, cases: int, out: Path) -> dict[str, float]:
    """For the card, and printed: every finding in every host that is there, with so many seeds; a picture.

    data: with a folder chest_ct. DamagedFile when it has none of the hosts.
    """
    hosts = dict(read_hosts(data))
    panels, figures = list[Panel](), dict[str, float]()
    request = FindingRequest(variants=min(cases or SEEDS, MOST))
    found: dict[str, list[Found]] = {one.name: [] for one in ASKED}
    for (host, (ct, lungs)), asked in tqdm(list(product(hosts.items(), ASKED)), desc="findings", unit="text"):
        made = synthesize(ct, None, request, model, Inputs(text=asked.text, lungs=lungs))
        found[asked.name] += [Found.of(one, lungs) for one in made]
        if host == list(hosts)[ASKED.index(asked) // 2 % len(hosts)]:
            panels += show(made[0], asked.text)
    for asked in ASKED:
        print(line(asked, found[asked.name]))
        figures |= figures_of(asked, found[asked.name])
    out.mkdir(parents=True, exist_ok=True)
    sheet(
        panels, 4, title="Axial and coronal, where most changed; hosts: " + ", ".join(hosts), panel_px=224
    ).save(out / PICTURE)
    print(out / PICTURE)
    return figures


def read_hosts(data: Path) -> Iterator[tuple[str, tuple[Volume, Volume]]]:
    """CT and lungs, 1 right and 2 left, of those that are there."""
    there = [name for name in HOSTS if (data / "chest_ct" / f"{name}.nii.gz").is_file()]
    if not there:
        raise DamagedFile(
            f"chest_ct of {data.name} has none of {', '.join(HOSTS)}, on which findings are tried"
        )
    for name in there:
        ct = read_volume(data / "chest_ct" / f"{name}.nii.gz")
        yield name, (ct, segment_lungs(ct))


def line(asked: Asked, found: Sequence[Found]) -> str:
    right, left = np.array([one.fluid_ml for one in found]).T
    low = np.array([one.low_percent for one in found])
    return (
        f"{asked.text} fluid right {_spread(right)} ml, left {_spread(left)} ml; below {LOW_HU} HU "
        f"{_spread(low)} % more (N = {len(found)})"
    )


def figures_of(asked: Asked, found: Sequence[Found]) -> dict[str, float]:
    """Means; of fluid on the side that was named and on the other, and how often the first was more."""
    if asked.side is None:
        return {f"{asked.name}_laa950_percent": round(float(np.mean([one.low_percent for one in found])), 2)}
    ml = np.array([one.fluid_ml for one in found])
    named, other = (ml if asked.side == RIGHT else ml[:, ::-1]).T
    return {
        f"{asked.name}_ml": round(float(named.mean()), 1),
        f"{asked.name}_other_side_ml": round(float(other.mean()), 1),
        f"{asked.name}_right_way": round(float((named > other).mean()), 3),
    }


def show(made: Synthesis, text: str) -> Iterator[Panel]:
    """The axial slice and the coronal one that changed most, in two windows each."""
    hu, (x_mm, y_mm, z_mm) = to_lps(made.volume())
    change = np.abs(hu.astype(np.int32) - to_lps(made.reference)[0])
    z, y = (int(change.sum(axis=axes).argmax()) for axes in ((0, 1), (0, 2)))
    for window in (LUNG, SOFT):
        yield Panel(hu[:, :, z].T, (y_mm, x_mm), window, text, badge="SYNTHETIC")
        yield Panel(hu[:, y, ::-1].T, (z_mm, x_mm), window, text, badge="SYNTHETIC")


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.0f} ± {values.std():.0f}"
