"""One trainer for both baselines: a generator that fills holes, a discriminator of patches, by turns."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from tqdm import tqdm

from lesionbrush.evaluation.inpainting.baselines import Baseline
from lesionbrush.evaluation.inpainting.examples import FillExample, FillExamples

LEAST_SCORED = 1.0


@dataclass(frozen=True)
class GanLosses:
    """Of one step. error: absolute, in units, of what is scored."""

    error: float
    adversarial: float
    discriminator: float


class GanTrainer:
    """Generator and discriminator in training. rng: of all that is random but the examples."""

    def __init__(self, baseline: Baseline, rng: torch.Generator, device: torch.device) -> None:
        self.baseline, self.rng, self.device = baseline, rng, device
        with _seeded(rng, device):
            self.generator = baseline.generator().to(device)
            self.discriminator = PatchDiscriminator(
                baseline.dims,
                baseline.discriminator_channels,
                baseline.in_channels + 1,
                num_layers_d=baseline.layers,
                norm="INSTANCE",
            ).to(device)
        self.says = PatchAdversarialLoss(criterion=baseline.criterion, no_activation_leastsq=True)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=baseline.learning_rate, betas=baseline.betas)
            for network in (self.generator, self.discriminator)
        ]
        self.steps, self.seconds = 0, 0.0

    def fit(self, examples: FillExamples, *, steps: float = math.inf, minutes: float = math.inf) -> None:
        """Until either is reached. Interrupted at any time, it keeps what it learned until then."""
        began, limit_s = time.perf_counter(), 60 * minutes
        total = round(limit_s) if math.isfinite(limit_s) else None
        with tqdm(total=total, desc=self.baseline.title, unit="s") as bar:
            while self.steps < steps and self.seconds < limit_s:
                losses = self.step(examples.draw())
                self.seconds = time.perf_counter() - began
                bar.update(round(min(self.seconds, limit_s)) - bar.n)
                bar.set_postfix(step=self.steps, error=f"{losses.error:.3f}")

    def step(self, example: FillExample) -> GanLosses:
        """Of the discriminator, then of the generator, on the same fill."""
        image, conditions, scored = (
            part.to(self.device) for part in (example.image, example.conditions, example.scored)
        )
        with _seeded(self.rng, self.device):
            made = self.generator(conditions)
        shown = torch.where(scored > 0, made, image)
        judged = self._learn_to_tell(conditions, image, shown.detach())
        error = ((made - image).abs() * scored).sum() / scored.sum().clamp(min=LEAST_SCORED)
        fooled = self.says(self._look(conditions, shown), target_is_real=True, for_discriminator=False)
        _descend(self.optimizers[0], fooled + self.baseline.l1_weight * error)
        self.steps += 1
        return GanLosses(float(error.detach()), float(fooled.detach()), float(judged))

    def _learn_to_tell(self, conditions: Tensor, real: Tensor, made: Tensor) -> Tensor:
        """What is not scored is real in both: nothing is learned of it."""
        losses = [
            self.says(self._look(conditions, image), target_is_real=is_real, for_discriminator=True)
            for image, is_real in ((real, True), (made, False))
        ]
        loss = torch.stack(losses).mean()
        _descend(self.optimizers[1], loss)
        return loss.detach()

    def _look(self, conditions: Tensor, image: Tensor) -> Tensor:
        said: Tensor = self.discriminator(torch.cat((conditions, image), dim=1))[-1]
        return said


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@contextmanager
def _seeded(rng: torch.Generator, device: torch.device) -> Iterator[None]:
    """A block in which the global generator, which layers draw from, starts from a seed out of `rng`."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=rng)))
        yield


def draw_fill(generator: nn.Module, conditions: Tensor, seed: int) -> Tensor:
    """(B, 1, ...) units: one of the fills that the generator's dropout has. The same seed, the same fill."""
    rng = torch.Generator().manual_seed(seed)
    with torch.inference_mode(), _seeded(rng, conditions.device):
        made: Tensor = generator(conditions)
    return made
