"""The training loop of all our models: steps, moving average, validation, checkpoints to go on from.

A model's own trainer says how its network is built and what its loss is.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

BatchT = TypeVar("BatchT")
DrawnT_co = TypeVar("DrawnT_co", covariant=True)


class Draws(Protocol[DrawnT_co]):
    """Batches without end, from a generator that can be set back."""

    rng: np.random.Generator

    def draw(self) -> DrawnT_co: ...


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast. The learning rate warms up, stays, and goes down to zero at the end."""

    steps: int = 10_000
    seed: int = 0
    learning_rate: float = 6e-4
    warmup: int = 200
    cooldown_share: float = 0.3
    ema_halflife_steps: float = 300.0
    validate_every: int = 500
    validation_batches: int = 12
    validations_per_sheet: int = 4


@dataclass
class Progress:
    """Where a run stands; written beside the checkpoint as history.json."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def noise_like(image: Tensor, rng: torch.Generator) -> Tensor:
    """Gaussian noise of the image's shape; a GPU draws it itself, from a seed out of `rng`."""
    if image.device.type == "cpu":
        return torch.randn(image.shape, generator=rng)
    seed = int(torch.randint(2**62, (1,), generator=rng))
    own = torch.Generator(image.device).manual_seed(seed)
    return torch.randn(image.shape, generator=own, device=image.device)


class Loop(ABC, Generic[BatchT]):
    """One training run: network, its moving average, optimiser, and the generators it draws from."""

    config: LoopConfig

    def __init__(self, config: LoopConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
            torch.manual_seed(config.seed)
            self.network = self.build().to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        torch.backends.cudnn.benchmark = True  # batches have few shapes
        self.numpy_rng = np.random.default_rng(config.seed)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.progress = Progress()
        self.sheet: Callable[[Path], object] | None = None
        """Draws samples into a PNG, every few validations and at the end."""

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
        """Train to `config.steps`, or until the time is up.

        A checkpoint goes into `folder` at every validation and at the end, also when it is interrupted.
        """
        started, losses = time.perf_counter(), list[Tensor]()
        bar = tqdm(total=self.config.steps, initial=self.progress.step, desc="train", unit="step")
        try:
            while self.progress.step < self.config.steps and time.perf_counter() - started < stop_after_s:
                losses.append(self.step(train.draw()))
                bar.update()
                if self.progress.step % self.config.validate_every == 0:
                    self._report(losses, validation, bar)
                    losses = []
                    self.save(folder)
        finally:
            bar.close()
            self.save(folder)

    def step(self, batch: BatchT) -> Tensor:
        """One optimiser step; returns the loss, without waiting for a GPU to have it."""
        began = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        loss = self.loss(self.network, batch, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.progress.step += 1
        self._move_average()
        self.progress.seconds += time.perf_counter() - began
        return loss.detach()

    def _rate(self) -> float:
        """Linear warm-up, a plateau, and a linear way down to zero (Hagele et al. 2024, arXiv:2405.18392).

        On the plateau the number of steps may still be changed: nothing has depended on it yet.
        """
        steps, done = self.config.steps, self.progress.step
        rise = (done + 1) / self.config.warmup
        fall = (steps - done) / (self.config.cooldown_share * steps)
        return max(0.0, min(1.0, rise, fall))

    @torch.no_grad()
    def _move_average(self) -> None:
        """Exponential moving average, younger at the start so that it does not remember the beginning."""
        halflife = min(self.config.ema_halflife_steps, 0.05 * self.progress.step + 1)
        keep = 0.5 ** (1 / halflife)
        ours, theirs = self.average.parameters(), self.network.parameters()
        torch._foreach_lerp_(list(ours), list(theirs), 1 - keep)

    @torch.no_grad()
    def validate(self, batches: Draws[BatchT]) -> float:
        """Loss of the moving average on held-out patients, on the same patches and noise every time."""
        batches.rng = np.random.default_rng(1)
        rng = torch.Generator().manual_seed(1)
        draws = (batches.draw() for _ in range(self.config.validation_batches))
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
        """Write checkpoint.pt (everything needed to go on) and history.json, each in one move."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
            "numpy_rng": json.dumps(self.numpy_rng.bit_generator.state),
            "progress": asdict(self.progress),
        }
        torch.save(state, folder / "checkpoint.tmp")
        os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")
        (folder / "history.tmp").write_text(json.dumps(self.progress.history, indent=1), encoding="utf-8")
        os.replace(folder / "history.tmp", folder / "history.json")
        validations = len(self.progress.history)
        if validations and validations % self.config.validations_per_sheet == 0:
            self.draw(folder)

    def draw(self, folder: Path) -> Path:
        """Write samples-<step>.png, unless this step has one or there is no `sheet` to draw it."""
        path = folder / f"samples-{self.progress.step:06d}.png"
        if self.sheet is not None and not path.exists():
            self.sheet(path)
        return path

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with trained weights instead of random ones. RuntimeError when they do not fit."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def resume(self, folder: Path) -> bool:
        """Go on from `folder`; False when there is nothing to go on from."""
        path = folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"].cpu())
        self.numpy_rng.bit_generator.state = json.loads(state["numpy_rng"])
        self.progress = Progress(**state["progress"])
        return True
