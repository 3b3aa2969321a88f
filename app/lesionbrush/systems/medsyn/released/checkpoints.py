"""The files of MedSyn's weights, key by key: one for each network, as `accelerate` saves them.

Keys are those of `released.network`, behind `denoise_fn.` of the program's diffusion, and `module.` where
several GPUs trained it. Tables of noise levels lie beside them in older files; they are no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lesionbrush.errors import WeightsError
from lesionbrush.systems.contract import PublishedWeights
from lesionbrush.systems.fit import compare
from lesionbrush.systems.medsyn.channels import WINDOW
from lesionbrush.systems.medsyn.released.network import FINER, READER, ROUNDS, ReleasedConfig, ReleasedUNet

LOW = ReleasedConfig(160, (1, 2, 4, 8), heads=8, text_width=768)
HIGH = ReleasedConfig(56, (1, 2, 4, 8), heads=4)
SIDE, TILE, SPACING_MM = 256, 72, 316 / 256
"""tile: in training a part of a slice was as large."""
BOTH = "give both files, one pytorch_model.bin of the low resolution and one of the high one"
SHARED = ("to_qkv.weight", "to_out.weight")
"""Of the attention within slices: one tensor under four names, of which a safetensors file keeps one."""


def released() -> PublishedWeights:
    """Both networks, from both files in either order."""
    section = {
        "schedule": "continuous_cosine",
        "timesteps": 1000,
        "low": asdict(LOW),
        "high": asdict(HIGH),
        "prediction": "x0",
        "tile": TILE,
        "padded_tokens": LOW.tokens,
    }
    place = {"roi_voxels": (TILE,), "roi_multiple": HIGH.multiple, "spacing_mm": SPACING_MM}
    window = {"window_hu": (WINDOW.lo_hu, WINDOW.hi_hu)}
    return PublishedWeights(convert, {**window, "section": section, **place})


def convert(checkpoints: Any) -> dict[str, Tensor]:
    """What both files hold, as one state dict of `network.MedSynUNets`. WeightsError."""
    if not isinstance(checkpoints, Sequence) or len(checkpoints) != 2:
        raise WeightsError(f"MedSyn is two networks: {BOTH}")
    found: dict[str, dict[str, Tensor]] = {}
    for checkpoint in checkpoints:
        state = network_tensors(checkpoint)
        part = _part_of(state)
        if part in found:
            raise WeightsError(f"both files hold the {part} network of MedSyn: {BOTH}")
        found[part] = state
    ours = {}
    for part, config in (("low", LOW), ("high", HIGH)):
        state = with_shared(found[part])
        require_fit(state, config, part)
        ours.update({f"{part}.{name}": tensor for name, tensor in state.items()})
    return ours


def network_tensors(checkpoint: Any) -> dict[str, Tensor]:
    """Tensors by the names they have in `ReleasedUNet`. WeightsError for what holds something else."""
    if isinstance(checkpoint, Mapping):
        for name in ("ema", "model"):
            if isinstance(checkpoint.get(name), Mapping):
                checkpoint = checkpoint[name]
    if not isinstance(checkpoint, Mapping) or not all(isinstance(v, Tensor) for v in checkpoint.values()):
        raise WeightsError(
            "this is no checkpoint of MedSyn's networks, which holds tensors by name and nothing else: take "
            "pytorch_model.bin, not optimizer.bin or random_states"
        )
    plain = {str(name).removeprefix("module."): tensor for name, tensor in checkpoint.items()}
    inside = any(name.startswith("denoise_fn.") for name in plain)
    return {
        name.removeprefix("denoise_fn."): tensor
        for name, tensor in plain.items()
        if not inside or "." in name  # tables of noise levels have plain names
    }


def _part_of(state: Mapping[str, Tensor]) -> str:
    """Which network it is, by its first layer. Raises WeightsError."""
    keys = {"low": f"{READER.first}.weight", "high": f"{FINER.first}.weight"}
    parts = [part for part, key in keys.items() if key in state]
    if len(parts) != 1:
        there = ", ".join(list(state)[:3]) or "nothing"
        raise WeightsError(
            f"this is none of MedSyn's two networks: it has to have {keys['low']} (low resolution) or "
            f"{keys['high']} (high resolution), and begins with {there}"
        )
    return parts[0]


def with_shared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, with what is stored once under all of its names. WeightsError where copies differ."""
    full = dict(state)
    for kind in SHARED:
        names = [f"mid_spatial_attn{number}.fn.fn.fn.{kind}" for number in ROUNDS]
        there = [name for name in names if name in state]
        if not all(torch.equal(state[name], state[there[0]]) for name in there[1:]):
            raise WeightsError(
                f"{', '.join(there)} are one tensor in MedSyn's network, and differ: this is another network"
            )
        full.update({name: state[there[0]] for name in names if there})
    return full


def require_fit(state: Mapping[str, Tensor], config: ReleasedConfig, part: str) -> None:
    """WeightsError names what is missing, not known, or of another shape."""
    with torch.device("meta"):
        wanted = ReleasedUNet(config).state_dict()
    shapes = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (state, wanted))
    if not (fit := compare(*shapes)):
        raise WeightsError(f"this is not the {part} network of MedSyn as released: {fit.report()}")
