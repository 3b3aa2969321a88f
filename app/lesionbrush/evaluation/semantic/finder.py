"""Who finds the organs again: a small U-Net, trained here on real slices, that never sees what was asked for.

The paper asks TotalSegmentator, whose weights no package here brings. Ours learns at the start of a study
from the patients that the models were trained on; how good it is, the held-out patient's real slices say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lesionbrush.systems.semantic.classes import BODY, UNKNOWN
from lesionbrush.systems.semantic.data import LaidSlice, SemanticBatches
from lesionbrush.systems.semantic.layouts import without_tissues
from lesionbrush.systems.semantic.pack import ClassedCT
from lesionbrush.systems.semantic.recipes import ABDOMEN, RECIPES
from lesionbrush.training.runs import make_once

STEPS, BATCH, SIDE, LEARNING_RATE = 500, 4, 128, 3e-3
ZOOM = (1.2, 2.2)
"""Of the pixels it learns from, beside those of the models."""
GAIN, SHIFT, NOISE = 0.15, 0.1, 0.08
"""How differently a patient may enhance, in units of the window."""
SEED, AT_ONCE = 0, 8


class OrganFinder:
    """A trained U-Net. It sees slices in the abdomen's window and nothing else."""

    name = "small U-Net, trained here on real slices of the training patients"

    def __init__(self, network: UNet) -> None:
        self.network = network.eval()

    @torch.inference_mode()
    def find(self, hu: np.ndarray) -> np.ndarray:
        """uint8 (N, Y, X) classes of (N, Y, X) HU, sides multiples of 16."""
        images = torch.from_numpy(ABDOMEN.to_unit(hu.astype(np.float32)))[:, None]
        said = [self.network(part).argmax(dim=1) for part in images.split(AT_ONCE)]
        return torch.cat(said).to(torch.uint8).numpy()


def finder_network() -> UNet:
    """With first weights from the global generator."""
    return UNet(2, 1, BODY + 1, channels=(16, 32, 64, 96, 128), strides=(2, 2, 2, 2), num_res_units=1)


def trained_finder(cts: Sequence[ClassedCT], path: Path, steps: int = STEPS) -> OrganFinder:
    """The finder whose weights lie in `path`, trained first unless they do. cts: of training patients."""
    make_once(path, lambda draft: save_file(_train(cts, steps).state_dict(), draft))
    network = finder_network()
    network.load_state_dict(load_file(path))
    return OrganFinder(network)


def _train(cts: Sequence[ClassedCT], steps: int) -> UNet:
    recipe, rng = replace(RECIPES["ours"], zoom=ZOOM), torch.Generator().manual_seed(SEED)
    slices = SemanticBatches(cts, recipe, np.random.default_rng(SEED), recipe.patches)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = finder_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tqdm(range(steps), desc="organ finder", unit="step"):
        images, classes = _batch([slices.sample(SIDE) for _ in range(BATCH)], rng)
        optimizer.zero_grad()
        loss_of(network(images), classes).backward()
        optimizer.step()
        schedule.step()
    return network


def loss_of(said: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy and Dice of the classes that occur; what is unknown counts for neither."""
    known = classes != UNKNOWN
    wanted = F.one_hot(classes.where(known, torch.zeros_like(classes)), said.shape[1]).movedim(-1, 1)
    counted = known[:, None].to(said)
    chances, wanted = said.softmax(dim=1) * counted, wanted.to(said) * counted
    both, total = ((chances * wanted).sum((0, 2, 3)), (chances + wanted).sum((0, 2, 3)))
    there = wanted.sum((0, 2, 3)) > 0
    dice = (2 * both[there] / total[there]).mean() if there.any() else said.new_ones(())
    entropy = F.cross_entropy(said, classes, ignore_index=UNKNOWN, reduction="sum")
    return entropy / counted.sum().clamp(min=1) + 1 - dice


def _batch(slices: Sequence[LaidSlice], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 1, Y, X) units, brighter or darker and noisier at random, and (B, Y, X) classes."""
    images = torch.from_numpy(ABDOMEN.to_unit(np.stack([one.hu for one in slices]).astype(np.float32)))
    gain, shift, noise = torch.rand(3, len(images), 1, 1, generator=rng)
    varied = images * (1 + GAIN * (2 * gain - 1)) + SHIFT * (2 * shift - 1)
    varied = varied + NOISE * noise * torch.randn(images.shape, generator=rng)
    labels = np.stack([without_tissues(one.labels) for one in slices])
    return varied.clamp(-1, 1)[:, None], torch.from_numpy(labels.astype(np.int64))
