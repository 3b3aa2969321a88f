"""The network that outlines lesions: MONAI's Attention U-Net, as in Lung-DDPM (Jiang et al. 2025), small."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import AttentionUnet
from torch import Tensor, nn

from lesionbrush.evaluation.downstream.samples import (
    LUNG_WINDOW_HU,
    LesionBox,
    WindowHu,
    collate,
    draw_batch,
    held_out_patches,
)

CHANNELS, BATCH, LEARNING_RATE = (8, 16, 32), 4, 2e-3
NEVER = -20.0
"""Logit of voxels without data: no loss, and never a lesion."""


def train_segmenter(
    samples: Sequence[LesionBox],
    steps: int,
    seed: int,
    on_step: Callable[[], object] = lambda: None,
    window_hu: WindowHu = LUNG_WINDOW_HU,
) -> nn.Module:
    """So many steps of `BATCH`, however many samples there are."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AttentionUnet(3, 2, 1, CHANNELS, (2,) * (len(CHANNELS) - 1))
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        score = DiceCELoss(sigmoid=True)
        for _ in range(steps):
            batch = draw_batch(samples, BATCH, rng, window_hu)
            loss = score(_logits(network, batch.shown), batch.inside)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            on_step()
    return network.eval()


def _logits(network: nn.Module, shown: Tensor) -> Tensor:
    said: Tensor = network(shown)
    return said.masked_fill(shown[:, 1:] <= 0, NEVER)


@torch.inference_mode()
def outline(
    network: nn.Module, samples: Sequence[LesionBox], window_hu: WindowHu = LUNG_WINDOW_HU
) -> np.ndarray:
    """(N, *SHAPE) logits, on the patches of `held_out_patches`: above 0 is lesion, without data `NEVER`."""
    patches = held_out_patches(samples)
    parts = [patches[k : k + BATCH] for k in range(0, len(patches), BATCH)]
    found = [_logits(network, collate(part, window_hu).shown)[:, 0] for part in parts]
    return torch.cat(found).numpy()
