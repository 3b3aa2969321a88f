"""A tiny model of soft tissue, and bodies of liver, fat and air to put lesions into."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import NETWORK, install, tiny_card
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue.model import CONDITIONS, SoftTissueInpainting
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD
from safetensors.torch import save_file

SECTION: dict[str, Any] = {
    "schedule": "cosine",
    "network": NETWORK.model_dump(mode="json"),
    "hu_scale": {"centre_hu": 50.0, "scale_hu": 250.0, "hu_per_unit": 400.0},
    "typical": {"share": 0.7, "fat_below_hu": -20.0, "fat_hu": 40.0, "spread_hu": 8.0},
}
LIVER_HU, FAT_HU, NOISE_HU = 110.0, -100.0, 12.0


def soft_card(**changes: Any) -> ModelCard:
    common = tiny_card().model_dump()
    common |= {"name": "tiny_soft", "system": "soft_tissue_inpainting", "window_hu": (-1024, 3071)}
    return ModelCard.model_validate({**common, "section": SECTION, **changes})


def soft_network(seed: int = 0) -> LesionUNet:
    """Random weights, also where training starts from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LesionUNet(LesionUNetConfig(len(TOLD), conditions=CONDITIONS, **NETWORK.model_dump()))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


@cache
def soft_model(seed: int = 0) -> SoftTissueInpainting:
    return SoftTissueInpainting(soft_card(), soft_network(seed), torch.device("cpu"))


def install_soft(root: Path, name: str = "tiny_soft") -> Path:
    """The tiny model as a folder of `root`. Returns the folder."""
    folder = install(root, name=name)
    save_file(soft_network().state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    card = soft_card(name=name, weights_sha256=digest)
    (folder / METADATA).write_text(json.dumps({"lesionbrush": json.loads(card.model_dump_json())}), "utf-8")
    return folder


def body(shape: tuple[int, int, int] = (44, 40, 24)) -> Volume:
    """Liver in the middle, fat around it, air outside; noise over all of it."""
    spacing_mm = (1.5, 1.5, 3.0)
    away = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    distance = np.sqrt(((away * np.array(spacing_mm)[:, None, None, None]) ** 2).sum(axis=0))
    hu = np.select([distance < 27, distance < 33], [LIVER_HU, FAT_HU], -1000.0)
    hu = hu + np.random.default_rng(0).normal(0, NOISE_HU, shape)
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    return Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), affine)


def ball_in(ct: Volume, radius_mm: float, offset_mm: tuple[float, float, float] = (0, 0, 0)) -> Volume:
    """A mask of a ball, so far from the middle of the CT."""
    middle = (np.array(ct.shape) - 1) / 2 * ct.spacing_mm + np.array(offset_mm)
    places = np.indices(ct.shape).transpose(1, 2, 3, 0) * np.array(ct.spacing_mm)
    return ct.with_array((np.linalg.norm(places - middle, axis=-1) <= radius_mm).astype(np.uint8))


def write_soft_data(root: Path) -> Path:
    """Data to measure on: an abdomen with a liver, a spleen, a kidney, muscle and fat, and nine limbs with
    a tumour. Returns the folder."""
    (root / "abdomen_ct").mkdir()
    (root / "sarcoma_ct").mkdir()
    ct = body((100, 60, 30))
    hu, organs = np.full(ct.shape, 60, np.int16), np.zeros(ct.shape, np.uint8)
    for k, (code, density) in enumerate(((6, 110), (1, 115), (2, 170), (0, 60), (0, -100))):
        part = slice(20 * k, 20 * k + 20)
        organs[part], hu[part] = code, density
    hu[5::11, 5::11, 5::11] = -50  # every part of it has something below 0, as a CT has
    noise = np.random.default_rng(0).normal(0, 5, ct.shape)
    write_volume(ct.with_array((hu + noise).astype(np.int16)), root / "abdomen_ct" / "CRLM-CT-1004.nii.gz")
    write_volume(ct.with_array(organs), root / "abdomen_ct" / "CRLM-CT-1004_organs.nii.gz")
    limb = body()
    names = [f"STS_{k:03d}" for k in range(9)]
    for name in names:
        write_volume(limb, root / "sarcoma_ct" / f"{name}_ct.nii.gz")
        write_volume(ball_in(limb, 20.0), root / "sarcoma_ct" / f"{name}_gtv.nii.gz")
    (root / "sarcoma_ct" / "index.csv").write_text("id\n" + "\n".join(names), encoding="utf-8")
    return root
