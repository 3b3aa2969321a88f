"""The training pack of soft tissue: CTs of the body and tumours on the model's grid, in one file.

Arrays are (z, y, x). A host has its tissues as labels, places to put a lesion at, and pieces of its grain.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from lesionbrush.core.hu import round_hu
from lesionbrush.core.roi import Orientation, triangle
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.pack import isotropic
from lesionbrush.systems.lesion_inpainting.soft_tissue.split import HELD_OUT_ABDOMENS, HELD_OUT_SARCOMAS
from lesionbrush.training.runs import make_once
from lesionbrush.training.trainings import Run

SPACING_MM = 1.5
TISSUES = ("unknown", "liver", "spleen", "kidney", "organ", "muscle", "fat")
"""A host's labels are places in this list."""
AMOS: Mapping[int, str] = {1: "spleen", 2: "kidney", 3: "kidney", 6: "liver"}
AMOS_OTHER = (4, 5, 7, 10, 13)
ABDOMENS: Mapping[str, tuple[int, ...]] = {
    "CRLM-CT-1004": (),
    "CRLM-CT-1006": (),
    "TCGA-09-2043": (2, 3, 6),
}
"""Which of their labels count, where the rest of the CT is unknown; empty: all of it is known."""
CHESTS = ("R01-001", "C3N-00249")
METASTASES = Path(__file__).with_name("CRLM-CT-1006_metastases.nii.gz")
"""Outlined by us, by threshold and eye. Labels 1 and 2 are metastases, 3 a small focus of unknown nature."""
MUSCLE_HU, FAT_HU = (20.0, 90.0), (-130.0, -60.0)
CENTRES_PER_TISSUE, EDGE_VOXELS, NEAR_TUMOUR_MM = 6000, 8, 8.0
GRAIN_SIDE, GRAINS = 16, 96
"""Voxels a side of a piece of even tissue, and how many of a host are looked at."""
GRAIN_FROM_VOXELS = 4.0


@dataclass(frozen=True)
class SoftHost:
    """hu: int16; tissue: uint8; known: bool, where there is truth; centres: (N, 3) int16 with their tissue
    (N,); grain: (16, 16, 16) float32, how the noise of even tissue goes together with itself so many voxels
    away (autocovariance, HU squared, no shift first).
    """

    name: str
    hu: np.ndarray
    tissue: np.ndarray
    known: np.ndarray
    centres: np.ndarray
    centre_tissue: np.ndarray
    grain: np.ndarray


@dataclass(frozen=True)
class SoftTumour:
    """A real tumour in its own CT. mask: coverage 0..255."""

    name: str
    hu: np.ndarray
    mask: np.ndarray


def write_pack(data: Path, path: Path) -> None:
    """FileNotFoundError when the sarcomas or the abdomens are not there."""
    for needed in ("sarcoma_ct/index.csv", "abdomen_ct"):
        if not (data / needed).exists():
            raise FileNotFoundError(f"{data} holds no {needed}: point --data at the training data")
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    hosts = tqdm(read_hosts(data, generator), desc="hosts", unit="CT")
    arrays["host_names"] = np.array([_store(arrays, f"host_{k}", host) for k, host in enumerate(hosts)])
    tumours = list(read_tumours(data))
    arrays["tumour_names"] = np.array([_store(arrays, f"tumour_{k}", t) for k, t in enumerate(tumours)])
    np.savez(path, **arrays)


def _store(arrays: dict[str, np.ndarray], key: str, case: SoftHost | SoftTumour) -> str:
    parts = {name: value for name, value in vars(case).items() if name != "name"}
    arrays.update({f"{key}_{name}": value for name, value in parts.items()})
    return case.name


def is_held_out(name: str) -> bool:
    """Whether a case is of the held-out side: `held out` stands in the pack's own names of sarcomas."""
    return name in HELD_OUT_ABDOMENS or name.endswith("(held out)")


def sarcoma_names(data: Path) -> list[str]:
    """In the order of the index; those held out say so."""
    with (data / "sarcoma_ct" / "index.csv").open(newline="", encoding="utf-8") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    return [f"{n} (held out)" if k >= len(names) - HELD_OUT_SARCOMAS else n for k, n in enumerate(names)]


def read_tumours(data: Path) -> Iterator[SoftTumour]:
    """The sarcomas, and the two metastases of CRLM-CT-1006."""
    for name in sarcoma_names(data):
        hu, mask = _sarcoma(data, name)
        yield SoftTumour(name, hu, mask)
    hu, spacing, labels = _read(data / "abdomen_ct" / "CRLM-CT-1006.nii.gz", METASTASES)
    for label in (1, 2):
        mask = _coverage(labels == label, spacing)
        places = np.argwhere(mask > 0)
        low = np.maximum(places.min(axis=0) - 24, 0)
        box = tuple(slice(a, b) for a, b in zip(low, places.max(axis=0) + 25, strict=True))
        yield SoftTumour(f"CRLM-CT-1006 {label}", hu[box], mask[box])


