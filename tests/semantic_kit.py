"""A tiny network of semantic CT, one that says what it is told, and a folder of made-up data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from core_fixtures import ball, grid
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume

ORGANS_HU = {6: 110, 2: 180, 3: 170, 1: 130}
PLACES = {6: (26, 20), 2: (27, 10), 3: (12, 10), 1: (11, 22)}
"""x and y of the middle of liver, kidneys and spleen; x to the right."""


def make_abdomen(seed: int = 0, slices: int = 12) -> tuple[Volume, Volume]:
    """A CT at 5 mm with a body of fat, muscle, a spine, four organs, and their labels in AMOS codes."""
    rng = np.random.default_rng(seed)
    ct = Volume(np.zeros((40, 32, slices), np.int16, order="F"), grid((5.0, 5.0, 5.0)))
    x, y, _ = np.indices(ct.shape)
    hu = np.full(ct.shape, -1000.0)
    inside = ((x - 19.5) / 18) ** 2 + ((y - 15.5) / 14) ** 2
    hu[inside < 1] = -100
    hu[inside < 0.8] = 40
    hu[np.hypot(x - 19.5, y - 5) < 2.5] = 500
    labels = np.zeros(ct.shape, np.uint8)
    for number, (at_x, at_y) in PLACES.items():
        organ = ball(ct, (at_x, at_y, slices // 2), 24.0).array > 0
        labels[organ], hu[organ] = number, ORGANS_HU[number]
    hu = hu + np.where(hu > -500, rng.normal(0, 10, ct.shape), 0)
    return ct.with_array(np.asfortranarray(hu.round().astype(np.int16))), ct.with_array(labels)


def write_semantic_data(folder: Path) -> Path:
    """Three abdomens, of which one is held out, and a chest without labels."""
    for part in ("abdomen_ct", "chest_ct"):
        (folder / part).mkdir(parents=True)
    for seed, name in enumerate(("CRLM-CT-1006", "CRLM-CT-1004", "TCGA-09-2043")):
        ct, labels = make_abdomen(seed, slices=170 if name == "TCGA-09-2043" else 12)
        write_volume(ct, folder / "abdomen_ct" / f"{name}.nii.gz")
        write_volume(labels, folder / "abdomen_ct" / f"{name}_organs.nii.gz")
    write_volume(make_abdomen(3, slices=60)[0], folder / "chest_ct" / "R01-001.nii.gz")
    return folder
