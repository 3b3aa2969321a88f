"""The models that are installed, and what is wrong with those that are damaged."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from core_fixtures import install, tiny_card
from lesionbrush.core.registry import (
    METADATA,
    WEIGHTS,
    InstalledModel,
    find_model,
    list_models,
    load_card,
    models_dir,
    verify_weights,
)
from lesionbrush.errors import UnknownModel, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from pydantic import ValidationError

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def tiny(tmp_path: Path) -> InstalledModel:
    return find_model(install(tmp_path).name, tmp_path)


def edit(folder: Path, **facts: Any) -> None:
    path = folder / METADATA
    metadata = json.loads(path.read_text())
    metadata["lesionbrush"].update(facts)
    path.write_text(json.dumps(metadata))


def test_models_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("zebra", "ant"):
        install(tmp_path, name=name)
    (tmp_path / "notes").mkdir()
    assert [model.card.name for model in list_models(tmp_path)] == ["ant", "zebra"]
    assert list_models(tmp_path / "nowhere") == []


def test_a_found_model_knows_its_card_and_its_weights(tiny: InstalledModel) -> None:
    assert LesionCard.of(tiny.card).network.channels == (8, 16, 16)
    assert tiny.weights == tiny.folder / "models" / "model.safetensors"
    assert tiny.weights.is_file()


def test_an_unknown_model_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"'liver'.*installed are: none"):
        find_model("liver", tmp_path)
    for name in ("ant", "zebra"):
        install(tmp_path, name=name)
    with pytest.raises(UnknownModel, match=r"'liver'.*ant, zebra"):
        find_model("liver", tmp_path)


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LESIONBRUSH_MODELS", raising=False)
    assert models_dir() == REPOSITORY / "models"
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    install(tmp_path)
    assert find_model("tiny").folder == tmp_path / "tiny"


def test_listing_models_imports_no_torch(tmp_path: Path) -> None:
    install(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'app')!r})\n"
        "from pathlib import Path; from lesionbrush.core.registry import list_models, verify_weights\n"
        f"[verify_weights(model) for model in list_models(Path({str(tmp_path)!r}))]\n"
        "print([name for name in ('torch', 'monai', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"lesionbrush": 3}',
        b'{"lesionbrush": {"name": "x"}}',
        b'{"a": "\xff"}',
    ],
)
def test_a_damaged_card_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = install(tmp_path)
    (folder / METADATA).write_bytes(content)
    with pytest.raises(WeightsError, match=r"'tiny' has no valid configs/metadata.json"):
        load_card(folder)
    with pytest.raises(WeightsError):
        list_models(tmp_path)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'empty' has no valid"):
        load_card(tmp_path / "empty")


@pytest.mark.parametrize(
    "facts",
    [
        {"colour": "red", "section": {}},
        {"name": "../up"},
        {"name": "Tiny"},
        {"weights_sha256": "abc"},
        {"limits": None},
    ],
)
def test_a_card_holds_what_is_known_and_nothing_else(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(facts))):
        tiny_card(**facts)


def test_what_is_not_common_to_all_cards_is_its_systems_and_known_there() -> None:
    with pytest.raises(WeightsError, match="the card of 'tiny' does not fit 'lesion_inpainting': colour"):
        LesionCard.of(tiny_card(colour="red"))


def test_the_right_weights_pass(tiny: InstalledModel) -> None:
    verify_weights(tiny)
    assert load_model(tiny, "cpu").card == tiny.card


def test_missing_weights_are_refused(tiny: InstalledModel) -> None:
    tiny.weights.unlink()
    with pytest.raises(WeightsError, match=r"'tiny' are missing.*model\.safetensors"):
        load_model(tiny, "cpu")


def test_changed_weights_are_refused_with_both_hashes(tiny: InstalledModel) -> None:
    content = bytearray(tiny.weights.read_bytes())
    content[-1] ^= 1
    tiny.weights.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"SHA-256 \w{{12}}.*{tiny.card.weights_sha256[:12]}"):
        load_model(tiny, "cpu")


def test_a_system_this_version_does_not_know_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = install(tmp_path, system="teleportation")
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=r"'teleportation' is not known; known are lesion_inpainting"):
        load_model(find_model("tiny", tmp_path), "cpu")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = install(tmp_path)
    network = {"channels": [8, 16], "blocks": 1, "head_channels": 4, "prior_spread": 0.15}
    edit(folder, section={**load_card(folder).section, "network": network})
    with pytest.raises(WeightsError, match="do not fit its network"):
        load_model(find_model("tiny", tmp_path), "cpu")


def test_a_file_that_is_no_safetensors_is_refused_even_with_the_right_hash(tmp_path: Path) -> None:
    folder = install(tmp_path)
    (folder / WEIGHTS).write_bytes(b"weights")
    edit(folder, weights_sha256=hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(WeightsError, match="do not fit its network"):
        load_model(find_model("tiny", tmp_path), "cpu")


def test_the_models_of_this_repository_have_valid_cards() -> None:
    cards = [model.card for model in list_models(REPOSITORY / "models")]
    assert "lung_lesion" in [card.name for card in cards]
    for card in cards:
        assert list(card.roi_voxels) == sorted(card.roi_voxels)
        assert all(side % card.roi_multiple == 0 for side in card.roi_voxels)
        assert card.window_hu[0] < card.window_hu[1]
