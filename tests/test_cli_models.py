"""`run.py models`: cards, weights, and the table in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import Command
from lesionbrush.bundles.configs import INFERENCE
from lesionbrush.cli.parameters import parameter_lines
from lesionbrush.core.registry import METADATA
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from server_kit import make_model

pytest_plugins = "cli_fixtures"


class TestModels:
    def test_list_and_show(self, command: Command) -> None:
        installed = command("models", "list").out.partition("\n\n")[0]
        assert installed == "tiny: noise where a lesion would be (Apache-2.0)"
        card, parameters = command("models", "show", "tiny").out.split("\n\n")
        assert json.loads(card)["system"] == "lesion_inpainting"
        assert "  steps=" in parameters

    def test_every_parameter_is_told_with_what_it_may_be(self) -> None:
        lines = list(parameter_lines("lesion_inpainting"))
        fields = [n for n in SynthesisRequest.model_fields if n not in ("system", "attributes")]
        fields += [f"attributes.{name}" for name in Attributes.model_fields]
        assert [line.partition("=")[0] for line in lines] == fields
        about = dict(zip(fields, lines, strict=True))
        assert "(1 to 16)" in about["variants"]
        assert "(0, below 2147483648)" in about["seed"]
        assert "(1 or more)" in about["label"]
        assert "ground_glass, part_solid, solid" in about["attributes.texture"]
        assert (
            "=none (none, solid, central, non_central, laminated, popcorn)"
            in about["attributes.calcification"]
        )

    def test_show_an_unknown_one(self, command: Command) -> None:
        outcome = command("models", "show", "nobody")
        assert outcome.code == 2
        assert "tiny" in outcome.one_line

    def test_verify(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        assert command("models", "verify").code == 0
        make_model(tmp_path)
        make_model(tmp_path, "altered", weights_sha256="0" * 64)
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        outcome = command("models", "verify")
        assert outcome.code == 1
        assert "'altered'" in outcome.one_line
        assert outcome.out.startswith("tiny: ")
        assert command("models", "verify", "tiny").code == 0

    def test_nothing_to_verify(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        assert "no model is installed" in command("models", "verify").one_line

    def test_configs_for_monai_are_written_anew(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        folder = make_model(tmp_path)
        make_model(tmp_path, "other")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        before = (folder / METADATA).read_text()
        outcome = command("models", "bundle", "tiny")
        assert outcome.out == "tiny: configs/metadata.json and configs/inference.json written\n"
        assert json.loads((folder / METADATA).read_text())["name"] == "Tiny" != json.loads(before).get("name")
        assert json.loads((folder / INFERENCE).read_text())["model"] == "tiny"
        assert not (tmp_path / "other" / INFERENCE).exists()
        assert command("models", "bundle").out.count("written") == 2

    def test_nothing_to_write(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        assert "nothing to write" in command("models", "bundle").one_line


class TestModelTable:
    MARKS = "<!-- models:begin -->\nold\n<!-- models:end -->"

    def test_write_then_check(self, command: Command, tmp_path: Path) -> None:
        readme = tmp_path / "README.md"
        readme.write_text(f"above\n{self.MARKS}\nbelow\n")
        outdated = command("models", "table", "--check", readme)
        assert outdated.code == 1
        assert "--write" in outdated.one_line
        assert command("models", "table", "--write", readme).code == 0
        text = readme.read_text()
        assert text.startswith("above\n<!-- models:begin -->\n| Model |")
        assert text.endswith("<!-- models:end -->\nbelow\n")
        assert command("models", "table").out.strip() in text
        assert command("models", "table", "--check", readme).code == 0

    def test_a_row(self, command: Command) -> None:
        row = command("models", "table").out.splitlines()[2]
        assert row == (
            "| [`tiny`](models/tiny/docs/README.md) | noise where a lesion would be | no | Apache-2.0 |"
        )

    def test_training_is_told_in_steps(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        make_model(tmp_path, trained={"steps": 13700, "hours": 3.9})
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        assert "| 13,700 steps |" in command("models", "table").out

    def test_a_cell_cannot_break_the_table(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        make_model(tmp_path, makes="one | two\nthree")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        assert r"| one \| two three |" in command("models", "table").out

    @pytest.mark.parametrize(
        "text", ["no marks", "<!-- models:end --> <!-- models:begin -->", f"{MARKS}\n{MARKS}"]
    )
    def test_marks_are_needed_once_and_in_order(self, command: Command, tmp_path: Path, text: str) -> None:
        readme = tmp_path / "README.md"
        readme.write_text(text)
        outcome = command("models", "table", "--write", readme)
        assert outcome.code == 2
        assert "<!-- models:begin -->" in outcome.one_line
        assert readme.read_text() == text

    def test_a_missing_file(self, command: Command, tmp_path: Path) -> None:
        outcome = command("models", "table", "--check", tmp_path / "nothing.md")
        assert outcome.code == 2
        assert "nothing.md" in outcome.one_line
