"""The U-Net that outlines structures, its training, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lesionbrush.errors import WeightsError
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.mddpm.annotating.pairs import Pairs
from lesionbrush.systems.mddpm.annotating.variation import vary

CHANNELS, BATCH, LEARNING_RATE = (16, 32, 64, 96), 4, 2e-3
WINDOWS_HU = ((-1000.0, -400.0), (-160.0, 240.0), (-1000.0, 1000.0))


@dataclass(frozen=True, eq=False)
class Annotator:
    """network: (B, 3, SIDE, SIDE) to (B, S + 1, SIDE, SIDE) logits, nothing first; names: of the structures;
    made_by: what is to be known of its training."""

    network: nn.Module
    names: tuple[str, ...]
    made_by: Mapping[str, str]

    @torch.inference_mode()
    def chances(self, planes: np.ndarray) -> np.ndarray:
        """(B, S + 1, SIDE, SIDE) float32 of (B, SIDE, SIDE) HU."""
        said: Tensor = self.network(windowed(torch.from_numpy(planes)))
        found: np.ndarray = said.softmax(dim=1).numpy()
        return found

    def save(self, path: Path) -> None:
        """Weights of half precision, and in their metadata the names."""
        weights = {name: tensor.half().contiguous() for name, tensor in self.network.state_dict().items()}
        facts = {"names": json.dumps(self.names), "made_by": json.dumps(dict(self.made_by))}
        with whole_files(path) as (draft,):
            save_file(weights, draft, metadata=facts)

    @classmethod
    def load(cls, path: Path) -> Annotator:
        """WeightsError for anything but what `save` writes."""
        try:
            with safe_open(path, framework="pt") as file:
                facts: Mapping[str, str] = file.metadata() or {}
            names = tuple(json.loads(facts["names"]))
            network = make_network(len(names))
            network.load_state_dict({name: one.float() for name, one in load_file(path).items()})
            return cls(network.eval(), names, json.loads(facts["made_by"]))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise WeightsError(
                f"{path} is no annotator; make one with: run.py annotate learn ({error})"
            ) from error


def make_network(structures: int) -> nn.Module:
    return UNet(
        spatial_dims=2,
        in_channels=len(WINDOWS_HU),
        out_channels=structures + 1,
        channels=CHANNELS,
        strides=(2,) * (len(CHANNELS) - 1),
        num_res_units=1,
        norm="INSTANCE",
    )


def windowed(hu: Tensor) -> Tensor:
    """(B, 3, Y, X) in [-1, 1] of (B, Y, X) HU: in windows of lung, soft tissue and all."""
    shown = [(2 * (hu - low) / (high - low) - 1).clamp(-1, 1) for low, high in WINDOWS_HU]
    return torch.stack(shown, dim=1)


def train_annotator(
    pairs: Pairs, steps: int, seed: int, on_step: Callable[[float], object] = lambda loss: None
) -> nn.Module:
    """So many steps of `BATCH` varied pairs. on_step: told the loss; may raise to cancel."""
    rng = np.random.default_rng((seed, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(len(pairs.names))
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        score = DiceCELoss(softmax=True, to_onehot_y=True)
        for _ in range(steps):
            chosen = rng.integers(len(pairs.hu), size=BATCH)
            hu, labels = zip(*(vary(pairs.hu[k], pairs.labels[k], rng) for k in chosen), strict=True)
            loss = score(network(windowed(torch.stack(hu))), torch.stack(labels)[:, None])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            on_step(loss.item())
    return network.eval()
