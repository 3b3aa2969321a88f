"""The training pack of semantic CT: abdomens and chests with their classes, in one file.

Arrays are (Z, Y, X) views of a CT, axes to superior, anterior, right, on its own voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lesionbrush.core.roi import Orientation
from lesionbrush.files.io import read_volume
from lesionbrush.systems.semantic.classes import OUTSIDE, UNKNOWN
from lesionbrush.systems.semantic.layouts import complete
from lesionbrush.training.runs import make_once
from lesionbrush.training.trainings import Run


@dataclass(frozen=True)
class LabelledCT:
    """A CT in the data folder, with labels in AMOS codes or none at all.

    codes: labels that are right; None for all. trusted: slices (of the third stored axis, counted up) whose
    labels are right: beyond them nothing is known. scores_unknown: whether what is unknown is trained on as
    a slice without a layout, or not at all. share: how often it is drawn, beside the others.
    """

    name: str
    folder: str
    share: float
    codes: tuple[int, ...] | None = None
    trusted: range | None = None
    scores_unknown: bool = True
    held_out: bool = False

    def image(self, data: Path) -> Path:
        return data / self.folder / f"{self.name}.nii.gz"

    def labels(self, data: Path) -> Path:
        return data / self.folder / f"{self.name}_organs.nii.gz"


LABELLED = (
    LabelledCT("CRLM-CT-1006", "abdomen_ct", 6.0),
    LabelledCT("TCGA-09-2043", "abdomen_ct", 2.0, (2, 3, 6), range(80, 147), scores_unknown=False),
    LabelledCT("R01-001", "chest_ct", 1.0, (), range(54, 1000)),
    LabelledCT("C3N-00249", "chest_ct", 1.0, (), range(52, 1000)),
    LabelledCT("CRLM-CT-1004", "abdomen_ct", 1.0, held_out=True),
)
"""Chests have no labels: above the liver, which ends there by eye, they are body; below, nothing is known."""


def write_pack(data: Path, path: Path) -> None:
    """Build the pack from the data folder. FileNotFoundError without the abdomens."""
    found = [one for one in LABELLED if one.image(data).is_file()]
    if not any(one.codes is None for one in found):
        raise FileNotFoundError(f"{data} holds no abdomen_ct: point --data at the training data")
    arrays: dict[str, np.ndarray] = {}
    for number, source in enumerate(found):
        hu, labels, spacing_mm = read_labelled(source, data)
        arrays[f"hu_{number}"], arrays[f"labels_{number}"] = hu, labels
        arrays[f"spacing_mm_{number}"] = spacing_mm
    arrays["names"] = np.array([one.name for one in found])
    arrays["held_out"] = np.array([one.held_out for one in found])
    arrays["scores_unknown"] = np.array([one.scores_unknown for one in found])
    arrays["shares"] = np.array([one.share for one in found])
    np.savez_compressed(path, **arrays)


def read_labelled(source: LabelledCT, data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU (int16), classes (uint8, with tissues, body and `UNKNOWN`) and (3,) mm, of the view."""
    image = read_volume(source.image(data))
    turned = Orientation.of(image.affine)
    hu, spacing_mm = turned.view(image.array), turned.spacing_mm(image.spacing_mm)
    organs = np.zeros(hu.shape, np.uint8)
    if source.codes != ():
        theirs = turned.view(read_volume(source.labels(data)).array)
        right = theirs > 0 if source.codes is None else np.isin(theirs, source.codes)
        organs[right] = theirs[right]
    labels = complete(organs, hu, spacing_mm, tissues=True)
    if not source.scores_unknown:  # what has no label may be an organ
        labels[(organs == 0) & (labels != OUTSIDE)] = UNKNOWN
        labels[labels == OUTSIDE] = UNKNOWN
    if source.trusted is not None:
        labels[~np.isin(np.arange(len(labels)), source.trusted)] = UNKNOWN
    return np.ascontiguousarray(hu).astype(np.int16), labels, spacing_mm


@dataclass(frozen=True, eq=False)
class ClassedCT:
    """One CT of the pack. hu, labels: (Z, Y, X); spacing_mm: (3,); scores_unknown, share: as its source."""

    name: str
    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: np.ndarray
    scores_unknown: bool
    share: float


def load_classed(path: Path, *, validation: bool) -> list[ClassedCT]:
    """One side of the split by patient."""
    with np.load(path) as file:
        return [
            ClassedCT(
                str(file["names"][k]),
                file[f"hu_{k}"],
                file[f"labels_{k}"],
                file[f"spacing_mm_{k}"],
                bool(file["scores_unknown"][k]),
                float(file["shares"][k]),
            )
            for k in np.flatnonzero(file["held_out"] == validation)
        ]


def prepare_classed(run: Run) -> Path:
    """Abdomens and chests with their classes, in one file."""
    return make_once(run.out / "pack.npz", partial(write_pack, run.data))
