"""Fixtures for published weights. Load with `pytest_plugins = "adding_fixtures"`."""

from __future__ import annotations

from pathlib import Path

import pytest
from adding_kit import SMALL
from lesionbrush.systems.lung_ddpm import published as published_weights
from published_kit import TINY, checkpoint, random_tensors, save


@pytest.fixture(autouse=True)
def tiny_lung_ddpm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the catalogue calls lung_ddpm is a tiny network of the same system."""
    monkeypatch.setattr(published_weights, "LUNG_DDPM", SMALL)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(checkpoint(random_tensors(TINY)), tmp_path_factory.mktemp("published") / "tiny.pt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"
