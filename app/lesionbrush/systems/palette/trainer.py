"""The trainer of Palette: what is known is clean at every noise level, the loss is of the hole alone."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from lesionbrush.diffusion.schedules import NoiseSchedule
from lesionbrush.systems.palette.data import PaletteBatch, conditions_of
from lesionbrush.systems.palette.network import PaletteUNet
from lesionbrush.systems.palette.noise import PALETTE_SCHEDULES
from lesionbrush.systems.palette.recipes import PaletteRecipe
from lesionbrush.training.noising import DiffusionLoop, Noised


class PaletteTrainer(DiffusionLoop[PaletteBatch]):
    """Trains a `PaletteUNet` on slices with holes."""

    recipe: PaletteRecipe
    network: PaletteUNet
    average: PaletteUNet

    def __init__(self, recipe: PaletteRecipe, device: torch.device, seed: int = 0) -> None:
        super().__init__(recipe, device, seed)
        self.average.eval()  # without dropout; the network itself keeps it

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return PALETTE_SCHEDULES[self.recipe.schedule](self.recipe.timesteps)

    def build(self) -> PaletteUNet:
        return PaletteUNet(self.recipe.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, network: nn.Module, batch: PaletteBatch, rng: torch.Generator) -> Tensor:
        """Dropout draws from the global generator: from a seed out of `rng`, so that runs can be repeated."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=rng)))
            return super().loss(network, batch, rng)

    def ask(self, network: nn.Module, at: Noised, batch: PaletteBatch) -> Tensor:
        hole = batch.hole.to(self.device)
        noisy = torch.where(hole > 0, at.noisy, at.clean)
        conditions = conditions_of(batch.masked.to(self.device), hole, self.recipe.network.shows_hole)
        said: Tensor = network(noisy, at.alpha.flatten() ** 2, conditions, batch.fill.to(self.device))
        return said
