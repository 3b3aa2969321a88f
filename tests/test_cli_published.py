"""`run.py models add | remove`, and what list, show and verify say of published models."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from cli_kit import Command, Outcome
from lesionbrush.cli.__main__ import main
from server_kit import make_model

REPOSITORY = Path(__file__).resolve().parents[1]

pytest_plugins = ("cli_fixtures", "adding_fixtures")
UNSTATED = ("--accept-licence", "unstated")


@pytest.fixture
def models(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder of this test alone, with `tiny` in it."""
    make_model(tmp_path / "models")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def added(command: Command, models: Path, weights: Path) -> Outcome:
    return command("models", "add", "lung_ddpm_published", "--from", weights, *UNSTATED)


class TestAdd:
    def test_says_the_terms_and_what_was_checked(self, added: Outcome) -> None:
        assert (added.code, added.err) == (0, "")
        assert "Licence. Weights: unstated. Code: MIT." in added.out
        assert "every tensor has its place" in added.out
        assert "recorded; there was no known value" in added.out
        assert "Note: " in added.out

    def test_the_terms_are_shown_before_they_are_accepted(
        self, command: Command, models: Path, weights: Path
    ) -> None:
        outcome = command("models", "add", "lung_ddpm_published", "--from", weights)
        assert outcome.code == 2
        assert '--accept-licence "unstated"' in outcome.one_line
        assert "drive.google.com" in outcome.out
        assert [path.name for path in models.iterdir()] == ["tiny"]

    def test_without_a_source_it_says_where_the_weights_are(self, command: Command, models: Path) -> None:
        outcome = command("models", "add", "lung_ddpm_published", *UNSTATED)
        assert outcome.code == 2
        assert "Lung-DDPM-LIDC-IDRI-100000-steps.pt from https://drive.google.com" in outcome.one_line

    def test_what_cannot_run_yet(self, command: Command, models: Path) -> None:
        outcome = command("models", "add", "nv_generate_ct")
        assert outcome.code == 2
        assert "cannot be added yet" in outcome.one_line

    def test_a_wrong_hash(self, command: Command, models: Path, weights: Path) -> None:
        source = ("--from", weights, *UNSTATED)
        assert (
            "64 hexadecimal digits"
            in command("models", "add", "lung_ddpm_published", *source, "--sha256", "1").one_line
        )
        outcome = command("models", "add", "lung_ddpm_published", *source, "--sha256", "A" * 64)
        assert outcome.code == 2
        assert "another file, or damaged" in outcome.one_line

    def test_an_address_that_is_not_https(self, command: Command, models: Path) -> None:
        outcome = command("models", "add", "lung_ddpm_published", "--from", "http://a.example/x", *UNSTATED)
        assert outcome.code == 2
        assert "https" in outcome.one_line

    def test_an_unknown_name(self, command: Command, models: Path) -> None:
        outcome = command("models", "add", "nobody")
        assert outcome.code == 2
        assert "lung_ddpm_plus_published" in outcome.one_line


class TestAfterwards:
    def test_list(self, command: Command, added: Outcome) -> None:
        there, can, cannot = command("models", "list").out.split("\n\n")
        assert there.startswith("lung_ddpm_published: ")
        assert "\ntiny: " in there
        assert can.startswith("Can be added (models add NAME):\n  lung_ddpm_plus_published: ")
        assert "(unstated)" in can
        assert "lefusion_lidc" in cannot
        assert "none of MONAI's" in cannot

    def test_show(self, command: Command, added: Outcome) -> None:
        shown = command("models", "show", "lung_ddpm_published").out
        card, origin, parameters = re.split(r"\n\n(?:Added: |Parameters)", shown)
        assert json.loads(card)["system"] == "lung_ddpm"
        assert json.loads(origin)["license_accepted"] == "unstated"
        assert "as_published" in parameters
        assert "Not added." in command("models", "show", "lung_ddpm_plus_published").out
        assert "Added" not in command("models", "show", "tiny").out

    def test_verify(self, command: Command, added: Outcome, models: Path) -> None:
        outcome = command("models", "verify")
        assert outcome.code == 0
        assert outcome.out.count("the weights are the ones") == 2
        weights = models / "lung_ddpm_published" / "models" / "model.safetensors"
        weights.write_bytes(b"x")
        outcome = command("models", "verify", "lung_ddpm_published")
        assert outcome.code == 1
        assert "damaged" in outcome.one_line

    def test_remove_needs_a_yes(self, command: Command, added: Outcome, models: Path) -> None:
        outcome = command("models", "remove", "lung_ddpm_published")
        assert outcome.code == 2
        assert "--yes" in outcome.one_line
        assert (models / "lung_ddpm_published").is_dir()
        assert command("models", "remove", "lung_ddpm_published", "--yes").out.startswith(
            "lung_ddpm_published: removed ("
        )
        assert [path.name for path in models.iterdir()] == ["tiny"]

    @pytest.mark.parametrize(("said", "code"), [("\n", 1), ("no\n", 1), ("y\n", 0), ("Yes\n", 0)])
    def test_remove_asks_in_a_terminal(
        self, models: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int
    ) -> None:
        terminal = io.StringIO(said)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["models", "remove", "tiny"]) == code
        assert (models / "tiny").is_dir() == bool(code)

    def test_what_ships_stays(self, command: Command, models: Path) -> None:
        shutil.copytree(REPOSITORY / "models" / "lung_lesion" / "configs", models / "lung_lesion" / "configs")
        outcome = command("models", "remove", "lung_lesion", "--yes")
        assert outcome.code == 2
        assert "ships with LesionBrush" in outcome.one_line
