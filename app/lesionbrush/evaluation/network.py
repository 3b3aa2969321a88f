"""Small 3D networks of an evaluation: a critic, and a reader whose features FID and MMD are measured on.

Both are trained here, on real and made nodules alone: no weights are fetched. Seeded; CPU minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from lesionbrush.evaluation.patches import Patch, resize

SIDE = 24
WINDOWS_HU = ((-1000.0, 0.0), (-200.0, 300.0))
"""Lung and soft tissue, each to its own channel: a critic must see faults of either."""
DETAIL_HU = 80.0
CHANNELS = 4


@dataclass(frozen=True)
class TrainingPlan:
    """How long a network is trained: epochs, but no fewer than `least_steps` batches of `batch` patches."""

    epochs: int = 30
    least_steps: int = 120
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


def tensor_of(patches: list[Patch], side: int = SIDE) -> np.ndarray:
    """(N, 4, side, side, side) float32: HU in both windows, its fine detail, -1 to 1, and the mask."""
    out = np.empty((len(patches), CHANNELS, side, side, side), np.float32)
    for row, patch in zip(out, patches, strict=True):
        small = resize(patch, side)
        for channel, (low, high) in zip(row, WINDOWS_HU, strict=False):
            channel[:] = np.clip((small.hu - low) / (high - low), 0, 1) * 2 - 1
        near = binary_dilation(small.inside, iterations=3)  # all that a synthesis may change
        detail = near * np.abs(small.hu - gaussian_filter(small.hu, 1.0))
        row[2] = np.minimum(detail / DETAIL_HU, 1) * 2 - 1
        row[3] = small.inside
    return out


class Net(nn.Module):
    """Three convolutions on blocks of 2 x 2 x 2 voxels (nothing is averaged away), pooled; one layer."""

    def __init__(self, outputs: int, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, stride in ((8 * CHANNELS, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)):
            layers += [nn.Conv3d(a, b, 3, stride=stride, padding=1), nn.GroupNorm(4, b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(8 * width, outputs))

    def features(self, x: Tensor) -> Tensor:
        """(B, CHANNELS, Z, Y, X), even sides, to (B, 8 width): each channel's mean and maximum."""
        body = self.body(_blocks(x))
        return torch.cat((body.mean(dim=(2, 3, 4)), body.amax(dim=(2, 3, 4))), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.features(x))
        return result


def _blocks(x: Tensor) -> Tensor:
    """(B, C, Z, Y, X) to (B, 8 C, Z/2, Y/2, X/2)."""
    b, c, z, y, w = x.shape
    parts = x.reshape(b, c, z // 2, 2, y // 2, 2, w // 2, 2)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, z // 2, y // 2, w // 2)


def turn(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random mirror image, and an in-plane transpose half of the time; one choice per batch."""
    draws = torch.rand(4, generator=generator).tolist()
    axes = [axis for axis, draw in zip((2, 3, 4), draws, strict=False) if draw < 0.5]
    x = x.flip(axes) if axes else x
    return x.transpose(3, 4) if draws[3] < 0.5 else x


def fit(X: np.ndarray, targets: np.ndarray, training: TrainingPlan) -> Net:
    """A network for (N, T) targets: NaN is not scored. One 0/1 target is learned as a probability."""
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    network = Net(targets.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=1e-2)
    inputs, wanted = torch.from_numpy(X), torch.from_numpy(targets.astype(np.float32))
    binary = bool(np.isin(targets, (0, 1)).all())
    steps = max(training.least_steps, training.epochs * len(X) // training.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=steps)
    for _ in range(steps):
        rows = torch.randperm(len(X), generator=generator)[: training.batch]
        batch = turn(inputs[rows], generator)
        batch = batch + 0.02 * torch.randn(len(rows), 1, 1, 1, 1, generator=generator)
        loss = _loss(network(batch), wanted[rows], binary)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _loss(found: Tensor, wanted: Tensor, binary: bool) -> Tensor:
    known = ~wanted.isnan()
    if binary:
        return F.binary_cross_entropy_with_logits(found[known], wanted[known])
    return F.smooth_l1_loss(found[known], wanted[known])


class CNN:
    """A critic with a network; see `critic.Classifier`. X: rows of `tensor_of`."""

    def __init__(self, training: TrainingPlan = TrainingPlan()) -> None:
        self.training = training
        self.network: Net | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> CNN:
        self.network = fit(X, y[:, None].astype(np.float64), self.training)
        return self

    @torch.inference_mode()
    def decision(self, X: np.ndarray) -> np.ndarray:
        """Mean over the mirror images in-plane. Fit first."""
        if self.network is None:
            raise ValueError("this critic has not been fitted")
        x = torch.from_numpy(X)
        views = (x, x.flip(3), x.flip(4), x.flip((3, 4)))
        return torch.stack([self.network(view)[:, 0] for view in views]).mean(dim=0).numpy()


@torch.inference_mode()
def network_features(network: Net, X: np.ndarray) -> np.ndarray:
    """(N, D) features, float64."""
    parts = [network.features(torch.from_numpy(X[k : k + 16])) for k in range(0, len(X), 16)]
    return torch.cat(parts).double().numpy()
