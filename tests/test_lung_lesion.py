"""The model that ships: its weights are the card's, and what it paints is a lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.core.model import Model
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.card_figures import evaluate, read_held_out
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.phantom.chest import chest_phantom, propose_lesion
from lesionbrush.systems import load_model, parse_request
from lesionbrush.training.split import is_validation
from scipy.ndimage import binary_erosion

STEPS = 6


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_model("lung_lesion"), "cpu")


@pytest.fixture(scope="module")
def painted() -> tuple[Volume, Volume]:
    """A phantom and a mask of 14 mm in its lung."""
    phantom = chest_phantom(seed=1, shape=(160, 160, 64), spacing_mm=(2.0, 2.0, 4.0))
    return phantom.volume, propose_lesion(phantom.volume, phantom.lungs, 14.0, np.random.default_rng(2))


def made(model: Model, painted: tuple[Volume, Volume], **attributes: object) -> Synthesis:
    return synthesize(*painted, parse_request({"steps": STEPS, "attributes": attributes}), model)[0]


def core_hu(synthesis: Synthesis, mask: Volume) -> float:
    """Mean HU well inside the mask, where no lung is mixed in."""
    core = binary_erosion(mask.array > 0, iterations=1)
    return float(synthesis.volume().array[core].mean())


def test_the_weights_are_the_ones_the_card_names_and_small_enough_for_git() -> None:
    installed = find_model("lung_lesion")
    verify_weights(installed)
    assert installed.weights.stat().st_size < 40_000_000
    assert (installed.folder / "LICENSE").is_file()
    assert (installed.folder / "docs" / "README.md").is_file()


def test_a_solid_lesion_is_soft_tissue_and_nothing_else_changes(
    model: Model, painted: tuple[Volume, Volume]
) -> None:
    reference, mask = painted
    synthesis = made(model, painted, texture="solid")
    assert -150 < core_hu(synthesis, mask) < 200
    outside = ~edit_region(mask.array > 0, reference.spacing_mm, 3.0)
    assert np.array_equal(synthesis.volume().array[outside], reference.array[outside])


def test_texture_steers_density(model: Model, painted: tuple[Volume, Volume]) -> None:
    _, mask = painted
    solid, glass = (core_hu(made(model, painted, texture=t), mask) for t in ("solid", "ground_glass"))
    assert -800 < glass < solid - 150


def test_no_lesion_is_lung(model: Model, painted: tuple[Volume, Volume]) -> None:
    _, mask = painted
    assert core_hu(made(model, painted, lesion="none"), mask) < -700


@pytest.mark.timeout(900)
def test_held_out_patients_are_well_met(data_dir: Path, tmp_path: Path) -> None:
    """A few of the held-out nodules; the card has the figures over all of them."""
    assert all(is_validation(row["patient_id"]) for row in read_held_out(data_dir))
    maker = Maker(load_model(find_model("lung_lesion")), tmp_path / "cache")
    figures = evaluate(lambda *asked: maker.make(*asked).arrays[0], data_dir, tmp_path, cases=3).figures
    assert figures.mean_hu_error_with_measured_hu < 100
    assert figures.seam_with_readers < 1.3
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
