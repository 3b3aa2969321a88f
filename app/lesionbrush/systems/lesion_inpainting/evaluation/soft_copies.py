"""Are the tumours of training copied? As `evaluation.variety` asks it of nodules, of parts of sarcomas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.evaluation.patches import Patch, patch_of
from lesionbrush.evaluation.statistics import Estimate, by_patient, median
from lesionbrush.evaluation.variety import nearest, rms
from lesionbrush.systems.lesion_inpainting.evaluation.soft_fillers import FillSite


@dataclass(frozen=True)
class Copies:
    """Root mean square HU. nearest_hu, real_hu: from made and from real held-out parts to the nearest part of
    training; own_hu, floor_hu: from what is made under the mask of a training part to that part, and the same
    of held-out ones: a copy would be nearer."""

    nearest_hu: Estimate
    real_hu: Estimate
    own_hu: Estimate
    floor_hu: Estimate

    def lines(self) -> Iterator[str]:
        yield (
            f"nearest part of a training sarcoma, HU: {_text(self.nearest_hu)} of made ones, "
            f"{_text(self.real_hu)} of real ones held out"
        )
        yield (
            f"made under its own mask, HU from the original: {_text(self.own_hu)} of training parts, "
            f"{_text(self.floor_hu)} of held-out ones"
        )

    def figures(self) -> dict[str, float]:
        return {f"copies_{name}": float(found.value) for name, found in vars(self).items() if found.value}


def find_copies(
    held_out: Sequence[FillSite],
    made: Sequence[np.ndarray],
    trained: Sequence[FillSite],
    remade: Sequence[np.ndarray],
) -> Copies:
    """made, remade: HU on the grids of the CTs of held-out parts, and of training ones."""
    library = [patch_of(site.ct, site.mask) for site in trained]
    real = [patch_of(site.ct, site.mask) for site in held_out]
    ours, copies = _patches(held_out, made), _patches(trained, remade)
    patients, others = ([site.patient for site in sites] for sites in (held_out, trained))
    return Copies(
        by_patient(median, patients, nearest(ours, library).distance_hu),
        by_patient(median, patients, nearest(real, library).distance_hu),
        by_patient(median, others, np.array([rms(a, b) for a, b in zip(library, copies, strict=True)])),
        by_patient(median, patients, np.array([rms(a, b) for a, b in zip(real, ours, strict=True)])),
    )


def _patches(sites: Sequence[FillSite], made: Sequence[np.ndarray]) -> list[Patch]:
    return [patch_of(site.ct, site.mask, hu) for site, hu in zip(sites, made, strict=True)]


def _text(found: Estimate) -> str:
    return "-" if found.value is None else f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
