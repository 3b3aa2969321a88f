"""Checkpoints of improved-diffusion's own program, key by key. The key layout is of github.com/openai/
improved-diffusion (MIT), `improved_diffusion/unet.py`; no line of it stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lesionbrush.errors import WeightsError
from lesionbrush.systems.contract import PublishedWeights
from lesionbrush.systems.fit import compare
from lesionbrush.systems.semantic.card import SemanticShape
from lesionbrush.systems.semantic.classes import ORGANS
from lesionbrush.systems.semantic.network import SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.semantic.recipes import ABDOMEN, RECIPES

PAPER = RECIPES["paper"]
TIMESTEPS, SIDE, SPACING_MM = 1000, 256, 1.5
"""Whole slices were resized to so many pixels; most are about 400 mm wide."""
BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "tell",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "shortcut",
}
ATTENTION = {"norm": "norm", "qkv": "ask", "proj_out": "answer"}


def conditional() -> PublishedWeights:
    """A checkpoint of that program, its `ema_*.pt` or `model*.pt`, of slices with the layout as a channel."""
    config = PAPER.network

    def convert(checkpoint: Any) -> Mapping[str, Tensor]:
        if not isinstance(checkpoint, Mapping) or not all(isinstance(v, Tensor) for v in checkpoint.values()):
            raise WeightsError(
                "this is no checkpoint of improved-diffusion, which holds tensors by name and nothing else: "
                "take its ema_*.pt or model*.pt, not opt*.pt"
            )
        return from_improved_diffusion(checkpoint, config)

    shape = {name: value for name, value in asdict(config).items() if name in SemanticShape.model_fields}
    section = {
        "schedule": PAPER.schedule,
        "timesteps": TIMESTEPS,
        "scale": asdict(ABDOMEN),
        "classes": (*ORGANS, "body"),
        "network": shape,
    }
    place = {"roi_voxels": (SIDE,), "roi_multiple": config.multiple, "spacing_mm": SPACING_MM}
    return PublishedWeights(convert, {"window_hu": (-1024.0, 3071.0), "section": section, **place})


def module_names(config: SemanticUNetConfig) -> dict[str, str]:
    """The name of each module with weights in an improved-diffusion checkpoint, and ours for it.

    There the main branch is three lists (input_blocks, middle_block, output_blocks), counted through. The
    second encoder of the guided networks is nowhere published; ours keeps its own names.
    """
    names = {"time_embed.0": "level.0", "time_embed.2": "level.2", "input_blocks.0.0": "first"}
    names |= {"out.0": "last.0", "out.2": "last.2"}
    names |= dict(_encoder(config)) | dict(_middle()) | dict(_decoder(config))
    return names


def _encoder(config: SemanticUNetConfig) -> Iterator[tuple[str, str]]:
    number = 1
    for level, attends in enumerate(config.attention):
        if level:
            yield f"input_blocks.{number}.0.op", f"down.{level - 1}"
            number += 1
        for step in range(config.blocks):
            yield from _step(f"input_blocks.{number}", f"encoder.{level}.{step}", attends)
            number += 1


def _middle() -> Iterator[tuple[str, str]]:
    """Block, attention, block."""
    yield from _step("middle_block", "middle.0", attends=True)
    yield from ((f"middle_block.2.{theirs}", f"middle.1.block.{ours}") for theirs, ours in BLOCK.items())


def _decoder(config: SemanticUNetConfig) -> Iterator[tuple[str, str]]:
    number = 0
    for k, attends in enumerate(reversed(config.attention)):
        for step in range(config.blocks + 1):
            yield from _step(f"output_blocks.{number}", f"decoder.{k}.{step}", attends)
            number += 1
        if k < len(config.attention) - 1:
            yield f"output_blocks.{number - 1}.{1 + attends}.conv", f"up.{k}"


def _step(theirs: str, ours: str, attends: bool) -> Iterator[tuple[str, str]]:
    yield from ((f"{theirs}.0.{a}", f"{ours}.block.{b}") for a, b in BLOCK.items())
    if attends:
        yield from ((f"{theirs}.1.{a}", f"{ours}.attention.{b}") for a, b in ATTENTION.items())


def from_improved_diffusion(state: Mapping[str, Tensor], config: SemanticUNetConfig) -> dict[str, Tensor]:
    """A state dict of theirs as one of ours. WeightsError names what is missing, unknown or of another shape.

    For config.conditioning "conditional"; the channels of its first layer are the noisy slice, then the
    layout.
    """
    if config.guide_inputs:
        raise WeightsError(
            f"conditioning {config.conditioning!r}: improved-diffusion has no second encoder; read its "
            "checkpoints as 'conditional'"
        )
    modules = module_names(config)
    renamed = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        renamed[f"{modules.get(module, module)}.{kind}"] = tensor
    wanted = {name: tuple(tensor.shape) for name, tensor in SemanticUNet(config).state_dict().items()}
    fit = compare({name: tuple(tensor.shape) for name, tensor in renamed.items()}, wanted)
    if not fit:
        raise WeightsError(f"this is no improved-diffusion checkpoint of that network: {fit.report()}")
    return renamed
