"""The training pack: every nodule and every healthy host, resampled once, in one file.

The trainer reads nothing else, so it runs where there are only torch and numpy.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from lesionbrush.core.hu import round_hu
from lesionbrush.core.roi import Kernel, Orientation, RoiGrid, keys_cubic, to_roi, triangle
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES, Measured, from_readers
from lesionbrush.systems.lesion_inpainting.measures import (
    CONCAVITY_DECILES,
    ROUGHNESS_DECILES,
    Surroundings,
    rank,
)
from lesionbrush.training.runs import make_once
from lesionbrush.training.trainings import Run

SPACING_MM = 1.0
CENTRES_PER_HOST = 20_000


@dataclass(frozen=True)
class PackCase:
    """One image on the model's grid. Axes (z, y, x), int16 HU, coverage 0..255 of the lesion mask."""

    name: str
    patient: str
    image: np.ndarray
    mask: np.ndarray
    attributes: np.ndarray


def nodule_cases(data: Path) -> Iterator[PackCase]:
    """The LIDC-IDRI nodules with their readers' attributes; files without a row are left out."""
    rows = _attribute_rows(data / "lidc_nodules" / "attributes.csv")
    for path in tqdm(
        sorted((data / "lidc_nodules" / "images").glob("*.nii.gz")), desc="nodules", unit="file"
    ):
        if path.name not in rows:
            continue
        image, mask = read_volume(path), read_volume(data / "lidc_nodules" / "masks" / path.name)
        hu, coverage = on_grid(image, mask)
        if coverage.max() < 0.5:
            continue
        attributes = from_readers(rows[path.name], measure(hu, coverage >= 0.5))
        patient = path.name.split("_R_")[0]
        yield PackCase(
            path.name, patient, round_hu(hu), (coverage * 255).round().astype(np.uint8), attributes
        )


def measure(hu: np.ndarray, inside: np.ndarray) -> Measured:
    """What the image shows of the nodule. hu: (Z, Y, X) on the model's grid; inside: bool."""
    around, values = Surroundings(hu, inside), hu[inside]
    roughness = rank(around.border_roughness(), ROUGHNESS_DECILES)
    concavity = rank(around.concavity(), CONCAVITY_DECILES)
    return Measured(float(values.mean()), float(values.std()), roughness, concavity)


def host_cases(data: Path) -> Iterator[PackCase]:
    """Lungs with context on all sides, from the LIDC-IDRI scans and crops; the mask is empty."""
    for path in sorted((data / "chest_ct").glob("LIDC-IDRI-*.nii.gz")):
        if "_lungs" in path.name or "_nodule" in path.name:
            continue
        volume = read_volume(path)
        turned = Orientation.of(volume.affine)
        yield _host(path.name, turned.view(volume.array), turned.spacing_mm(volume.spacing_mm))
    for path in sorted((data / "lidc_crops").glob("*.npz")):
        crop = np.load(path)
        spacing = np.asarray(crop["spacing_zyx"], dtype=np.float64)
        if np.isfinite(spacing).all():
            yield _host(path.name, crop["image"], spacing)


def _host(name: str, view: np.ndarray, spacing_mm: np.ndarray) -> PackCase:
    hu = isotropic(view, spacing_mm)
    empty = np.zeros(hu.shape, np.uint8)
    return PackCase(name, name[:14], round_hu(hu), empty, np.full(len(ATTRIBUTES), np.nan, np.float32))


def on_grid(ct: Volume, mask: Volume) -> tuple[np.ndarray, np.ndarray]:
    """HU and coverage 0..1 of the mask, both (Z, Y, X) on the model's spacing."""
    turned = Orientation.of(ct.affine)
    spacing = turned.spacing_mm(ct.spacing_mm)
    coverage = isotropic(turned.view(mask.array) > 0, spacing, triangle)
    return isotropic(turned.view(ct.array), spacing), coverage


def isotropic(
    view: np.ndarray, spacing_mm: np.ndarray, kernel: Kernel = keys_cubic, onto_mm: float = SPACING_MM
) -> np.ndarray:
    """A whole (Z, Y, X) array on a model's spacing, with the kernels a request uses."""
    extent = (np.array(view.shape) - 1) * spacing_mm
    shape = np.floor(extent / onto_mm + 1e-6).astype(int) + 1
    grid = RoiGrid.around(extent / 2, shape.tolist(), onto_mm)
    return to_roi(view, spacing_mm, grid, kernel)


def lung_centres(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(N, 3) places of lung in a host: where the neighbourhood of a few millimetres is mostly air."""
    places = np.argwhere(gaussian_filter(image.astype(np.float32), 3.0) < -650)
    inside = ((places >= 12) & (places < np.array(image.shape) - 12)).all(axis=1)
    places = places[inside]
    keep = generator.permutation(len(places))[:CENTRES_PER_HOST]
    return places[keep].astype(np.int16)


def write_pack(data: Path, path: Path) -> None:
    """Build the pack from the data folder. Raises FileNotFoundError when the nodules are not there."""
    if not (data / "lidc_nodules" / "attributes.csv").is_file():
        raise FileNotFoundError(
            f"{data} holds no lidc_nodules/attributes.csv: point --data at the training data"
        )
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    nodules = list(nodule_cases(data))
    _store(arrays, "nodule", nodules)
    hosts = list(host_cases(data))
    _store(arrays, "host", hosts)
    for k, host in enumerate(hosts):
        arrays[f"host_centres_{k}"] = lung_centres(host.image, generator)
    np.savez(path, **arrays)


def _store(arrays: dict[str, np.ndarray], kind: str, cases: list[PackCase]) -> None:
    """Flatten cases of different shapes into one array each for images and masks."""
    arrays[f"{kind}_names"] = np.array([case.name for case in cases])
    arrays[f"{kind}_patients"] = np.array([case.patient for case in cases])
    arrays[f"{kind}_shapes"] = np.array([case.image.shape for case in cases])
    arrays[f"{kind}_attributes"] = np.array([case.attributes for case in cases], dtype=np.float32)
    arrays[f"{kind}_images"] = np.concatenate([case.image.ravel() for case in cases])
    if kind == "nodule":
        arrays[f"{kind}_masks"] = np.concatenate([case.mask.ravel() for case in cases])


def _attribute_rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def prepare_pack(run: Run) -> Path:
    """Nodules and lungs, resampled, in one file."""
    return make_once(run.out / "pack.npz", partial(write_pack, run.data))
