"""A tiny Med-DDPM, one that says what it is told to, and ROIs for them."""

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
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.model import MedDDPM, network_config
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.med_unet import MedUNet
from lung_ddpm_kit import Witness
from safetensors.torch import save_file
from torch import Tensor

CPU = torch.device("cpu")
SIDE = 16
SOFT = {"lo_hu": -150.0, "hi_hu": 250.0}
FULL = {"centre_hu": 50.0, "scale_hu": 250.0, "hu_per_unit": 400.0}
NETWORK: dict[str, Any] = {
    "dims": 3,
    "in_channels": 4,
    "channels": (8, 16),
    "attention": (False, True),
    "norm_groups": 4,
    "prediction": "x0",
}


def med_card(*, network: dict[str, Any] | None = None, **section: Any) -> ModelCard:
    """Cubes of 16 or 24 voxels of 2 mm. section: of the card, in place of the full HU scale's."""
    shape = {**NETWORK, **(network or {})}
    own = {"schedule": "cosine", "timesteps": 250, "scale": FULL, "network": shape, **section}
    facts = tiny_card(name="med_ddpm", system="med_ddpm", window_hu=(-1024, 3071)).model_dump()
    return ModelCard.model_validate({**facts, "section": own})


def med_network(card: ModelCard) -> MedUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MedUNet(network_config(MedDDPMCard.of(card)))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def med_model(**section: Any) -> MedDDPM:
    card = med_card(**section)
    return MedDDPM(card, med_network(card), CPU)


def saying(says: Callable[[Tensor, float], Tensor], **section: Any) -> tuple[MedDDPM, Witness]:
    """A model whose network answers so, and the network, which remembers what it was asked."""
    network = Witness(says)
    return MedDDPM(med_card(**section), network, CPU), network  # type: ignore[arg-type]


def install_med(root: Path, **section: Any) -> Path:
    """The tiny model as a folder of `root`."""
    card, folder = med_card(**section), root / "med_ddpm"
    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    save_file(med_network(card).state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    whole = {**json.loads(card.model_dump_json()), "weights_sha256": digest}
    (folder / METADATA).write_text(json.dumps({"lesionbrush": whole}), encoding="utf-8")
    return folder


def liver_rois(lesions: int = 1) -> RoiBatch:
    """Noisy tissue of 100 HU with a sheet of bone through the hole: a mask of 4³ voxels in one of 6³."""
    shape = (lesions, SIDE, SIDE, SIDE)
    hu = np.random.default_rng(1).normal(100, 12, shape).astype(np.float32)
    hu[:, :, 10] = 900
    mask, editable = np.zeros(shape, np.float32), np.zeros(shape, bool)
    mask[:, 6:10, 6:10, 5:9] = 1
    editable[:, 5:11, 5:11, 4:10] = True
    return RoiBatch(hu, mask, editable, np.ones(shape, bool), spacing_mm=2.0)


def sampled(model: MedDDPM, rois: RoiBatch, seeds: tuple[int, ...] = (0,), **request: Any) -> Sampled:
    asked = MedDDPMRequest.model_validate({"steps": 3, **request})
    return model.sample(rois, asked, seeds, lambda done, total: None)
