"""A checkpoint of improved-diffusion's own program becomes a model, by `run.py models add`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adding_kit import ignore
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.errors import WeightsError
from lesionbrush.published.adding import WeightsOrder, add
from lesionbrush.published.catalogue import UNSTATED, find_known
from lesionbrush.systems import load_model
from lesionbrush.systems.semantic import published
from lesionbrush.systems.semantic.model import SemanticCT
from lesionbrush.systems.semantic.network import SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.semantic.published import ATTENTION, BLOCK, module_names
from lesionbrush.systems.semantic.whole import SemanticWhole

SMALL = SemanticUNetConfig(
    channels=(8, 16), attention=(False, True), blocks=1, heads=2, norm_groups=4, prediction="eps"
)
MODELS = {"semantic_published": SemanticCT, "semantic_whole_published": SemanticWhole}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's network, but small."""
    monkeypatch.setattr(published, "PAPER", replace(published.PAPER, network=SMALL))


def in_their_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As improved-diffusion calls them: that both compute the same, test_semantic_network.py shows."""
    ours = {own: their for their, own in module_names(SMALL).items()}
    return {f"{ours[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(in_their_keys(SemanticUNet(SMALL).state_dict()), tmp_path / "ema_0.9999_150000.pt")
    return tmp_path / "ema_0.9999_150000.pt"


def ordered(name: str, source: Path) -> WeightsOrder:
    return WeightsOrder(find_known(name), str(source), UNSTATED)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_becomes_a_model_that_loads(name: str, checkpoint: Path, tmp_path: Path) -> None:
    add(ordered(name, checkpoint), ignore, tmp_path / "models")
    installed = find_model(name, tmp_path / "models")
    verify_weights(installed)
    model = load_model(installed, "cpu")
    assert isinstance(model, MODELS[name])
    torch.manual_seed(1)
    for key, value in SemanticUNet(SMALL).state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value), key
    assert installed.card.section["schedule"] == "linear"
    assert installed.card.section["scale"] == {"lo_hu": -160.0, "hi_hu": 240.0}
    assert "spleen" in installed.card.section["classes"]


def test_the_names_of_blocks_and_attention_are_all_used() -> None:
    theirs = set(module_names(SMALL))
    for part in (*BLOCK, *ATTENTION):
        assert any(key.endswith(f".{part}") for key in theirs), part


@pytest.mark.parametrize("content", [{"state": {"step": 3}, "param_groups": []}, [1, 2], {"a": 1.0}])
def test_the_state_of_an_optimiser_is_none(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "opt150000.pt")
    with pytest.raises(WeightsError, match=r"take its ema_\*\.pt or model\*\.pt, not opt\*\.pt"):
        add(ordered("semantic_published", tmp_path / "opt150000.pt"), ignore, tmp_path / "models")
    assert not (tmp_path / "models" / "semantic_published").exists()


def test_another_network_is_refused_with_names(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    del state["out.2.bias"]
    torch.save(state, checkpoint)
    with pytest.raises(WeightsError, match=r"no improved-diffusion checkpoint .* 1 missing: last\.2\.bias"):
        add(ordered("semantic_published", checkpoint), ignore, tmp_path / "models")
