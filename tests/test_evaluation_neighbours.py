"""The difference of neighbouring slices: its closed form, and real, made and made apart of a nodule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from evaluation_kit import save_nodules
from lesionbrush.core.registry import METADATA
from lesionbrush.systems.mddpm import evaluation as measured
from lesionbrush.systems.mddpm.evaluation import Neighbours, SlicesApart, difference_hu, neighbours
from lesionbrush.systems.mddpm.slices import MDDPM
from lesionbrush.training.split import is_validation
from mddpm_kit import guided_model, install_guided

pytest_plugins = "cli_fixtures"

HELD_OUT = [p for p in (f"LIDC-IDRI-{number:04d}" for number in range(1, 60)) if is_validation(p)][:2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save_nodules(folder, HELD_OUT, np.random.default_rng(2))
    return folder


def test_the_difference_is_that_of_pairs_inside() -> None:
    hu = np.zeros((4, 2, 2), np.float32)
    hu[1], hu[2], hu[3] = 10, 40, 1000
    inside = np.zeros(hu.shape, bool)
    inside[:3, 0] = True
    assert difference_hu(hu, inside) == pytest.approx((10 + 30) / 2)
    assert np.isnan(difference_hu(hu, inside & (np.arange(4) == 1)[:, None, None]))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "STEPS", 2)


@pytest.mark.usefixtures("few_steps")
def test_slices_that_share_noise_agree_more_than_slices_apart(data: Path) -> None:
    model = guided_model("mddpm")
    assert isinstance(model, MDDPM)
    found = neighbours(data, model, 2)
    assert found.neighbour_difference_hu < found.neighbour_difference_independent_hu
    assert found.neighbour_difference_real_hu > 0
    assert SlicesApart(model.card, model.network, model.device).noise_of([], 3).smoothness == 0


def test_the_lines_name_all_three() -> None:
    text = "\n".join(Neighbours(6, 85.4, 87.2, 143.2).lines())
    assert all(part in text for part in ("6 held-out", "85 HU", "87 HU", "143 HU"))


@pytest.mark.usefixtures("few_steps")
def test_the_command_prints_and_updates_the_card(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install_guided(tmp_path / "models", "mddpm")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(folder.parent))
    options = ("--data", data, "--out", tmp_path, "--cases", 1, "--update-card")
    done = command("evaluate", "mddpm", *options)
    assert done.code == 0, done.err
    assert "slices 1 mm apart" in done.out
    figures = json.loads((folder / METADATA).read_text())["lesionbrush"]["figures"]
    assert figures["neighbour_difference_real_hu"] > 0
    assert "nodules" not in figures
