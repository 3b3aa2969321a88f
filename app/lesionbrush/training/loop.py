"""The training loop of all our models: steps, moving average, validation, checkpoints to go on from.

A recipe says with what numbers; a model's own trainer how its network is built and what its loss is.
"""

from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lesionbrush.errors import InvalidRequest
from lesionbrush.files.durable import whole_files
from lesionbrush.training.recipes import Recipe

OPTIMISERS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SNAPSHOTS = "snapshots"
BatchT = TypeVar("BatchT")
DrawnT_co = TypeVar("DrawnT_co", covariant=True)


class Draws(Protocol[DrawnT_co]):
    """Batches without end, from a generator that can be set back."""

    rng: np.random.Generator

    def draw(self) -> DrawnT_co: ...


@dataclass
class Progress:
    """Where a run stands; written beside the checkpoint as history.json."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Loop(ABC, Generic[BatchT]):
    """One training run: network, its moving average, optimiser, and the generators it draws from."""

    recipe: Recipe

    def __init__(self, recipe: Recipe, device: torch.device, seed: int = 0) -> None:
        self.recipe, self.device = recipe, device
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
            torch.manual_seed(seed)
            self.network = self.build().to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = OPTIMISERS[recipe.optimiser.kind](
            self.network.parameters(),
            lr=recipe.optimiser.learning_rate,
            betas=recipe.optimiser.betas,
            weight_decay=recipe.optimiser.weight_decay,
        )
        torch.backends.cudnn.benchmark = True  # batches have few shapes
        self.numpy_rng = np.random.default_rng(seed)
        self.rng = torch.Generator().manual_seed(seed)
        self.progress = Progress()
        self.sheet: Callable[[Path], object] | None = None
        """Draws samples into a PNG, every few validations and at the end."""
        self.snapshots = 0
        """How many checkpoints of even shares of the steps are kept beside the one that is written over."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its first weights, drawn from the global generator."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: BatchT, rng: torch.Generator) -> Tensor:
        """The mean loss of a batch; all noise comes from rng."""

    def fit(
        self,
        train: Draws[BatchT],
        validation: Draws[BatchT],
        folder: Path,
        stop_after_s: float = math.inf,
    ) -> None:
        """Train to `recipe.steps`, or until the time is up.

        A checkpoint goes into `folder` at every validation and at the end, also when it is interrupted.
        """
        started, losses = time.perf_counter(), list[Tensor]()
        recipe = self.recipe
        bar = tqdm(total=recipe.steps, initial=self.progress.step, desc="train", unit="step")
        try:
            while self.progress.step < recipe.steps and time.perf_counter() - started < stop_after_s:
                losses.append(self.step(train.draw() for _ in range(recipe.accumulate)))
                bar.update()
                if self.progress.step in self.snapshot_steps():
                    self.keep(folder)
                if self.progress.step % recipe.validate_every == 0:
                    self._report(losses, validation, bar)
                    losses = []
                    self.save(folder)
        finally:
            bar.close()
            self.save(folder)

    def step(self, batches: Iterable[BatchT]) -> Tensor:
        """One optimiser step over the mean gradient of `recipe.accumulate` batches.

        Returns the mean loss, without waiting for a GPU to have it.
        """
        began, optimiser = time.perf_counter(), self.recipe.optimiser
        for group in self.optimizer.param_groups:
            group["lr"] = optimiser.rate(self.progress.step, self.recipe.steps)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._add_gradient(batch) for batch in batches]
        if optimiser.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), optimiser.clip_norm)
        self.optimizer.step()
        self.progress.step += 1
        self._move_average()
        self.progress.seconds += time.perf_counter() - began
        return torch.stack(losses).sum()

    def _add_gradient(self, batch: BatchT) -> Tensor:
        loss = self.loss(self.network, batch, self.rng) / self.recipe.accumulate
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _move_average(self) -> None:
        keep = self.recipe.average.keep(self.progress.step)
        if keep == 1:
            return
        ours, theirs = self.average.parameters(), self.network.parameters()
        torch._foreach_lerp_(list(ours), list(theirs), 1 - keep)

    @torch.no_grad()
    def validate(self, batches: Draws[BatchT]) -> float:
        """Loss of the moving average on held-out patients, on the same patches and noise every time."""
        batches.rng = np.random.default_rng(1)
        rng = torch.Generator().manual_seed(1)
        draws = (batches.draw() for _ in range(self.recipe.validation_batches))
        return float(np.mean([float(self.loss(self.average, batch, rng)) for batch in draws]))

    def _report(self, losses: list[Tensor], validation: Draws[BatchT], bar: tqdm) -> None:
        entry = {
            "step": self.progress.step,
            "train_loss": float(torch.stack(losses).mean()),
            "validation_loss": self.validate(validation),
            "seconds": round(self.progress.seconds, 1),
        }
        self.progress.history.append(entry)
        bar.set_postfix(loss=f"{entry['train_loss']:.3f}", validation=f"{entry['validation_loss']:.3f}")

    def save(self, folder: Path) -> None:
        """Write checkpoint.pt (everything needed to go on) and history.json, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files(folder / "checkpoint.pt", folder / "history.json") as (checkpoint, history):
            torch.save(self._state(), checkpoint)
            history.write_text(json.dumps(self.progress.history, indent=1), encoding="utf-8")
        validations = len(self.progress.history)
        if validations and validations % self.recipe.validations_per_sheet == 0:
            self.draw(folder)

    def snapshot_steps(self) -> set[int]:
        """After which a checkpoint is kept: a third, two thirds and all of the steps, of three."""
        return {round(self.recipe.steps * k / self.snapshots) for k in range(1, self.snapshots + 1)}

    def keep(self, folder: Path) -> Path:
        """Write snapshots/checkpoint-<step>.pt, which no later one takes the place of."""
        path = folder / SNAPSHOTS / f"checkpoint-{self.progress.step}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_files(path) as (draft,):
            torch.save(self._state(), draft)
        return path

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
            "numpy_rng": json.dumps(self.numpy_rng.bit_generator.state),
            "progress": asdict(self.progress),
            "recipe": self.recipe.name,
        }

    def draw(self, folder: Path) -> Path:
        """Write samples-<step>.png, unless this step has one or there is no `sheet` to draw it."""
        path = folder / f"samples-{self.progress.step:06d}.png"
        if self.sheet is not None and not path.exists():
            with whole_files(path) as (draft,):
                self.sheet(draft)
        return path

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with trained weights instead of random ones. RuntimeError when they do not fit."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def resume(self, folder: Path) -> bool:
        """Go on from `folder`; False when there is nothing to go on from.

        InvalidRequest for a run that was begun by another recipe. Runs that name none are ours.
        """
        path = folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        begun = state.get("recipe", "ours")
        if begun != self.recipe.name:
            raise InvalidRequest(
                f"{folder} holds a run of the recipe {begun!r}, not of {self.recipe.name!r}: "
                f"give another --out, or go on with  --recipe {begun}"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"].cpu())
        self.numpy_rng.bit_generator.state = json.loads(state["numpy_rng"])
        self.progress = Progress(**state["progress"])
        return True
