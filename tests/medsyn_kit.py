"""Tiny networks of MedSyn, one that says what it is told, and a made-up chest in its field."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_fixtures import tiny_card
from lesionbrush.anatomy.chest.naming import LEFT_UPPER, RIGHT_LOWER, RIGHT_UPPER
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard, file_sha256
from lesionbrush.reports.findings import ChestFindings, Measurement
from lesionbrush.systems.medsyn.channels import AIRWAY_BIT, HEART_BIT, VESSEL_BIT
from lesionbrush.systems.medsyn.expected import Expectation
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.network import MedSynConfig, MedSynUNets
from lesionbrush.systems.medsyn.pack import HIGH, PackedChest
from lesionbrush.systems.medsyn.text.encoder import EncoderSizes, WordEncoder
from lesionbrush.systems.medsyn.text.vocabulary import Vocabulary
from safetensors.torch import save_file

WORDS = ("%", "large", "right", "left", "pleural", "effusion", "no", "emphysema", "heart", "cardiomegaly")
LOW = MedSynConfig(1, (8, 16), (False, True), heads=2, norm_groups=4, fold=8, text_width=16, pooled=8)
FINE = MedSynConfig(4, (8, 16), (False, True), heads=2, norm_groups=4, fold=8)
MEASURED = Measurement(value=0.0)


def make_networks(seed: int = 0, *, words: bool = True) -> MedSynUNets:
    """words: with an encoder of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = WordEncoder(Vocabulary.of([" ".join(WORDS)], 1), EncoderSizes(16, 1, 2, 32))
        networks = MedSynUNets(LOW, FINE, encoder if words else None)
        for parameter in networks.parameters():  # the last layers of MONAI's begin at zero
            parameter.data += 0.05 * torch.randn_like(parameter)
    return networks


def medsyn_card(networks: MedSynUNets, **facts: Any) -> ModelCard:
    encoder = networks.encoder
    words = None if encoder is None else asdict(encoder.sizes) | {"words": encoder.vocabulary.words}
    section = {
        "schedule": "cosine",
        "timesteps": 1000,
        "low": asdict(LOW),
        "high": asdict(FINE),
        "prediction": "x0",
        "tile": 96,
        "words": words,
    }
    common = {"name": "tiny_medsyn", "system": "medsyn", "window_hu": (-1024.0, 600.0)}
    return ModelCard.model_validate({**tiny_card().model_dump(), **common, "section": section, **facts})


def silent_model(expectation: Expectation) -> MedSyn:
    """Networks that say nothing of what differs from what is expected."""
    networks = MedSynUNets(replace(LOW, shown=5), FINE, make_networks().encoder, expectation)
    for part in (networks.low, networks.high):
        for parameter in part.parameters():
            parameter.data.zero_()
    section = {"low": asdict(replace(LOW, shown=5)), "low_side": 32, "residual": True}
    card = medsyn_card(networks)
    card = card.model_copy(update={"section": {**card.section, **section}})
    assert networks.encoder is not None
    return MedSyn(card, networks, networks.encoder, torch.device("cpu"))


def medsyn_model(seed: int = 0) -> MedSyn:
    networks = make_networks(seed)
    assert networks.encoder is not None
    return MedSyn(medsyn_card(networks), networks, networks.encoder, torch.device("cpu"))


def install_medsyn(folder: Path, *, words: bool = True, **facts: Any) -> Path:
    """A model folder, weights and all."""
    networks = make_networks(words=words)
    (folder / METADATA).parent.mkdir(parents=True)
    (folder / WEIGHTS).parent.mkdir(parents=True)
    save_file({name: one.contiguous() for name, one in networks.state_dict().items()}, folder / WEIGHTS)
    card = medsyn_card(networks, weights_sha256=file_sha256(folder / WEIGHTS), **facts)
    (folder / METADATA).write_text(json.dumps({"lesionbrush": json.loads(card.model_dump_json())}))
    return folder


@cache
def packed_chest() -> PackedChest:
    """Two lungs of 128 x 96 x 64 voxels a side of a heart, an airway and a vessel in the right one."""
    z, y, x = np.indices((HIGH // 4,) * 3, sparse=True)
    deep = (abs(z - 32) < 16) & (abs(y - 32) < 12)
    left, right = deep & (abs(x - 16) < 8), deep & (abs(x - 48) < 8)
    heart = (abs(z - 28) < 6) & (abs(y - 34) < 8) & (abs(x - 31.5) < 7)
    labels = np.zeros((HIGH // 4,) * 3, np.uint8)
    labels[left], labels[right & (z >= 32)], labels[right & (z < 32)] = LEFT_UPPER, RIGHT_UPPER, RIGHT_LOWER
    labels[heart] |= np.uint8(HEART_BIT)
    labels[right & (abs(y - 36) < 1) & (abs(x - 48) < 1)] |= np.uint8(AIRWAY_BIT)
    labels[right & (abs(y - 28) < 1) & (abs(x - 46) < 1)] |= np.uint8(VESSEL_BIT)
    hu = np.where(left | right, -850, 40).astype(np.int16)
    fine = [array.repeat(4, 0).repeat(4, 1).repeat(4, 2) for array in (hu, labels)]
    known = (slice(0, HIGH), slice(16, HIGH), slice(0, HIGH - 16))
    names = set(ChestFindings.model_fields) - {"slice_mm", "cut_lungs", "nodules", "remarks"}
    findings = ChestFindings(**dict.fromkeys(names, MEASURED), slice_mm=1.0)
    return PackedChest("someone", fine[0], fine[1], known, (320.0, 320.0, 384.0), findings)
