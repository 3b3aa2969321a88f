"""What is measured: trained networks, as training left them in folders, or as they are installed."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from lesionbrush.core.hu import HUWindow, ends_hu
from lesionbrush.core.registry import ModelCard, list_models
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.systems.running import pick_device
from lesionbrush.systems.semantic.card import SemanticCard, SemanticShape
from lesionbrush.systems.semantic.classes import TISSUES
from lesionbrush.systems.semantic.model import SemanticCT, network_config
from lesionbrush.systems.semantic.network import CONDITIONINGS, SemanticUNet
from lesionbrush.systems.semantic.recipes import SPACING_MM, SemanticRecipe
from lesionbrush.systems.semantic.training import SemanticTraining
from lesionbrush.training.drafts import draft_card
from lesionbrush.training.loop import SNAPSHOTS

SYSTEM, OPTION = "semantic", " --conditioning "


@dataclass(frozen=True, eq=False)
class TrainedStage:
    """Weights after so many steps. name: of the run's folder, or of the installed model; load: reads them."""

    name: str
    conditioning: str
    steps: int
    load: Callable[[], SemanticCT]

    @cached_property
    def model(self) -> SemanticCT:
        """Read once: an engine takes seconds to be ready for a network."""
        return self.load()


@dataclass(frozen=True)
class SamplingStart:
    """What a card says of how sampling starts: of pure noise, as published."""

    class_hu: dict[str, float] = field(default_factory=dict)
    painted_above: float | None = None
    coarse_noise: float = 1.0


def list_stages(
    runs: Path | None, classes: Sequence[str], start: SamplingStart | None = None
) -> list[TrainedStage]:
    """By conditioning, name and steps.

    runs: a folder of folders that `train semantic` wrote, None for the installed models. classes: that
    training cases have, which no run's folder tells, nor how sampling starts.

    InvalidRequest where there is none, WeightsError for a file that is no checkpoint of this system.
    """
    found = list(_installed() if runs is None else _left_in(runs, tuple(classes), start or SamplingStart()))
    if not found:
        where = "no model of semantic CT is installed" if runs is None else f"--runs {runs.name} holds none"
        raise InvalidRequest(
            f"{where}: train with `run.py train semantic --out RUNS/NAME --snapshots 3`, and give --runs RUNS"
        )
    return sorted(found, key=lambda one: (CONDITIONINGS.index(one.conditioning), one.name, one.steps))


def last_stages(stages: Sequence[TrainedStage]) -> list[TrainedStage]:
    """Of each name the one that was trained longest."""
    return list({one.name: one for one in sorted(stages, key=lambda one: one.steps)}.values())


def _installed() -> Iterator[TrainedStage]:
    for one in list_models():
        if one.card.system == SYSTEM:
            how = SemanticCard.of(one.card).network.conditioning
            steps = int(one.card.trained.get("steps", 0))
            yield TrainedStage(one.card.name, how, steps, partial(load_model, one))


def _left_in(runs: Path, classes: tuple[str, ...], start: SamplingStart) -> Iterator[TrainedStage]:
    """Each number of steps of a run once, though its last checkpoint is a snapshot too."""
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
        files = [folder / "checkpoint.pt", *sorted((folder / SNAPSHOTS).glob("*.pt"))]
        seen: set[int] = set()
        for path in filter(Path.is_file, files):
            state = read_checkpoint(path)
            recipe, steps = recipe_of(state["recipe"], path), int(state["progress"]["step"])
            if steps not in seen:
                seen.add(steps)
                card = card_of(recipe, classes, folder.name, start)
                how = recipe.network.conditioning
                yield TrainedStage(folder.name, how, steps, partial(_model, path, card))


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """WeightsError for a file that is none."""
    wanted = {"average", "recipe", "progress"}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = wanted - set(state)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, TypeError) as error:
        raise WeightsError(
            f"{path.parent.name}/{path.name} is no checkpoint of a training: take it out of --runs, or train "
            "again"
        ) from error
    if missing:
        raise WeightsError(
            f"{path.parent.name}/{path.name} lacks {', '.join(sorted(missing))} and is no checkpoint of a "
            "training: take it out of --runs"
        )
    return state


def recipe_of(name: str, path: Path) -> SemanticRecipe:
    """As a checkpoint names it, with its conditioning. WeightsError for one of another system."""
    training = SemanticTraining()
    base, _, conditioning = name.partition(OPTION)
    if base not in training.recipes or conditioning not in ("", *CONDITIONINGS):
        raise WeightsError(
            f"{path.parent.name}/{path.name} was trained by the recipe {name!r}, which `train semantic` does "
            f"not know; it knows {', '.join(training.recipes)}"
        )
    said = Namespace(channels=None, sides=None, conditioning=conditioning or None)
    return training.adapt(training.recipes[base], said)


def card_of(
    recipe: SemanticRecipe, classes: tuple[str, ...], name: str, start: SamplingStart = SamplingStart()
) -> ModelCard:
    """Of a network that has none yet."""
    facts = asdict(replace(recipe.network, prediction=recipe.prediction))
    known = {field: facts[field] for field in SemanticShape.model_fields if field in facts}
    section = SemanticCard(
        schedule=recipe.schedule,
        timesteps=recipe.timesteps,
        network=SemanticShape(**known, data_spread=recipe.data_spread),
        scale=recipe.scale,
        classes=(*classes, *TISSUES) if recipe.network.tissues else classes,
        **asdict(start),
    )
    window = HUWindow(*ends_hu(recipe.scale))
    card = draft_card(SYSTEM, section, window, recipe.patches.sides, recipe.network.multiple)
    return card.model_copy(update={"name": name, "spacing_mm": SPACING_MM})


def _model(path: Path, card: ModelCard) -> SemanticCT:
    """WeightsError where the weights have another shape, as after --channels."""
    network = SemanticUNet(network_config(SemanticCard.of(card).network))
    try:
        network.load_state_dict(read_checkpoint(path)["average"])
    except RuntimeError as error:
        raise WeightsError(
            f"{path.parent.name}/{path.name} does not fit the network of its recipe: export it with "
            "`train --export` into a model folder, whose card tells its widths, and leave --runs out"
        ) from error
    return SemanticCT(card, network, pick_device(None))
