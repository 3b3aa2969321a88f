"""A system from elsewhere, in a folder that only the environment names: by commands, HTTP and form."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import Command
from fastapi.testclient import TestClient
from jobs_fixtures import V1, done
from lesionbrush.core.registry import METADATA, WEIGHTS
from lesionbrush.errors import WeightsError
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import read_sidecar
from lesionbrush.server.http import routes
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.systems import VARIABLE, find_system, list_systems, request_of
from safetensors.torch import save_file
from scipy.ndimage import distance_transform_edt
from server_kit import STORED

pytest_plugins = ("server_fixtures", "jobs_fixtures", "cli_fixtures")
TOY = Path(__file__).with_name("toy")


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the toy's models; its code lies in a folder of its own that the environment names."""
    root = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(TOY, root / "systems", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(VARIABLE, str(root / "systems"))
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(root / "models"))
        list_systems()
        make_model(root / "models" / "shady")
        yield root / "models"
    for name in [name for name in sys.modules if name.startswith("lesionbrush_system_shades")]:
        del sys.modules[name]


def make_model(folder: Path) -> None:
    from lesionbrush_system_shades.model import SliceNet

    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    generator, network = torch.Generator().manual_seed(1), SliceNet(4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    save_file(network.state_dict(), folder / WEIGHTS)
    card = {
        "name": "shady",
        "system": "shades",
        "title": "Shady",
        "makes": "A shaded lesion.",
        "window_hu": (-1000, 1000),
        "spacing_mm": 1.0,
        "roi_voxels": (96,),
        "roi_multiple": 8,
        "section": {"width": 4},
        "weights_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "weights_license": "Apache-2.0",
        "attribution": "nobody",
        "trained": {},
        "training_data": "none",
        "split": "none",
        "figures": {},
        "limits": ("for tests",),
    }
    (folder / METADATA).write_text(json.dumps({"lesionbrush": card}), encoding="utf-8")


@pytest.fixture
def run(shades: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command that finds the toy's model."""
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(shades))
    return command


def test_it_synthesizes_by_a_command(run: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out.nii.gz", tmp_path / "out.png"
    wish = ("--param", "shade_hu=300", "--param", "margin_mm=2")
    assert run("synthesize", ct, mask, "-o", out, "--montage", picture, "--model", "shady", *wish).code == 0
    before, after, lesion = (read_volume(path) for path in (ct, out, mask))
    away_mm = distance_transform_edt(lesion.array == 0, sampling=before.spacing_mm)
    assert np.array_equal(before.array[away_mm > 2], after.array[away_mm > 2])
    inside = lesion.array > 0
    assert after.array[inside].mean() > before.array[inside].mean() + 300
    assert picture.is_file()
    record = read_sidecar(out)
    assert request_of(record) == find_system("shades").request(shade_hu=300, margin_mm=2)


def test_what_it_takes_is_an_option(run: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
    reference = read_volume(ct)
    dark = tmp_path / "map.nii.gz"
    write_volume(reference.with_array(np.full(reference.shape, -700, np.int16)), dark)
    out = tmp_path / "out.nii.gz"
    outcome = run("synthesize", ct, mask, "-o", out, "--model", "shady", "--shade-map", dark)
    assert "The map decides the shade." in outcome.err
    assert read_volume(out).array[read_volume(mask).array > 0].mean() < -500
    assert list(read_sidecar(out).inputs_sha256) == ["shade_map"]
    elsewhere = tmp_path / "elsewhere.nii.gz"
    write_volume(reference.crop((slice(0, 9), slice(0, 9), slice(0, 9))), elsewhere)
    refused = run("synthesize", ct, mask, "-o", out, "--model", "shady", "--shade-map", elsewhere)
    assert refused.code == 2
    assert "--shade-map: " in refused.one_line


def test_its_parameters_are_shown(run: Command) -> None:
    said = run("models", "show", "shady").out
    assert "shade_hu=40" in said
    assert "what the lesion is shaded towards" in said


def test_it_is_a_job_and_a_form(
    shades: Path, ct: Path, mask: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    studies = tmp_path_factory.mktemp("toy_studies")
    write_volume(read_volume(ct), studies / f"{STORED}.nii.gz")
    service = Service(shades, studies)
    front = TestClient(routes.front_app(service, Studies(str(studies))), raise_server_exceptions=False)
    facts = front.get(f"{V1}/").json()["models"]["shady"]
    assert facts["schema"]["properties"]["shade_hu"]["default"] == 40
    assert [one["name"] for one in facts["card"]["takes"]] == ["shade_map"]
    sent = {"label": ("mask.nii.gz", mask.read_bytes()), "shade_map": ("map.nii.gz", ct.read_bytes())}
    answer = front.post(f"{V1}/jobs", params={"model": "shady", "image": STORED}, files=sent)
    record = front.get(f"{done(front, service, answer)}/variants/1").json()
    assert record["request"]["system"] == "shades"
    assert list(record["inputs_sha256"]) == ["shade_map"]
    service.jobs.close(finish_running=False)


def test_it_is_trained_by_a_command_and_what_was_learned_is_a_model(
    run: Command, shades: Path, ct: Path, mask: Path, tmp_path: Path
) -> None:
    data, out, folder = tmp_path / "data", tmp_path / "run", shades / "learned"
    data.mkdir()
    shutil.copy(ct, data / "a.nii.gz")
    assert "one is held out" in run("train", "shades", "--data", data, "--out", out).one_line
    shutil.copy(ct, data / "b.nii.gz")
    wish = ("--steps", 40, "--learning-rate", 0.02)
    outcome = run("train", "shades", "--data", data, "--out", out, *wish)
    assert outcome.code == 0, outcome.err
    history = json.loads((out / "history.json").read_text())
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    shutil.copytree(shades / "shady", folder)
    card = json.loads((folder / METADATA).read_text())
    card["lesionbrush"]["name"] = "learned"
    (folder / METADATA).write_text(json.dumps(card))
    outcome = run("train", "shades", "--out", out, "--export", folder)
    assert outcome.code == 0, outcome.err
    assert run("synthesize", ct, mask, "-o", tmp_path / "o.nii.gz", "--model", "learned").code == 0


def test_it_is_not_there_unless_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(WeightsError, match="'shades' is not known"):
        find_system("shades")
