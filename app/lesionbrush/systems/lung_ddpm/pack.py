"""The training pack of Lung-DDPM: whole lungs with their masks, resampled once, in one file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lesionbrush.core.hu import round_hu
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.pack import lung_centres, on_grid
from lesionbrush.systems.lung_ddpm.volumes import Chest

_CT = re.compile(r"(LIDC-IDRI-\d{4})(\w?)(_1mmxy)?\.nii\.gz")


def whole_lungs(data: Path) -> Iterator[Chest]:
    """The LIDC-IDRI scans that have a lung mask beside them."""
    generator = np.random.default_rng(0)
    for path in sorted((data / "chest_ct").glob("LIDC-IDRI-*.nii.gz")):
        found = _CT.fullmatch(path.name)
        if found is None:
            continue
        patient, series, kind = (part or "" for part in found.groups())
        mask = read_volume(path.with_name(f"{patient}{series}_lungs{kind}.nii.gz"))
        hu, coverage = on_grid(read_volume(path), mask)
        image = round_hu(hu)
        yield Chest(patient, image, coverage >= 0.5, lung_centres(image, generator))


def write_lungs(data: Path, path: Path) -> None:
    """Build the pack from the data folder. InvalidRequest when there are no scans with lung masks."""
    arrays: dict[str, np.ndarray] = {}
    patients = []
    for k, lungs in enumerate(whole_lungs(data)):
        patients.append(lungs.patient)
        arrays |= {f"image_{k}": lungs.image, f"mask_{k}": lungs.mask, f"centres_{k}": lungs.centres}
    if not patients:
        raise InvalidRequest(f"{data} holds no chest_ct with lung masks: point --data at the training data")
    np.savez(path, patients=np.array(patients), **arrays)
