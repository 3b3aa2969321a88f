"""Training is found through the systems' folders: the project's own, and one of the admin's."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest
from cli_kit import Command
from lesionbrush import systems

pytest_plugins = "cli_fixtures"

TOY = """
from lesionbrush.core.model import PLAIN
from lesionbrush.core.request import EditRequest
from lesionbrush.systems.contract import System, SystemCard


def train():
    from lesionbrush_system_counting.training import Counting

    return Counting()


SYSTEMS = (System("counting", "Counting", EditRequest, SystemCard, PLAIN, load=lambda *_: None, train=train),)
"""
TOY_TRAINING = """
from dataclasses import replace

from lesionbrush.training.recipes import Patches, Recipe, by_name
from lesionbrush.training.trainings import Training


class Counting(Training):
    recipes = by_name(
        Recipe(
            name="ours", source="a toy", network=None, prediction="x0", steps=7,
            patches=Patches(sides=(8,), shares=(1.0,), counts=(1,)),
        )
    )

    def add_arguments(self, group):
        group.add_argument("--twice", action="store_true")

    def adapt(self, recipe, options):
        return replace(recipe, steps=2 * recipe.steps) if options.twice else recipe

    def run(self, recipe, run):
        run.out.mkdir(parents=True)
        (run.out / "counted").write_text(f"{recipe.steps} of {run.data} seed {run.seed}")
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system of the admin's, in the folder that the variable names."""
    folder = tmp_path / "systems" / "counting"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(TOY)
    (folder / "training.py").write_text(TOY_TRAINING)
    monkeypatch.setenv(systems.VARIABLE, str(folder.parent))


@pytest.mark.usefixtures("counting")
class TestOfTheAdmin:
    def test_a_system_of_ones_own_is_trained_by_the_same_command(
        self, command: Command, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        outcome = command("train", "--twice", "counting", "--data", tmp_path, "--out", out, "--seed", 5)
        assert outcome.code == 0, outcome.err
        assert (out / "counted").read_text() == f"14 of {tmp_path} seed 5"
        assert "overridden: steps 14 instead of 7" in outcome.out

    def test_its_options_and_recipes_are_in_its_help_alone(self, command: Command) -> None:
        own, other, of_none = (
            command("train", *names, "--help").out for names in (["counting"], ["tiny"], [])
        )
        assert "--twice" in own
        assert "only for Counting" in own
        assert "ours: 7 steps" in own.replace("\n", " ")
        for text in (other, of_none):
            assert "--twice" not in text
        assert "10000 steps" in other.replace("\n", " ")


def test_a_system_without_training_has_none() -> None:
    trainable = [name for name, system in systems.list_systems().items() if system.train is not None]
    assert {"lesion_inpainting", "lung_ddpm", "lung_ddpm_plus", "mddpm", "med_ddpm", "palette"} <= set(
        trainable
    )
    assert "mddpm_3d" not in trainable


def test_every_training_has_recipes_by_their_names() -> None:
    for system in systems.list_systems().values():
        if system.train is not None:
            training = system.train()
            training.add_arguments(ArgumentParser().add_argument_group("own"))
            assert "ours" in training.recipes
            assert all(name == one.name and one.source for name, one in training.recipes.items())
