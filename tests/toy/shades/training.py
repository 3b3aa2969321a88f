"""What `run.py train shades` does: the network learns to give back what was left out of a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lesionbrush.core.roi import Orientation
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.systems.running import pick_device
from lesionbrush.training.loop import Loop
from lesionbrush.training.recipes import Patches, Recipe, by_name
from lesionbrush.training.runs import run_training
from lesionbrush.training.trainings import Run, Training
from lesionbrush_system_shades.model import SliceNet
from torch import Tensor


class Slices:
    """Patches of axial slices, without end. views: (Z, Y, X) in the network's units, one of each CT."""

    def __init__(self, views: list[np.ndarray], patches: Patches, rng: np.random.Generator) -> None:
        self.views, self.patches, self.rng = views, patches, rng

    def draw(self) -> Tensor:
        """(N, 1, side, side)."""
        side, count = self.patches.draw(self.rng)
        return torch.from_numpy(np.stack([self._patch(side) for _ in range(count)])[:, None])

    def _patch(self, side: int) -> np.ndarray:
        view = self.views[self.rng.integers(len(self.views))]
        z, y, x = (int(self.rng.integers(n)) for n in (len(view), *(s - side + 1 for s in view.shape[1:])))
        return view[z, y : y + side, x : x + side]


class ShadesTrainer(Loop[Tensor]):
    """Trains a `SliceNet`; the recipe's network is its width."""

    recipe: Recipe[int]

    def build(self) -> SliceNet:
        return SliceNet(self.recipe.network)

    def loss(self, network: torch.nn.Module, batch: Tensor, rng: torch.Generator) -> Tensor:
        """Squared error where the middle of each slice was noise, and its mean the shade asked for."""
        batch, quarter = batch.to(self.device), batch.shape[-1] // 4
        mask = torch.zeros_like(batch)
        mask[..., quarter:-quarter, quarter:-quarter] = 1
        noise = torch.randn(batch.shape, generator=rng).to(self.device)
        shade = (batch * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
        given = torch.cat([torch.lerp(batch, noise, mask), mask, shade.expand_as(batch)], dim=1)
        return (network(given) - batch).square().mean()


class ShadesTraining(Training[Recipe[int]]):
    recipes = by_name(
        Recipe(
            name="ours",
            source="the example of CONTRIBUTING.md",
            network=4,
            prediction="x0",
            patches=Patches(sides=(32,), shares=(1.0,), counts=(4,)),
            steps=200,
            validate_every=10,
        )
    )

    def run(self, recipe: Recipe[int], run: Run) -> None:
        """`run.data` holds CTs; the last of them is held out."""
        trainer = ShadesTrainer(recipe, pick_device(run.device), run.seed)
        *seen, held_out = (recipe.window.to_unit(hu) for hu in views_in(run.data))
        validation = Slices([held_out], recipe.patches, np.random.default_rng(1))
        run_training(trainer, Slices(seen, recipe.patches, trainer.numpy_rng), validation, run)


def views_in(data: Path) -> list[np.ndarray]:
    """(Z, Y, X) HU of each. InvalidRequest for fewer than two."""
    cts = [read_volume(path) for path in sorted(data.glob("*.nii.gz"))]
    if len(cts) < 2:
        raise InvalidRequest(f"{data} has {len(cts)} CTs (*.nii.gz): give two or more, one is held out")
    return [Orientation.of(ct.affine).view(ct.array) for ct in cts]
