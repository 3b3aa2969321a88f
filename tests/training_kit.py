"""Made-up nodules and lungs, stored as the real data are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from core_fixtures import ball, grid, make_ct
from lesionbrush.core.hu import HUWindow
from lesionbrush.files.io import write_volume
from lesionbrush.training.split import is_validation

EVERYBODY = [f"LIDC-IDRI-{number:04d}" for number in range(1, 1013)]
SEEN = [patient for patient in EVERYBODY if not is_validation(patient)][:3]
HELD_OUT = [patient for patient in EVERYBODY if is_validation(patient)][:2]
RADII_MM = (4.0, 9.0, 16.0)
WINDOW = HUWindow(-1000.0, 1000.0)
LPS = grid((0.8, 0.8, 1.25), np.diag([-1.0, -1.0, 1.0]))


def write_nodule(folder: Path, name: str, radius_mm: float) -> dict[str, str]:
    """A soft ball in lung, its mask, and the readers' row."""
    shape = tuple(int(2 * (radius_mm + 5) / s) for s in (0.8, 0.8, 1.25))
    lung = make_ct(shape, LPS)
    mask = ball(lung, [(n - 1) / 2 for n in shape], radius_mm)
    hu = np.where(mask.array > 0, 30, lung.array // 4 - 640).astype(np.int16)
    write_volume(lung.with_array(hu), folder / "images" / name)
    write_volume(mask, folder / "masks" / name)
    scores = {f"{kind}_value": "4" for kind in ("Texture", "Margin", "Spiculation", "Lobulation")}
    return {"patient_id": name[:14], "file": name, "Calcification_value": "6", **scores}


def write_lung(path: Path, seed: int) -> None:
    quiet = make_ct((56, 58, 60), grid((1.0, 1.0, 1.0)), seed)
    write_volume(quiet.with_array((quiet.array // 8 - 750).astype(np.int16)), path)
