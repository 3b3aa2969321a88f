"""Made-up nodules and a made-up chest for tests of the evaluation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume

NODULE_SHAPE = (30, 30, 20)
CHEST_SHAPE = (100, 80, 70)
SCORES = {"Margin": 4, "Spiculation": 1, "Lobulation": 2, "Calcification": 6}


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    """bool: voxels within `radius` voxels of a place."""
    offsets = np.indices(shape) - np.array(centre).reshape(-1, *[1] * len(shape))
    inside: np.ndarray = (offsets**2).sum(axis=0) <= radius**2
    return inside


def save_nodule(
    folder: Path, patient: str, generator: np.random.Generator, texture: int
) -> dict[str, object]:
    """A ball in lung (-600 HU for ground glass, 20 for solid), its mask, and the readers' row."""
    name, radius_mm = f"{patient}_R_1.nii.gz", 5.0
    mask = ball(NODULE_SHAPE, tuple(n / 2 for n in NODULE_SHAPE), radius_mm)
    hu = np.where(mask, {1: -600, 3: -200, 5: 20}[texture], -850) + generator.normal(0, 25, NODULE_SHAPE)
    for kind, array in (("images", np.rint(hu).astype(np.int16)), ("masks", mask.astype(np.uint8))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, np.eye(4)), folder / kind / name)
    scores = {f"{key}_value": value for key, value in {**SCORES, "Texture": texture}.items()}
    return {"file": name, "patient_id": patient, "diameter_mm": 2 * radius_mm, **scores}


def save_nodules(folder: Path, patients: Sequence[str], generator: np.random.Generator) -> None:
    """One nodule of each patient, of all textures in turn, and the readers' table."""
    rows = [
        save_nodule(folder / "lidc_nodules", patient, generator, texture=1 + 2 * (k % 3))
        for k, patient in enumerate(patients)
    ]
    with (folder / "lidc_nodules" / "attributes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def save_chest(folder: Path, patient: str, generator: np.random.Generator) -> None:
    """Two lungs in soft tissue, with a lung mask and a nodule with its mask."""
    folder.mkdir(parents=True, exist_ok=True)
    lungs = ball(CHEST_SHAPE, (25, 40, 35), 22) | ball(CHEST_SHAPE, (75, 40, 35), 22)
    nodule = ball(CHEST_SHAPE, (25, 40, 35), 4)
    hu = np.where(lungs & ~nodule, -850, 30) + generator.normal(0, 25, CHEST_SHAPE)
    write_volume(Volume(np.rint(hu).astype(np.int16), np.eye(4)), folder / f"{patient}.nii.gz")
    for name, array in (("lungs", lungs), ("nodule_1", nodule)):
        write_volume(Volume(array.astype(np.uint8), np.eye(4)), folder / f"{patient}_{name}.nii.gz")
