"""`train` and `evaluate` on a made-up data folder with a few nodules and two lungs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import Command
from lesionbrush.core.registry import METADATA, WEIGHTS, find_model, load_card
from lesionbrush.core.volume import Volume
from lesionbrush.errors import WeightsError
from lesionbrush.files.io import write_volume
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.training import LesionTraining
from lesionbrush.training.export import export, update_card
from lesionbrush.training.split import is_validation
from PIL import Image
from safetensors.torch import load_file
from server_kit import make_model

pytest_plugins = "cli_fixtures"

PATIENTS = [f"LIDC-IDRI-{number:04d}" for number in range(1, 40)]
HELD_OUT = [patient for patient in PATIENTS if is_validation(patient)][:2]
SEEN = [patient for patient in PATIENTS if not is_validation(patient)][:3]
NODULE_SHAPE, LUNG_SHAPE = (28, 28, 12), (56, 56, 52)
SCORES = {"Texture": 5, "Margin": 4, "Spiculation": 1, "Lobulation": 2, "Calcification": 6}


def lung(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return np.rint(generator.normal(-850, 30, shape)).astype(np.int16)


def save_nodule(folder: Path, patient: str, generator: np.random.Generator) -> dict[str, object]:
    """A ball of soft tissue in lung, its mask, and the readers' row."""
    name, radius_mm = f"{patient}_R_1.nii.gz", 5
    offsets = np.indices(NODULE_SHAPE).reshape(3, -1).T - np.array(NODULE_SHAPE) / 2
    mask = (np.linalg.norm(offsets, axis=1) < radius_mm).reshape(NODULE_SHAPE)
    hu = np.where(mask, 20, lung(NODULE_SHAPE, generator)).astype(np.int16)
    for kind, array in (("images", hu), ("masks", mask.astype(np.uint8))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, np.eye(4)), folder / kind / name)
    scores = {f"{key}_value": value for key, value in SCORES.items()}
    return {"file": name, "patient_id": patient, "diameter_mm": 2 * radius_mm, **scores}