def read_hosts(data: Path, rng: np.random.Generator) -> Iterator[SoftHost]:
    """Every CT in which lesions may be put, or healthy tissue learned."""
    for name, labels in ABDOMENS.items():
        path = data / "abdomen_ct" / f"{name}.nii.gz"
        hu, spacing, organs = _read(path, path.with_name(f"{name}_organs.nii.gz"))
        tissue = _tissues(hu, organs, spacing)
        known = np.ones(hu.shape, bool)
        if labels:
            known = _coverage(np.isin(organs, labels), spacing) > 127
        if name == "CRLM-CT-1006":
            known &= ~_near(_coverage(_read(path, METASTASES)[2] > 0, spacing) > 127)
        yield _host(name, hu, tissue, known, rng)
    for name in CHESTS:
        hu, spacing, _ = _read(data / "chest_ct" / f"{name}.nii.gz", None)
        yield _host(name, hu, _tissues(hu, None, spacing), np.ones(hu.shape, bool), rng)
    for name in sarcoma_names(data):
        hu, mask = _sarcoma(data, name)
        known = ~_near(mask > 0)
        yield _host(name, hu, _tissues(hu, None, np.ones(3)), known, rng)


def _sarcoma(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    stem = data / "sarcoma_ct" / name.split(" ", maxsplit=1)[0]
    hu, spacing, gtv = _read(Path(f"{stem}_ct.nii.gz"), Path(f"{stem}_gtv.nii.gz"))
    return hu, _coverage(gtv > 0, spacing)


def _read(path: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16 HU on the model's grid; and, on the CT's own grid, its spacing (3,) and labels, as a view."""
    volume = read_volume(path)
    turned = Orientation.of(volume.affine)
    spacing = turned.spacing_mm(volume.spacing_mm)
    hu = round_hu(isotropic(turned.view(volume.array), spacing, onto_mm=SPACING_MM))
    stored = np.zeros(volume.array.shape, np.uint8) if labels is None else read_volume(labels).array
    return hu, spacing, turned.view(stored)


def _coverage(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """uint8 0..255 on the model's grid of a mask on the CT's own."""
    covered = isotropic(mask, spacing_mm, triangle, onto_mm=SPACING_MM)
    return np.clip(covered * 255, 0, 255).round().astype(np.uint8)


def _near(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return mask
    near: np.ndarray = ndimage.distance_transform_edt(~mask, sampling=SPACING_MM) <= NEAR_TUMOUR_MM
    return near


def _tissues(hu: np.ndarray, organs: np.ndarray | None, spacing_mm: np.ndarray) -> np.ndarray:
    """uint8 (Z, Y, X): the organs of AMOS codes, and muscle and fat by their HU."""
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 1.0)
    tissue = np.zeros(hu.shape, np.uint8)
    for name, (low, high) in {"muscle": MUSCLE_HU, "fat": FAT_HU}.items():
        tissue[(smooth >= low) & (smooth <= high)] = TISSUES.index(name)
    if organs is None:
        return tissue
    named = {code: TISSUES.index(name) for code, name in AMOS.items()}
    named |= dict.fromkeys(AMOS_OTHER, TISSUES.index("organ"))
    for code, place in named.items():
        tissue[_coverage(organs == code, spacing_mm) > 127] = place
    return tissue


def _host(
    name: str, hu: np.ndarray, tissue: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> SoftHost:
    tissue = np.where(known, tissue, 0).astype(np.uint8)
    found, kinds = [], []
    for place in range(1, len(TISSUES)):
        there = ndimage.binary_erosion(tissue == place, iterations=2)
        centres = np.argwhere(_off_edge(there))
        centres = centres[rng.permutation(len(centres))[:CENTRES_PER_TISSUE]]
        found.append(centres)
        kinds.append(np.full(len(centres), place, np.uint8))
    centres = np.concatenate(found).astype(np.int16)
    grain = _grain(hu, tissue, rng)
    return SoftHost(name, hu, tissue, known, centres, np.concatenate(kinds), grain)


def _off_edge(there: np.ndarray) -> np.ndarray:
    inner = np.zeros_like(there)
    inner[(slice(EDGE_VOXELS, -EDGE_VOXELS),) * 3] = True
    return there & inner


def _grain(hu: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Autocovariance of the noise in the evenest tissue of a host, what is coarse taken off.

    The median over the pieces passes over vessels; of an exponential distribution, as the power of noise is,
    it is log 2 of the mean.
    """
    coarse = ndimage.gaussian_filter(hu.astype(np.float32), GRAIN_FROM_VOXELS)
    noise, size = hu - coarse, GRAIN_SIDE
    soft = (tissue > 0) & (tissue != TISSUES.index("fat"))
    share = ndimage.uniform_filter(soft.astype(np.float32), size)
    spread = ndimage.gaussian_filter(np.abs(coarse - ndimage.uniform_filter(coarse, size)), 3)
    spread += ndimage.uniform_filter(noise**2, size) ** 0.5
    half = size // 2
    inner = np.zeros(hu.shape, bool)
    inner[tuple(slice(half, max(n - half, half)) for n in hu.shape)] = True
    places = np.argwhere(inner & (share > min(0.9, float(np.quantile(share[inner], 0.98)))))
    spreads = spread[tuple(places.T)]
    even = places[spreads <= np.quantile(spreads, 0.1)]
    chosen = even[rng.permutation(len(even))[:GRAINS]]
    pieces = np.stack([noise[tuple(slice(p - half, p + half) for p in place)] for place in chosen])
    power = np.median(np.abs(np.fft.fftn(pieces, axes=(1, 2, 3))) ** 2, axis=0) / np.log(2)
    return np.fft.ifftn(power).real.astype(np.float32) / size**3


def prepare_pack(run: Run) -> Path:
    """Bodies and tumours, resampled, in one file."""
    return make_once(run.out / "pack.npz", partial(write_pack, run.data))
