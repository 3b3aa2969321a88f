"""What is measured of Med-DDPM: three ways to hold what is known, beside the model of soft tissue."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lesionbrush.evaluation import holding
from lesionbrush.evaluation.holding import RIVAL, evaluate_known
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from med_ddpm_kit import med_model
from soft_tissue_kit import soft_model, write_soft_data

UNTOLD: dict[str, Any] = {"network": {"in_channels": 3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_soft_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "find_model", lambda name: name)
    monkeypatch.setattr(holding, "load_model", lambda name: soft_model())
    quick = partial(MedDDPMRequest, steps=5)
    monkeypatch.setattr(holding, "MedDDPMRequest", quick)


def test_figures_of_every_way_and_pictures(folder: Path, tmp_path: Path, capsys) -> None:
    figures = evaluate_known(med_model(), folder, 2, tmp_path)
    for title in ("remade", "healed"):
        assert (tmp_path / f"{title}.png").is_file()
        for way in ("", "_blended", "_clean", f"_{RIVAL}"):
            assert figures[f"{title}{way}_hu_error"] >= 0
    assert figures["remade_hu_error"] != figures["remade_clean_hu_error"]
    assert "remade, N = 2, 2 patients" in capsys.readouterr().out


def test_a_network_that_knows_no_classes_is_not_asked_to_heal(folder: Path, tmp_path: Path) -> None:
    figures = evaluate_known(med_model(**UNTOLD), folder, 2, tmp_path)
    assert not [name for name in figures if name.startswith("healed")]
    assert not (tmp_path / "healed.png").exists()
