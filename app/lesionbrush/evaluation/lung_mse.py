"""Lung-DDPM's error in the lungs: squared error of intensities in [-1, 1], made lung against the real one.

The paper has it beside FID and MMD over hundreds of volumes. Here there is one held-out CT, for which neither
means anything; so the error stands alone, with what two places of the same real lungs differ by as its floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.model import Model
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lung_ddpm.request import LungDDPMRequest

HELD_OUT = "LIDC-IDRI-0314"
SHIFT_MM = 20.0
WINDOW = HUWindow(-1000.0, 1000.0)


@dataclass(frozen=True)
class LungMSE:
    """volumes: how many CTs; made: of lungs made anew; floor: of real lungs against themselves, shifted."""

    volumes: int
    made: float
    floor: float

    def lines(self) -> Iterator[str]:
        yield (
            f"mean squared error in the lungs, intensities in [-1, 1], {self.volumes} held-out CT: "
            f"{self.made:.4f}; real lungs against themselves, shifted by {SHIFT_MM:.0f} mm: {self.floor:.4f}"
        )
        yield "FID and MMD are not given: they compare hundreds of volumes, not one"


def lung_mse(data: Path, model: Model) -> LungMSE:
    """On the held-out CT of the data folder. InvalidRequest when it is not there."""
    folder = data / "chest_ct"
    files = [folder / f"{HELD_OUT}{part}.nii.gz" for part in ("", "_lungs", "_nodule_1")]
    for file in files:
        if not file.is_file():
            raise InvalidRequest(f"no {file.name} in {folder}: point --data at the training data")
    ct, lungs, nodule = (read_volume(file) for file in files)
    request = LungDDPMRequest(region="lungs")
    made = synthesize(ct, nodule, request, model, Inputs(lungs=lungs))[0].volume()
    inside = lungs.array > 0
    error = squared_error(ct.array, made.array, inside)
    return LungMSE(1, error, shifted_error(ct, inside))


def squared_error(real_hu: np.ndarray, made_hu: np.ndarray, inside: np.ndarray) -> float:
    """Mean over the voxels inside."""
    difference = WINDOW.to_unit(real_hu[inside]) - WINDOW.to_unit(made_hu[inside])
    return float(np.mean(difference.astype(np.float64) ** 2))


def shifted_error(ct: Volume, inside: np.ndarray) -> float:
    """The real lungs against themselves, moved along the first axis; where both are lung."""
    step = max(1, round(SHIFT_MM / ct.spacing_mm[0]))
    both = inside[step:] & inside[:-step]
    return squared_error(ct.array[step:], ct.array[:-step], both)
