"""Training of the lesion inpainting model. Needs torch, numpy and scipy; reads the pack only.

Loss: the squared error of the predicted clean image in the edit region, weighted per noise level so that
every level counts alike (Karras et al. 2022, arXiv:2206.00364, Sec. 5: lambda = 1 / c_out^2, sigma_data being
the spread of the edit region given its surroundings), and per scan by how little noise it has.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lesionbrush.diffusion.schedules import NoiseSchedule, cosine
from lesionbrush.hu import HUWindow
from lesionbrush.networks.lesion_unet import LesionUNet, LesionUNetConfig
from lesionbrush.training.data import Batch, Batches


@dataclass(frozen=True)
class TrainingConfig:
    """What fixes a training run; the same config, pack and machine give the same weights."""

    network: LesionUNetConfig
    window: HUWindow = field(default_factory=lambda: HUWindow(-1000.0, 1000.0))
    steps: int = 10_000
    seed: int = 0
    learning_rate: float = 6e-4
    warmup: int = 200
    cooldown_share: float = 0.3
    ema_halflife_steps: float = 300.0
    log_ratio_mean: float = -1.2
    log_ratio_std: float = 1.5
    uniform_share: float = 0.1
    data_spread: float = 0.15
    validate_every: int = 500
    validation_batches: int = 12


@dataclass
class Progress:
    """Where a run stands; written beside the checkpoint as history.json."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training run: network, its moving average, optimiser, and the generators it draws from."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.schedule: NoiseSchedule = cosine()
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
            torch.manual_seed(config.seed)
            network = LesionUNet(config.network).to(device)
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.numpy_rng = np.random.default_rng(config.seed)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.progress = Progress()

    def fit(self, train: Batches, validation: Batches, folder: Path, stop_after_s: float = math.inf) -> None:
        """Train to `config.steps`, or until the time is up.

        A checkpoint goes into `folder` at every validation and at the end, also when it is interrupted.
        """
        started, losses = time.perf_counter(), []
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

    def step(self, batch: Batch) -> float:
        """One optimiser step; returns the loss."""
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
        return float(loss.detach())

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

    def loss(self, network: LesionUNet, batch: Batch, rng: torch.Generator) -> Tensor:
        t = self.draw_levels(len(batch.image), rng)
        alpha = self.schedule.alphas_bar[t].sqrt().float().to(self.device)
        sigma = (1 - self.schedule.alphas_bar[t]).sqrt().float().to(self.device)
        image = batch.image.to(self.device)
        noise = torch.randn(image.shape, generator=rng).to(self.device)
        column = (slice(None), *[None] * 4)
        noisy = alpha[column] * image + sigma[column] * noise
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            predicted = network(
                noisy, alpha, sigma, batch.conditions.to(self.device), batch.attributes.to(self.device)
            )
        ratio, spread = sigma / alpha, self.config.data_spread
        weight = (ratio**2 + spread**2) / (ratio * spread) ** 2
        scored = batch.scored.to(self.device)
        error = (scored * (predicted - image) ** 2).sum(dim=(1, 2, 3, 4)) / scored.sum(
            dim=(1, 2, 3, 4)
        ).clamp(min=1)
        return (batch.weight.to(self.device) * weight * error).mean()

    def draw_levels(self, count: int, rng: torch.Generator) -> Tensor:
        """Noise levels: log-normal in sigma/alpha, with a share drawn evenly over all t."""
        log_ratio = torch.randn(count, generator=rng, dtype=torch.float64)
        log_ratio = self.config.log_ratio_mean + self.config.log_ratio_std * log_ratio
        table = 0.5 * torch.log((1 - self.schedule.alphas_bar) / self.schedule.alphas_bar)
        t = torch.searchsorted(table, log_ratio).clamp(max=len(table) - 1)
        even = torch.randint(len(table), (count,), generator=rng)
        return torch.where(torch.rand(count, generator=rng) < self.config.uniform_share, even, t)

    @torch.no_grad()
    def validate(self, batches: Batches) -> float:
        """Loss of the moving average on held-out patients, on the same patches and noise every time."""
        batches.rng = np.random.default_rng(1)
        rng = torch.Generator().manual_seed(1)
        draws = (batches.draw() for _ in range(self.config.validation_batches))
        return float(np.mean([float(self.loss(self.average, batch, rng)) for batch in draws]))

    def _report(self, losses: list[float], validation: Batches, bar: tqdm) -> None:
        entry = {
            "step": self.progress.step,
            "train_loss": float(np.mean(losses)),
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

    def start_from(self, weights: dict[str, Tensor]) -> None:
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
