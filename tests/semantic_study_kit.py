"""A held-out phantom, tiny networks that were trained on another, and who judges them."""

from __future__ import annotations

import shutil
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.core.registry import ModelCard
from lesionbrush.evaluation.inpainting.reader import ReadCrops
from lesionbrush.evaluation.semantic.moving import ORGAN
from lesionbrush.evaluation.semantic.scores import (
    Scorer,
)
from lesionbrush.evaluation.semantic.slices import (
    Sampling,
    StudySlices,
    cut_slices,
    frame_of,
)
from lesionbrush.systems.semantic.classes import BODY
from lesionbrush.systems.semantic.network import CONDITIONINGS
from lesionbrush.systems.semantic.pack import LABELLED, ClassedCT, read_labelled, write_pack
from lesionbrush.systems.semantic.training import SemanticTraining
from lesionbrush.training.runs import make_once
from lesionbrush.training.trainings import Run
from scipy import ndimage
from semantic_kit import semantic_card, write_semantic_data
from test_semantic_training import QUICK

RECIPE = replace(QUICK, steps=3, validate_every=3, validations_per_sheet=100)
PATIENT = next(one for one in LABELLED if one.held_out)
HOW = Sampling(2, "dpm_solver_pp_2m")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two abdomens, of which one is held out."""
    folder = write_semantic_data(tmp_path_factory.mktemp("data"))
    for name in ("abdomen_ct/TCGA-09-2043", "chest_ct/R01-001"):
        (folder / f"{name}.nii.gz").unlink()
    return folder


@pytest.fixture(scope="module")
def patient(data: Path) -> ClassedCT:
    return ClassedCT(PATIENT.name, *read_labelled(PATIENT, data), scores_unknown=True, share=1.0)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe `ours` is that of a tiny network."""
    monkeypatch.setattr(SemanticTraining, "recipes", {"ours": RECIPE})


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three conditionings, with checkpoints after each of three steps."""
    folder, training = tmp_path_factory.mktemp("runs"), SemanticTraining()
    pack = make_once(folder / "pack.npz", partial(write_pack, data))
    for how in CONDITIONINGS:
        recipe = training.adapt(RECIPE, Namespace(channels=None, sides=None, conditioning=how))
        (folder / how).mkdir()
        shutil.copy(pack, folder / how)
        training.run(recipe, Run(data=data, out=folder / how, device="cpu", snapshots=3))
    return folder


@pytest.fixture
def runs(tiny: None, trained: Path) -> Path:
    return trained


def slices_of(patient: ClassedCT, card: ModelCard | None = None) -> StudySlices:
    frame, pixel_mm = frame_of(patient, card or semantic_card())
    return cut_slices(patient, frame, pixel_mm, np.arange(len(patient.hu)))


class Says:
    """A reader whose features are the mean and the spread of a crop."""

    name, side = "says", 32

    def read(self, crops: list) -> ReadCrops:
        features = np.array([[crop.hu.mean(), crop.hu.std()] for crop in crops], float)
        return ReadCrops(features, np.ones((len(crops), 1)))


def find_liver(hu: np.ndarray) -> np.ndarray:
    """The largest thing as dense as the phantom's liver, and as what `Painter` makes of one."""
    parts, _ = ndimage.label(np.abs(hu - 108) < 18)
    largest = 1 + int(np.bincount(parts.ravel(), minlength=2)[1:].argmax())
    return np.where(parts == largest, ORGAN, BODY).astype(np.uint8)


def scorer(find=find_liver, *, whole: bool = False) -> Scorer:
    return Scorer(Says(), find, whole)
