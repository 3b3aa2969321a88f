"""The training pack of Palette: CTs with what is known of them, in one file. The trainer reads nothing else.

Arrays are (Z, Y, X) views of a CT, axes to superior, anterior, right, on its own voxels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lesionbrush.core.roi import Orientation
from lesionbrush.files.io import read_volume
from lesionbrush.systems.palette.fills import fill_number
from lesionbrush.training.runs import make_once
from lesionbrush.training.trainings import Run

UNSURE = 255
"""Labelled as no class of ours: it may be a hole whose class is open, and is nowhere healthy."""
AMOS = {
    1: fill_number("spleen"),
    2: fill_number("kidney"),
    3: fill_number("kidney"),
    4: fill_number("gallbladder"),
    5: UNSURE,
    6: fill_number("liver"),
    7: fill_number("stomach"),
    10: fill_number("pancreas"),
    13: UNSURE,
}
"""Labels of organs in AMOS codes: 5 and 13, esophagus and duodenum, are rough and no class of ours."""


@dataclass(frozen=True)
class SourceCT:
    """A CT in the data folder. labels: its file; codes: what its labels are here; others are left out.

    whole: whether what is labelled as nothing is known to be nothing of ours. held_out: it is only validated
    on. trusted: slices (of the third stored axis) whose labels are right; doubtful: those in which the liver
    has metastases without an outline.
    """

    name: str
    image: Path
    labels: Path
    codes: Mapping[int, int]
    whole: bool = True
    held_out: bool = False
    trusted: range | None = None
    doubtful: range = range(0)


def list_sources(data: Path) -> list[SourceCT]:
    """All that there is in a folder of data, held out by name. FileNotFoundError without the sarcomas."""
    abdomen, chest = data / "abdomen_ct", data / "chest_ct"
    found = [
        _abdomen(abdomen, "CRLM-CT-1006", doubtful=range(12, 23)),
        _abdomen(
            abdomen,
            "TCGA-09-2043",
            codes={k: AMOS[k] for k in (2, 3, 6)},
            whole=False,
            trusted=range(80, 147),
        ),
        _abdomen(abdomen, "CRLM-CT-1004", held_out=True),
        _chest(chest, "R01-001"),
        _chest(chest, "C3N-00249"),
        _chest(chest, "LIDC-IDRI-0314", held_out=True),
        *_sarcomas(data / "sarcoma_ct"),
    ]
    return [one for one in found if one.image.is_file()]


def _abdomen(folder: Path, name: str, codes: Mapping[int, int] = AMOS, **more: Any) -> SourceCT:
    return SourceCT(name, *_pair(folder, name, "", "_organs"), codes, **more)


def _chest(folder: Path, name: str, *, held_out: bool = False) -> SourceCT:
    lungs = dict.fromkeys((1, 2), fill_number("lung"))
    return SourceCT(name, *_pair(folder, name, "", "_lungs"), lungs, held_out=held_out)


def _pair(folder: Path, name: str, image: str, labels: str) -> tuple[Path, Path]:
    return folder / f"{name}{image}.nii.gz", folder / f"{name}{labels}.nii.gz"


HELD_OUT_SARCOMAS = 8


def _sarcomas(folder: Path) -> Iterator[SourceCT]:
    index = folder / "index.csv"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} holds no index.csv: point --data at the training data")
    with index.open(newline="", encoding="utf-8") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    for name in names:
        held_out = name in names[-HELD_OUT_SARCOMAS:]
        tumour = {1: fill_number("tumour")}
        yield SourceCT(name, *_pair(folder, name, "_ct", "_gtv"), tumour, held_out=held_out)


def write_pack(data: Path, path: Path) -> None:
    """Build the pack from the data folder."""
    arrays: dict[str, np.ndarray] = {}
    found = list_sources(data)
    for number, source in enumerate(found):
        hu, labels, spacing_mm = read_source(source)
        arrays[f"hu_{number}"], arrays[f"labels_{number}"] = hu, labels
        arrays[f"spacing_mm_{number}"] = spacing_mm
    arrays["names"] = np.array([one.name for one in found])
    arrays["held_out"] = np.array([one.held_out for one in found])
    arrays["whole"] = np.array([one.whole for one in found])
    np.savez_compressed(path, **arrays)


def read_source(source: SourceCT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU (int16), labels (uint8: numbers of fills, `UNSURE`, 0) and (3,) mm, of the view."""
    image, labels = read_volume(source.image), read_volume(source.labels)
    ours = np.zeros(labels.shape, np.uint8)
    for theirs, number in source.codes.items():
        ours[labels.array == theirs] = number
    slices = np.arange(ours.shape[2])
    if source.trusted is not None:
        ours[:, :, ~np.isin(slices, source.trusted)] = 0
    unclear = (ours == fill_number("liver")) & np.isin(slices, source.doubtful)
    ours[unclear] = UNSURE
    turned = Orientation.of(image.affine)
    views = (np.ascontiguousarray(turned.view(array)) for array in (image.array, ours))
    hu, found = views
    return hu.astype(np.int16), found, turned.spacing_mm(image.spacing_mm)


@dataclass(frozen=True, eq=False)
class KnownCT:
    """One CT of the pack. hu, labels: (Z, Y, X); spacing_mm: (3,); whole: see `SourceCT`."""

    name: str
    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: np.ndarray
    whole: bool


def load_side(path: Path, *, validation: bool) -> list[KnownCT]:
    """One side of the split by patient."""
    with np.load(path) as file:
        return [
            KnownCT(
                str(file["names"][k]),
                file[f"hu_{k}"],
                file[f"labels_{k}"],
                file[f"spacing_mm_{k}"],
                bool(file["whole"][k]),
            )
            for k in np.flatnonzero(file["held_out"] == validation)
        ]


def prepare_pack(run: Run) -> Path:
    """Abdomens, chests and sarcomas with their labels, in one file."""
    return make_once(run.out / "pack.npz", partial(write_pack, run.data))
