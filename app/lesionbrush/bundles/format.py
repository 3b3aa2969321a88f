"""What goes into a network and what comes out, in the words of MONAI's bundles. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lesionbrush.core.registry import DiffusionUNetShape, ModelCard, NetworkShape

_PREDICTS = {
    "eps": "the noise",
    "x0": "clean image",
    "v": "v = alpha noise - sigma image",
}
_LAYOUT = {
    "lung_ddpm": ("lung without the nodule, 1 or -1", "nodule, 1 or -1"),
    "lung_ddpm_plus": ("nodule mask, 1 or -1",),
}
"""By system: the channels beside the noisy image."""


def network_definition(card: ModelCard) -> dict[str, Any]:
    """The network of a card as a component of a MONAI config: a class, and what fixes its tensors."""
    shape = card.network
    if isinstance(shape, NetworkShape):
        return _component("lesion_inpainting", "LesionUNet", attributes=len(card.attributes), **_facts(shape))
    if card.system in _LAYOUT:
        known = {"in_channels", "channels", "attention", "blocks", "norm_groups"}
        return _component("lung_ddpm", "LungDDPMUNet", "LungDDPMConfig", **_facts(shape, known))
    known = set(DiffusionUNetShape.model_fields) - {"data_spread"}
    return _component("mddpm", "DDPMUNet", **_facts(shape, known))


def data_format(card: ModelCard) -> dict[str, Any]:
    """Arguments of the network's `forward` in their order, and its result."""
    shape = card.network
    if isinstance(shape, NetworkShape):
        return _of_lesion_unet(card, shape)
    return _of_diffusion_unet(card, shape)


def _of_lesion_unet(card: ModelCard, shape: NetworkShape) -> dict[str, Any]:
    sides = [f"{2 ** len(shape.channels)}*n"] * 3
    conditions = _image(("visible context", "visibility", "lesion mask"), sides)
    inputs = {
        "image": _image(("noisy image",), sides),
        "alpha": _numbers(1, "float32", [0, 1]),
        "sigma": _numbers(1, "float32", [0, 1]),
        "conditions": conditions,
        "attributes": _numbers(2 * len(card.attributes), "float32", []),
    }
    return {"inputs": inputs, "outputs": {"pred": _image(("clean image",), sides)}}


def _of_diffusion_unet(card: ModelCard, shape: DiffusionUNetShape) -> dict[str, Any]:
    sides = [f"{2 ** (len(shape.channels) - 1)}*n"] * shape.dims
    given = ("noisy image", *_LAYOUT.get(card.system, ()))
    learned = shape.variance == "learned_range"
    variance = ("where between its bounds the log variance lies",) if learned else ()
    inputs = {
        "image": _image(given, sides),
        "timesteps": _numbers(1, "int64", [0, card.timesteps - 1]),
    }
    return {"inputs": inputs, "outputs": {"pred": _image((_PREDICTS[shape.prediction], *variance), sides)}}


def _component(module: str, name: str, config: str | None = None, **facts: Any) -> dict[str, Any]:
    target, needs = f"lesionbrush.systems.{module}.network", {"_requires_": "@package"}
    of_config = {"_target_": f"{target}.{config or name + 'Config'}", **needs, **facts}
    return {"_target_": f"{target}.{name}", **needs, "config": of_config}


def _facts(shape: NetworkShape | DiffusionUNetShape, known: set[str] | None = None) -> dict[str, Any]:
    return shape.model_dump(mode="json", include=known)


def _image(channels: Sequence[str], sides: list[str]) -> dict[str, Any]:
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


def _numbers(count: int, dtype: str, value_range: list[int]) -> dict[str, Any]:
    return {
        "type": "tuples",
        "format": "raw",
        "num_channels": count,
        "spatial_shape": [],
        "dtype": dtype,
        "value_range": value_range,
    }
