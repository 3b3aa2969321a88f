"""Tiny networks of mDDPM in 2D and 3D, as models and as folders, and ROIs for them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import install, tiny_card, tiny_network
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.mddpm.boxes import MDDPM3D
from lesionbrush.systems.mddpm.guided import GuidedDiffusion
from lesionbrush.systems.mddpm.hooks import Followed
from lesionbrush.systems.mddpm.network import DDPMUNet
from lesionbrush.systems.mddpm.slices import MDDPM, network_config
from safetensors.torch import save_file

SIDE = 16
INPUTS = ("anatomy", "pathology", "pathology_mask")
NETWORK = {
    "dims": 2,
    "in_channels": 1,
    "channels": (8, 16),
    "attention": (False, False),
    "norm_groups": 4,
    "prediction": "v",
    "variance": "learned_range",
}


def guided_card(system: str, **changes: Any) -> ModelCard:
    own = (
        {"network": {**NETWORK, **changes.pop("network", {})}, "attributes": ()} if system == "mddpm" else {}
    )
    return tiny_card(**{"name": system, "system": system, **own, **changes})


def slice_network(card: ModelCard) -> DDPMUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DDPMUNet(network_config(card))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def guided_model(system: str, **changes: Any) -> GuidedDiffusion:
    card = guided_card(system, **changes)
    if system == "mddpm":
        return MDDPM(card, slice_network(card), torch.device("cpu"))
    return MDDPM3D(card, tiny_network(), torch.device("cpu"))


def install_guided(root: Path, system: str) -> Path:
    """The tiny model as a folder of `root`; mddpm_3d with the weights of the folder `tiny` beside it."""
    if system == "mddpm_3d":
        owner = install(root)
        digest = hashlib.sha256((owner / WEIGHTS).read_bytes()).hexdigest()
        return _write(root, guided_card(system, weights_from="tiny", weights_sha256=digest))
    folder = root / system
    (folder / WEIGHTS).parent.mkdir(parents=True)
    save_file(slice_network(guided_card(system)).state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return _write(root, guided_card(system, weights_sha256=digest))


def _write(root: Path, card: ModelCard) -> Path:
    path = root / card.name / METADATA
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"lesionbrush": json.loads(card.model_dump_json())}), encoding="utf-8")
    return root / card.name


def ball_at(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    index = np.indices((SIDE,) * 3)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(index, centre, strict=True)))
    return (distance <= radius).astype(np.float32)


def guided_rois(lesions: int = 1, *, pathology: bool = True, anatomy: bool = False) -> RoiBatch:
    """Lung with texture; a painted ball of 4 voxels, and another case's ball of 3 at 200 HU."""
    rng = np.random.default_rng(0)
    shape = (lesions, *(SIDE,) * 3)
    reference = rng.normal(-800, 30, shape).astype(np.float32)
    mask = np.repeat(ball_at((8, 8, 8), 4)[None], lesions, axis=0)
    editable = np.repeat(ball_at((8, 8, 8), 6)[None] > 0, lesions, axis=0)
    other = np.repeat(ball_at((8, 8, 8), 3)[None], lesions, axis=0)
    followed = Followed(
        anatomy_hu=np.full(shape, -400, np.float32) if anatomy else None,
        pathology_hu=np.full(shape, 200, np.float32) if pathology else None,
        pathology_mask=other if pathology else None,
    )
    return RoiBatch(reference, mask, editable, np.ones(shape, bool), own=followed)


def following(rois: RoiBatch, **changes: np.ndarray) -> RoiBatch:
    """The same, with something else to follow."""
    return replace(rois, own=replace(rois.own, **changes))
