"""A tiny Palette, networks with closed-form answers, an abdomen of formulas, and a folder of made-up data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import ball, grid, tiny_card
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.systems.palette.card import PaletteCard
from lesionbrush.systems.palette.model import Palette, network_config
from lesionbrush.systems.palette.network import PaletteUNet, PaletteUNetConfig
from lesionbrush.systems.palette.request import PaletteRequest
from safetensors.torch import save_file
from torch import Tensor

CPU = torch.device("cpu")
SIDE, DEPTH = 32, 5
SOFT = {"lo_hu": -150.0, "hi_hu": 250.0}
FULL = {"centre_hu": 50.0, "scale_hu": 200.0, "hu_per_unit": 200.0}
NETWORK: dict[str, Any] = {
    "channels": (8, 16),
    "attention": (False, True),
    "blocks": 1,
    "norm_groups": 4,
    "head_channels": 8,
    "level": "log_snr",
    "shows_hole": True,
    "classes": 9,
    "prediction": "x0",
    "data_spread": 0.5,
}


def palette_card(*, network: dict[str, Any] | None = None, **section: Any) -> ModelCard:
    """Slices of 32 or 48 pixels of 2 mm. section: of the card, in place of the soft tissue window's."""
    own = {
        "schedule": "cosine",
        "timesteps": 1000,
        "scale": SOFT,
        "fills": ("liver", "tumour", "healthy"),
        "network": {**NETWORK, **(network or {})},
        **section,
    }
    common = {"name": "palette", "system": "palette", "window_hu": (-1024, 3071), "roi_voxels": (32, 48)}
    facts = tiny_card(**common).model_dump()
    return ModelCard.model_validate({**facts, "section": own})


def palette_network(card: ModelCard) -> PaletteUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PaletteUNet(network_config(PaletteCard.of(card).network))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def palette_model(**section: Any) -> Palette:
    card = palette_card(**section)
    return Palette(card, palette_network(card), CPU)


class Says(PaletteUNet):
    """Says x_0 by a function of what it is asked, and remembers the questions."""

    def __init__(self, answer: Callable[[Tensor], Tensor] | float, config: PaletteUNetConfig) -> None:
        super().__init__(config)
        self.answer, self.asked = answer, list[tuple[Tensor, ...]]()

    def forward(self, noisy: Tensor, gamma: Tensor, conditions: Tensor, fill: Tensor) -> Tensor:
        self.asked.append((noisy.clone(), gamma.clone(), conditions.clone(), fill.clone()))
        return torch.full_like(noisy, self.answer) if isinstance(self.answer, float) else self.answer(noisy)


def saying(answer: Callable[[Tensor], Tensor] | float, **section: Any) -> Palette:
    card = palette_card(**section)
    return Palette(card, Says(answer, network_config(PaletteCard.of(card).network)), CPU)


def install_palette(root: Path) -> Path:
    """The tiny model as a folder of `root`."""
    card, folder = palette_card(), root / "palette"
    (folder / WEIGHTS).parent.mkdir(parents=True)
    save_file(palette_network(card).state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / METADATA).parent.mkdir(parents=True)
    whole = {**json.loads(card.model_dump_json()), "weights_sha256": digest}
    (folder / METADATA).write_text(json.dumps({"lesionbrush": whole}), encoding="utf-8")
    return folder


def make_liver(shape: tuple[int, int, int] = (40, 36, 14), affine: np.ndarray | None = None) -> Volume:
    """Noisy soft tissue of 100 HU in fat, with a rib of bone and a bubble of gas."""
    rng = np.random.default_rng(0)
    hu = rng.normal(100, 12, shape)
    hu[:4] = rng.normal(-100, 8, hu[:4].shape)
    hu[18:22, 28:31] = 900
    hu[30:33, 8:11] = -950
    return Volume(
        np.asfortranarray(hu.round().astype(np.int16)), grid((1.2, 1.2, 4.0)) if affine is None else affine
    )


def liver_rois(lesions: int = 1, slice_mm: float = 4.0) -> RoiBatch:
    """Liver of 100 HU; a cylinder of radius 5 pixels to fill, in three slices of five."""
    rng = np.random.default_rng(1)
    shape = (lesions, DEPTH, SIDE, SIDE)
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    mask = np.zeros(shape, np.float32)
    mask[:, 1:4] = np.hypot(y, x) <= 5
    editable = np.zeros(shape, bool)
    editable[:, 1:4] = np.hypot(y, x) <= 7
    hu = rng.normal(100, 12, shape).astype(np.float32)
    return RoiBatch(hu, mask, editable, np.ones(shape, bool), spacing_mm=2.0, own=slice_mm)


def sampled(model: Palette, rois: RoiBatch, seeds: tuple[int, ...] = (0,), **request: Any) -> Sampled:
    asked = PaletteRequest.model_validate({"steps": 3, **request})
    return model.sample(rois, asked, seeds, lambda done, total: None)


SARCOMAS = tuple(f"STS_{number:03d}" for number in range(1, 12))


def write_palette_data(folder: Path) -> Path:
    """Eleven sarcomas, of which three are seen, three abdomens and a chest."""
    for part in ("sarcoma_ct", "abdomen_ct", "chest_ct"):
        (folder / part).mkdir(parents=True)
    rows = ["id,nx", *(f"{name},40" for name in SARCOMAS)]
    (folder / "sarcoma_ct" / "index.csv").write_text("\n".join(rows), encoding="utf-8")
    for name in SARCOMAS:
        _write(folder / "sarcoma_ct", name, "_ct", "_gtv", {1: (14, 16)})
    for name in ("CRLM-CT-1006", "CRLM-CT-1004", "TCGA-09-2043"):
        _write(folder / "abdomen_ct", name, "", "_organs", {6: (10, 18), 2: (28, 18), 1: (18, 8)})
    _write(folder / "chest_ct", "R01-001", "", "_lungs", {1: (20, 18)}, hu=-800)
    return folder


def _write(
    folder: Path, name: str, image: str, labels: str, organs: dict[int, tuple[int, int]], hu: int = 60
) -> None:
    """A CT of 90 slices with organs that are balls, each at a place (x, y), and its label volume."""
    ct = Volume(
        np.random.default_rng(len(name)).normal(hu, 10, (40, 36, 90)).round().astype(np.int16),
        grid((2.0, 2.0, 4.0)),
    )
    ct.array[:2] = -1000  # air: without any, it would be no CT
    found = np.zeros(ct.shape, np.uint8)
    for number, (x, y) in organs.items():
        for z in (15, 84):
            found[ball(ct, (x, y, z), 14.0).array > 0] = number
    write_volume(ct, folder / f"{name}{image}.nii.gz")
    write_volume(ct.with_array(found), folder / f"{name}{labels}.nii.gz")
