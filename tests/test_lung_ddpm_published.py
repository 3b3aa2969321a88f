"""From a checkpoint in the published format to voxels: add, list, load, synthesize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adding_kit import SMALL, ignore, order
from core_fixtures import ball, box, make_ct
from lesionbrush.core.inputs import NO_INPUTS, Inputs
from lesionbrush.core.registry import find_model, list_models
from lesionbrush.core.synthesize import synthesize
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.published.adding import add
from lesionbrush.published.cards import card_of
from lesionbrush.published.catalogue import CATALOGUE, find_known
from lesionbrush.systems import load_model, parse_request
from lesionbrush.systems.lung_ddpm import published as published_weights
from lesionbrush.systems.lung_ddpm.model import network_config
from lesionbrush.systems.lung_ddpm.network import LUNG_DDPM, LUNG_DDPM_PLUS
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest, LungDDPMRequest
from lesionbrush.systems.med_unet import MedUNetConfig
from published_kit import TINY, Layout, checkpoint, random_tensors, save

CT = make_ct()
MASK = ball(CT, (20, 18, 15), 5)
WIDE = box(CT, (4, 36), (4, 32), (4, 26))
TINY_WHOLE = Layout(3, 32, (1, 2), 1)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both published models, but for the width of their networks and the side of their cubes."""
    for name in ("WHOLE_SIDE", "CUBE_SIDE"):
        monkeypatch.setattr(published_weights, name, 16)
    tiny = {
        "lung_ddpm": (MedUNetConfig(3, (32, 64), (False, True)), TINY_WHOLE),
        "lung_ddpm_plus": (SMALL, TINY),
    }
    for system, (config, layout) in tiny.items():
        monkeypatch.setattr(published_weights, system.upper(), config)
        file = save(checkpoint(random_tensors(layout)), tmp_path / f"{system}.pt")
        add(order(file, known=find_known(f"{system}_published")), ignore, tmp_path / "models")
    return tmp_path / "models"


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("name", ["lung_ddpm_published", "lung_ddpm_plus_published"])
def test_what_was_added_runs_and_changes_nothing_else(
    root: Path, name: str, as_published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published, but for the number of steps: all 250 take a slow machine many minutes."""
    for kind in (LungDDPMRequest, LungDDPMPlusRequest):
        monkeypatch.setattr(kind, "released", {**kind.released, "steps": 4})
    assert name in [model.card.name for model in list_models(root)]
    model = load_model(find_model(name, root), "cpu")
    request = parse_request({"steps": 2, "as_published": as_published}, model.card.system)
    inputs = Inputs(lungs=WIDE) if model.hooks.inputs else NO_INPUTS
    made = synthesize(CT, MASK, request, model, inputs)[0]
    changed = made.volume().array != CT.array
    outside = ~edit_region(MASK.array > 0, CT.spacing_mm, 3.0)
    assert not (changed & outside).any()
    assert changed.any()
    assert made.provenance.weights_license == "unstated"


@pytest.mark.parametrize("config", [LUNG_DDPM, LUNG_DDPM_PLUS])
def test_the_card_gives_back_the_published_network(
    config: MedUNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_weights, "LUNG_DDPM", LUNG_DDPM)
    known = next(
        k for k in CATALOGUE if k.architecture == ("lung_ddpm" if config is LUNG_DDPM else "lung_ddpm_plus")
    )
    weights = published_weights.whole() if config is LUNG_DDPM else published_weights.cube()
    card = card_of(known, weights, "0" * 64)
    assert network_config(card) == config
    assert card.roi_voxels == ((128,) if config is LUNG_DDPM else (64,))
    assert all(side % config.multiple == 0 for side in card.roi_voxels)
    assert np.isclose(card.window_hu, (-1024, 3071)).all()
