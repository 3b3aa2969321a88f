"""The trainer of MedSyn: both networks in one run, noise on all four channels (Eqs. 9, 10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lesionbrush.systems.medsyn.data import MedSynBatch
from lesionbrush.systems.medsyn.expected import Expectation
from lesionbrush.systems.medsyn.network import MedSynUNets
from lesionbrush.systems.medsyn.recipes import MedSynRecipe
from lesionbrush.systems.medsyn.text.encoder import WordEncoder
from lesionbrush.systems.running import in_channels_last
from lesionbrush.training.levels import Levels
from lesionbrush.training.noising import DiffusionLoop, Noised


class MedSynTrainer(DiffusionLoop[MedSynBatch]):
    """A batch with a text is the low resolution's, one without is of tiles."""

    recipe: MedSynRecipe
    network: MedSynUNets
    average: MedSynUNets

    def __init__(
        self,
        recipe: MedSynRecipe,
        device: torch.device,
        seed: int,
        encoder: WordEncoder | None,
        expectation: Expectation | None = None,
    ) -> None:
        self._encoder, self._expectation = encoder, expectation
        super().__init__(recipe, device, seed)

    def build(self) -> MedSynUNets:
        networks = self.recipe.network
        return in_channels_last(MedSynUNets(networks.low, networks.high, self._encoder, self._expectation))

    def levels(self, batch: MedSynBatch) -> Levels:
        """What a text decides is large: it is still seen where single voxels are long lost in noise."""
        recipe = self.recipe
        return recipe.levels if batch.text is None or recipe.low_levels is None else recipe.low_levels

    def ask(self, network: nn.Module, at: Noised, batch: MedSynBatch) -> Tensor:
        assert isinstance(network, MedSynUNets)
        text = None if batch.text is None else batch.text.to(self.device)
        part = network.high if text is None else network.low
        said: Tensor = part(at.noisy, at.t.to(self.device), batch.shown.to(self.device), text)
        return said
