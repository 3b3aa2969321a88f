"""A tiny network of semantic CT, one that says what it is told, and a folder of made-up data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import ball, grid, tiny_card
from lesionbrush.core.inputs import Layout
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.systems.semantic.card import SemanticCard
from lesionbrush.systems.semantic.classes import BODY, ORGANS
from lesionbrush.systems.semantic.model import SemanticCT, network_config
from lesionbrush.systems.semantic.network import SemanticUNet, SemanticUNetConfig
from safetensors.torch import save_file
from torch import Tensor

CPU = torch.device("cpu")
WINDOW = {"lo_hu": -160.0, "hi_hu": 240.0}
FULL = {"centre_hu": 50.0, "scale_hu": 200.0, "hu_per_unit": 200.0}
NETWORK: dict[str, Any] = {
    "conditioning": "conditional",
    "channels": (8, 16),
    "attention": (False, True),
    "blocks": 1,
    "heads": 2,
    "norm_groups": 4,
    "prediction": "x0",
}

ORGANS_HU = {6: 110, 2: 180, 3: 170, 1: 130}
PLACES = {6: (26, 20), 2: (27, 10), 3: (12, 10), 1: (11, 22)}
"""x and y of the middle of liver, kidneys and spleen; x to the right."""


def make_abdomen(seed: int = 0, slices: int = 12) -> tuple[Volume, Volume]:
    """A CT at 5 mm with a body of fat, muscle, a spine, four organs, and their labels in AMOS codes."""
    rng = np.random.default_rng(seed)
    ct = Volume(np.zeros((40, 32, slices), np.int16, order="F"), grid((5.0, 5.0, 5.0)))
    x, y, _ = np.indices(ct.shape)
    hu = np.full(ct.shape, -1000.0)
    inside = ((x - 19.5) / 18) ** 2 + ((y - 15.5) / 14) ** 2
    hu[inside < 1] = -100
    hu[inside < 0.8] = 40
    hu[np.hypot(x - 19.5, y - 5) < 2.5] = 500
    labels = np.zeros(ct.shape, np.uint8)
    for number, (at_x, at_y) in PLACES.items():
        organ = ball(ct, (at_x, at_y, slices // 2), 24.0).array > 0
        labels[organ], hu[organ] = number, ORGANS_HU[number]
    hu = hu + np.where(hu > -500, rng.normal(0, 10, ct.shape), 0)
    return ct.with_array(np.asfortranarray(hu.round().astype(np.int16))), ct.with_array(labels)


def write_semantic_data(folder: Path) -> Path:
    """Three abdomens, of which one is held out, and a chest without labels."""
    for part in ("abdomen_ct", "chest_ct"):
        (folder / part).mkdir(parents=True)
    for seed, name in enumerate(("CRLM-CT-1006", "CRLM-CT-1004", "TCGA-09-2043")):
        ct, labels = make_abdomen(seed, slices=170 if name == "TCGA-09-2043" else 12)
        write_volume(ct, folder / "abdomen_ct" / f"{name}.nii.gz")
        write_volume(labels, folder / "abdomen_ct" / f"{name}_organs.nii.gz")
    write_volume(make_abdomen(3, slices=60)[0], folder / "chest_ct" / "R01-001.nii.gz")
    return folder


def semantic_card(*, network: dict[str, Any] | None = None, **section: Any) -> ModelCard:
    """Slices of 32, 48 or 64 pixels of 4 mm. section: of the card."""
    system = section.pop("system", "semantic")
    own = {
        "schedule": "cosine",
        "timesteps": 1000,
        "scale": WINDOW,
        "classes": (*ORGANS[:7], "body"),
        "network": {**NETWORK, **(network or {})},
        **section,
    }
    common = {"name": system, "system": system, "window_hu": (-1024, 3071), "roi_voxels": (32, 48, 64)}
    facts = tiny_card(**common, spacing_mm=4.0).model_dump()
    return ModelCard.model_validate({**facts, "section": own})


def semantic_network(card: ModelCard) -> SemanticUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SemanticUNet(network_config(SemanticCard.of(card).network))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def semantic_model(**section: Any) -> SemanticCT:
    card = semantic_card(**section)
    return SemanticCT(card, semantic_network(card), CPU)


class Painter(SemanticUNet):
    """Says of each class its own HU, 20 for each number below the body's, and remembers what it was shown."""

    def __init__(self, config: SemanticUNetConfig) -> None:
        super().__init__(config)
        self.asked = list[tuple[Tensor, ...]]()

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        self.asked.append((noisy.clone(), timesteps.clone(), conditions.clone()))
        number = conditions[:, :1] * BODY
        hu = torch.where(number > BODY - 0.5, -60.0, 20 * number)
        return torch.cat(((hu - 40) / 200, torch.zeros_like(hu)), dim=1)


def painting(**section: Any) -> SemanticCT:
    card = semantic_card(**section)
    return SemanticCT(card, Painter(network_config(SemanticCard.of(card).network)), CPU)


def install_semantic(root: Path, system: str = "semantic") -> Path:
    """The tiny model as a folder of `root`."""
    card, folder = semantic_card(system=system), root / system
    (folder / WEIGHTS).parent.mkdir(parents=True)
    save_file(semantic_network(card).state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / METADATA).parent.mkdir(parents=True)
    whole = {**json.loads(card.model_dump_json()), "weights_sha256": digest}
    (folder / METADATA).write_text(json.dumps({"lesionbrush": whole}), encoding="utf-8")
    return folder


NAMES = {1: "spleen", 2: "right kidney", 3: "left kidney", 6: "liver"}


def named_layout(labels: Volume, **names: str) -> Layout:
    return Layout(labels, {**NAMES, **{int(number[1:]): name for number, name in names.items()}})


def move(labels: Volume, number: int, voxels: tuple[int, int, int]) -> Volume:
    """The organ with this number so many voxels away; where it was there is nothing."""
    organ = labels.array == number
    there = np.roll(organ, voxels, axis=(0, 1, 2))
    array = np.where(organ, 0, labels.array)
    return labels.with_array(np.where(there, number, array).astype(np.uint8))
