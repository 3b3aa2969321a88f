"""Tiny networks of Lung-DDPM and Lung-DDPM+, as models, and ROIs for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import tiny_card
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.lung_ddpm.cube import LungDDPMPlus
from lesionbrush.systems.lung_ddpm.model import LayoutDiffusion, network_config
from lesionbrush.systems.lung_ddpm.whole import LungDDPM
from lesionbrush.systems.med_unet import MedUNet
from safetensors.torch import save_file
from torch import Tensor, nn

SIDE = 16
SYSTEMS: dict[str, type[LayoutDiffusion]] = {"lung_ddpm": LungDDPM, "lung_ddpm_plus": LungDDPMPlus}


def layout_card(system: str, **changes: Any) -> ModelCard:
    """One cube of 16 voxels: around both lungs, or of 2 mm around a lesion."""
    whole = system == "lung_ddpm"
    network = {
        "dims": 3,
        "in_channels": 3 if whole else 2,
        "channels": (8, 16),
        "attention": (False, True),
        "norm_groups": 4,
        "prediction": "v",
    }
    network |= changes.pop("network", {})
    facts = {
        "name": system,
        "system": system,
        "roi_voxels": (SIDE,),
        "timesteps": 250,
        "network": network,
        "attributes": (),
        **changes,
    }
    return tiny_card(**facts)


def layout_network(card: ModelCard) -> MedUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MedUNet(network_config(card))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def layout_model(system: str, **changes: Any) -> LayoutDiffusion:
    card = layout_card(system, **changes)
    return SYSTEMS[system](card, layout_network(card), torch.device("cpu"))


def install_layout_model(root: Path, system: str, **changes: Any) -> Path:
    """A model folder with random weights."""
    card = layout_card(system, **changes)
    folder = root / card.name
    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    save_file(layout_network(card).state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    facts = {**json.loads(card.model_dump_json()), "weights_sha256": digest}
    (folder / METADATA).write_text(json.dumps({"lesionbrush": facts}), encoding="utf-8")
    return folder


class Witness(nn.Module):
    """A network that answers with `says(inputs, timestep)`, and remembers what it was given."""

    def __init__(self, says: Callable[[Tensor, float], Tensor]) -> None:
        super().__init__()
        self.says = says
        self.given: list[tuple[Tensor, float]] = []

    def forward(self, inputs: Tensor, timesteps: Tensor) -> Tensor:
        self.given.append((inputs.clone(), float(timesteps[0])))
        return self.says(inputs, float(timesteps[0]))


def witness(system: str, says: Callable[[Tensor, float], Tensor], **changes: Any) -> LayoutDiffusion:
    return SYSTEMS[system](layout_card(system, **changes), Witness(says), torch.device("cpu"))


def always(unit: float) -> Callable[[Tensor, float], Tensor]:
    return lambda inputs, timestep: torch.full_like(inputs[:, :1], unit)


def rois(lesions: int = 1) -> RoiBatch:
    """Random HU; per lesion a nodule of 4³ voxels in a larger lung (`own`), and an edit region around it."""
    hu = np.random.default_rng(0).uniform(-1000, 1000, (lesions, *(SIDE,) * 3)).astype(np.float32)
    mask, lungs = np.zeros_like(hu), np.zeros_like(hu)
    mask[:, 6:10, 6:10, 5:9] = 1
    lungs[:, 2:14, 3:13, 2:12] = 1
    editable = np.zeros(hu.shape, bool)
    editable[:, 5:11, 5:11, 4:10] = True
    return RoiBatch(hu, mask, editable, np.ones(hu.shape, bool), own=lungs)
