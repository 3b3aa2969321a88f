"""Fixtures for tests of the training. Load with `pytest_plugins = "training_fixtures"`."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.systems.lesion_inpainting.data import Pack
from lesionbrush.systems.lesion_inpainting.pack import write_pack
from lesionbrush.training.runs import make_once
from training_kit import HELD_OUT, RADII_MM, SEEN, write_lung, write_nodule


@pytest.fixture(scope="module")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    nodules = data / "lidc_nodules"
    for part in (nodules / "images", nodules / "masks", data / "chest_ct", data / "lidc_crops"):
        part.mkdir(parents=True)
    rows = [
        write_nodule(nodules, f"{patient}_R_{number}.nii.gz", radius)
        for patient in SEEN[:2] + HELD_OUT
        for number, radius in enumerate(RADII_MM, 1)
    ]
    write_nodule(nodules, f"{SEEN[2]}_R_1.nii.gz", 4.0)  # nobody has read it
    with (nodules / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for seed, patient in enumerate([SEEN[0], "LIDC-IDRI-0314"]):
        write_lung(data / "chest_ct" / f"{patient}.nii.gz", seed)
        write_lung(data / "chest_ct" / f"{patient}_lungs.nii.gz", seed)
        write_lung(data / "chest_ct" / f"{patient}_nodule_1.nii.gz", seed)
    write_lung(data / "chest_ct" / "LungFCP-01-0001.nii.gz", 5)
    crop = np.full((30, 72, 72), -820, np.int16)
    np.savez(data / "lidc_crops" / f"{SEEN[1]}_0.npz", image=crop, spacing_zyx=(2.0, 0.8, 0.8))
    np.savez(data / "lidc_crops" / f"{SEEN[1]}_1.npz", image=crop, spacing_zyx=(np.nan, 0.8, 0.8))
    return data


@pytest.fixture(scope="module")
def training_pack(training_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "deep" / "pack.npz"
    return make_once(path, partial(write_pack, training_folder))


@pytest.fixture(scope="module")
def seen(training_pack: Path) -> Pack:
    return Pack(training_pack, validation=False)


@pytest.fixture(scope="module")
def held_out(training_pack: Path) -> Pack:
    return Pack(training_pack, validation=True)