@pytest.fixture(scope="module")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, generator = tmp_path_factory.mktemp("training_data"), np.random.default_rng(2)
    rows = [save_nodule(data / "lidc_nodules", patient, generator) for patient in (*HELD_OUT, *SEEN)]
    with (data / "lidc_nodules" / "attributes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (data / "chest_ct").mkdir()
    for patient in (HELD_OUT[0], SEEN[0]):
        write_volume(Volume(lung(LUNG_SHAPE, generator), np.eye(4)), data / "chest_ct" / f"{patient}.nii.gz")
    return data


@pytest.fixture
def tiny_training(monkeypatch) -> None:
    """The command's own recipe, but for a tiny network that is validated every other step."""
    network = LesionUNetConfig(len(ATTRIBUTES), channels=(8, 16, 16), blocks=1, head_channels=4)
    fast = {"validate_every": 2, "validation_batches": 1, "validations_per_sheet": 2}
    monkeypatch.setattr(
        LesionTraining, "recipes", {"ours": replace(RECIPES["ours"], network=network, **fast)}
    )


@pytest.mark.usefixtures("tiny_training")
def test_train_go_on_and_export(command: Command, training_data: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "run"
    options = ("tiny", "--data", training_data, "--out", out, "--device", "cpu")
    first = command("train", *options, "--steps", 5)
    assert first.code == 0, first.err
    assert {path.name for path in out.glob("*.png")} == {"samples-000004.png", "samples-000005.png"}
    assert [entry["step"] for entry in json.loads((out / "history.json").read_text())] == [2, 4]
    pack = (out / "pack.npz").stat()
    second = command("train", *options, "--steps", 6, "--workers", 1)
    assert "going on from step 5 of 6" in second.out
    assert (out / "pack.npz").stat() == pack
    assert Image.open(out / "samples-000006.png").height > 200
    folder = make_model(tmp_path / "models")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(folder.parent))
    assert command("train", "tiny", "--out", out, "--export", folder).code == 0
    assert command("models", "verify", "tiny").code == 0
    assert load_card(folder).trained["steps"] == 6


def test_an_export_of_half_the_size_is_the_same_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    weights = load_file(folder / WEIGHTS)
    torch.save({"average": weights, "progress": {"step": 3, "seconds": 1.0}}, tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", folder)
    whole = (folder / WEIGHTS).stat().st_size
    card = export(tmp_path / "checkpoint.pt", folder, half=True)
    assert (folder / WEIGHTS).stat().st_size < 0.7 * whole
    model = load_model(find_model(card.name, tmp_path), "cpu")
    for name, tensor in model.network.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, weights[name], atol=1e-4, rtol=1e-3)


def test_an_export_writes_what_the_system_alone_knows_into_its_section(tmp_path: Path) -> None:
    """Cards had no sections at first; what they left out is there as well."""
    folder = make_model(tmp_path)
    weights = load_file(folder / WEIGHTS)
    state = {"average": weights, "progress": {"step": 9, "seconds": 7200.0}}
    torch.save(state, tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", folder)
    card = json.loads((folder / METADATA).read_text(encoding="utf-8"))["lesionbrush"]
    assert "network" not in card
    assert (card["section"]["network"]["blocks"], card["section"]["timesteps"]) == (1, 1000)
    assert card["trained"] == {"steps": 9, "hours": 2.0}
    update_card(folder, schedule="linear", title="Other")
    assert (load_card(folder).section["schedule"], load_card(folder).title) == ("linear", "Other")


def test_what_no_card_knows_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    before = (folder / METADATA).read_bytes()
    with pytest.raises(WeightsError, match="colour"):
        update_card(folder, colour="red")
    torch.save({"average": {}, "progress": {"step": "none", "seconds": 0.0}}, tmp_path / "checkpoint.pt")
    weights = (folder / WEIGHTS).read_bytes()
    with pytest.raises(ValueError, match="steps"):
        export(tmp_path / "checkpoint.pt", folder)
    assert (folder / METADATA).read_bytes() == before
    assert (folder / WEIGHTS).read_bytes() == weights


@pytest.mark.usefixtures("tiny_training")
def test_no_time_at_all_still_leaves_a_checkpoint(
    command: Command, training_data: Path, tmp_path: Path
) -> None:
    options = ("tiny", "--data", training_data, "--out", tmp_path, "--minutes", 0, "--device", "cpu")
    outcome = command("train", *options)
    assert outcome.code == 0
    assert "step 0 of" in outcome.out
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("tiny",), "--data DIR"),
        (("tiny", "--data", "nowhere"), "nowhere holds no lidc_nodules"),
        (("tiny", "--data", "nowhere", "--steps", "0"), "--steps 0"),
        (("tiny", "--data", "nowhere", "--workers", "-1"), "--workers -1"),
        (("tiny", "--data", "nowhere", "--batch-scale", "0"), "--batch-scale 0"),
        (("tiny", "--export", "nowhere"), "checkpoint.pt"),
        (("tiny", "--data", "nowhere", "--learning-rate", "0"), "--learning-rate 0"),
        (("tiny", "--data", "nowhere", "--recipe", "paper"), "--recipe paper: tiny has the recipes ours"),
        (("mddpm_3d", "--data", "nowhere"), "mddpm_3d: its system has no training"),
        (("tiny", "--data", "nowhere", "--sides", "32"), "unrecognized arguments: --sides"),
        (("med_ddpm_brain", "--data", "nowhere"), "no model or system is called 'med_ddpm_brain'"),
    ],
)
def test_bad_input_is_one_line(command: Command, tmp_path: Path, monkeypatch, options, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("train", *options)
    assert outcome.code == 2
    assert reason in outcome.one_line


def test_a_split_without_held_out_patients_is_refused(
    command: Command, training_data: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("lesionbrush.systems.lesion_inpainting.data.is_validation", lambda patient: False)
    outcome = command("train", "tiny", "--data", training_data, "--out", tmp_path)
    assert outcome.code == 2
    assert "0 held-out nodules" in outcome.err


@pytest.mark.usefixtures("tiny_training")
def test_the_learning_rate_is_the_one_asked_for(
    command: Command, training_data: Path, tmp_path: Path
) -> None:
    options = ("tiny", "--data", training_data, "--out", tmp_path, "--device", "cpu")
    assert command("train", *options, "--steps", 1, "--learning-rate", 3e-5).code == 0
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    first = 3e-5 / RECIPES["ours"].optimiser.warmup_steps
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(first)


def test_evaluate_writes_figures_and_a_sheet(command: Command, training_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    outcome = command("evaluate", "tiny", "--data", training_data, "--out", out)
    assert outcome.code == 0, outcome.err
    assert f"cases: {len(HELD_OUT)}" in outcome.out
    assert json.loads((out / "figures.json").read_text())["figures"]["cases"] == len(HELD_OUT)
    assert (out / "sheet.png").exists()


def test_a_regression_that_cannot_be_fitted_is_refused_before_anything_is_made(
    command: Command, training_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = command("evaluate", "tiny", "--data", training_data, "--out", out, "--regression")
    assert outcome.code == 2
    assert "needs 8 or more" in outcome.err
    assert not (out / "figures.json").exists()


def test_evaluate_refuses_less_than_one_seed(command: Command, training_data: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", "tiny", "--data", training_data, "--out", tmp_path / "out", "--seeds", 0)
    assert outcome.code == 2
    assert "--seeds 0" in outcome.one_line
    assert not (tmp_path / "out").exists()


def test_evaluate_needs_held_out_nodules(command: Command, tmp_path: Path) -> None:
    outcome = command("evaluate", "tiny", "--data", tmp_path, "--out", tmp_path)
    assert outcome.code == 2
    assert "attributes.csv" in outcome.one_line
