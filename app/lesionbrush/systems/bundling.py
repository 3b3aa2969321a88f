"""A network in the words of MONAI's bundles: its class and arguments, and what `forward` takes. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lesionbrush.systems.contract import DiffusionUNetShape, NetworkWords

_PREDICTS = {
    "eps": "the noise",
    "x0": "clean image",
    "v": "v = alpha noise - sigma image",
}


def component(name: str, config: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A network class of ours and its config class, by dotted names, as a component of a MONAI config."""
    needs = {"_requires_": "@package"}
    return {"_target_": name, **needs, "config": {"_target_": config, **needs, **facts}}


def unet_words(
    definition: Mapping[str, Any], shape: DiffusionUNetShape, timesteps: int, layout: Sequence[str] = ()
) -> NetworkWords:
    """Of a network on MONAI's `DiffusionModelUNet`. layout: the channels beside the noisy image."""
    sides = [f"{2 ** (len(shape.channels) - 1)}*n"] * shape.dims
    learned = shape.variance == "learned_range"
    variance = ("where between its bounds the log variance lies",) if learned else ()
    inputs = {
        "image": image(("noisy image", *layout), sides),
        "timesteps": numbers(1, "int64", [0, timesteps - 1]),
    }
    pred = image((_PREDICTS[shape.prediction], *variance), sides)
    return NetworkWords(definition, {"inputs": inputs, "outputs": {"pred": pred}})


def image(channels: Sequence[str], sides: list[str]) -> dict[str, Any]:
    """A patch of CT, one sentence for each channel."""
    return {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": len(channels),
        "spatial_shape": sides,
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": True,
        "channel_def": {str(number): about for number, about in enumerate(channels)},
    }


def numbers(count: int, dtype: str, value_range: list[int]) -> dict[str, Any]:
    return {
        "type": "tuples",
        "format": "raw",
        "num_channels": count,
        "spatial_shape": [],
        "dtype": dtype,
        "value_range": value_range,
    }
