"""The networks of Lung-DDPM (Jiang et al. 2025, arXiv:2502.15204) and Lung-DDPM+ (arXiv:2508.09327).

Both are Med-DDPM's (`systems.med_unet`); here are their sizes, and how published weights go into them.

A published checkpoint is {"step", "model", "ema"}; "ema", the moving average, is what samples. It holds the
network's tensors under `denoise_fn.` and the tables of its noise schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lesionbrush.diffusion.schedules import cosine
from lesionbrush.errors import WeightsError
from lesionbrush.systems.fit import Fit, compare
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig

TIMESTEPS = 250
SCHEDULE_TOLERANCE = 1e-5
NETWORK = "denoise_fn."
TABLES = frozenset(
    {"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"}
    | {"log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"}
    | {"posterior_variance", "posterior_log_variance_clipped"}
    | {f"posterior_mean_coef{number}" for number in (1, 2, 3)}
)
"""Of the noise schedule, in a checkpoint beside the network; Lung-DDPM+ has them all."""

LUNG_DDPM = MedUNetConfig(3, (64, 64, 128, 192, 256), (False, False, False, True, False))
"""Whole volume at 128³; x_t, lung, nodule."""
LUNG_DDPM_PLUS = MedUNetConfig(2, (64, 128, 192, 256), (False, False, True, False))
"""64³ around a nodule; x_t, nodule."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor of ours is in the published network: its name, and which third of it (q, k, v)."""

    name: str
    third: int | None = None


_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1.conv",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2.conv",
    "skip_connection": "skip_connection.conv",
}
_ATTENTION = {"norm": "norm", "proj_out": "attn.out_proj"}
_THIRDS = ("attn.to_q", "attn.to_k", "attn.to_v")


def published_places(config: MedUNetConfig) -> dict[str, TensorPlace]:
    """For each tensor of `MedUNet` where it is found in the published network."""
    places: dict[str, TensorPlace] = {}
    for ours, published in _layers(config):
        for part in ("weight", "bias"):
            place = TensorPlace(f"{published.name}.{part}", published.third)
            places[f"{ours}.{part}"] = place
    wanted = _our_shapes(config)
    # A residual block that keeps its width has no skip convolution.
    return {ours: places[ours] for ours in wanted}


def published_shapes(config: MedUNetConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published network, without `denoise_fn.`."""
    wanted, shapes = _our_shapes(config), {}
    for ours, place in published_places(config).items():
        shape = wanted[ours]
        if place.third is not None:
            shape = (3 * shape[0], *shape[1:])
        shapes[place.name] = (*shape, 1) if _is_convolved_attention(place, shape) else shape
    return shapes


def checkpoint_tensors(checkpoint: Any) -> dict[str, Tensor]:
    """The moving average's network tensors, without `denoise_fn.`, from what a published file holds.

    WeightsError when it is no such checkpoint, or was trained on another noise schedule.
    """
    average = checkpoint.get("ema") if isinstance(checkpoint, Mapping) else None
    if not isinstance(average, Mapping) or not all(isinstance(value, Tensor) for value in average.values()):
        raise WeightsError("this is no checkpoint of Lung-DDPM: it has no tensors under 'ema'")
    _check_schedule(average)
    strangers = sorted(name for name in average if not name.startswith(NETWORK) and name not in TABLES)
    if strangers:
        raise WeightsError(f"the tensors do not fit the network: {Fit(unknown=tuple(strangers)).report()}")
    return {name[len(NETWORK) :]: value for name, value in average.items() if name.startswith(NETWORK)}


def from_published(tensors: Mapping[str, Tensor], config: MedUNetConfig) -> dict[str, Tensor]:
    """A state dict for `MedUNet(config)`. WeightsError says by name what does not fit."""
    fit = compare({name: tuple(value.shape) for name, value in tensors.items()}, published_shapes(config))
    if not fit:
        raise WeightsError(f"the tensors do not fit the network: {fit.report()}")
    wanted, state = _our_shapes(config), {}
    for ours, place in published_places(config).items():
        tensor = tensors[place.name]
        if place.third is not None:
            tensor = tensor.chunk(3)[place.third]
        state[ours] = tensor.reshape(wanted[ours])
    return state


def _our_shapes(config: MedUNetConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = MedUNet(config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _is_convolved_attention(place: TensorPlace, shape: tuple[int, ...]) -> bool:
    """Published attention projects by convolutions of length 1, ours by matrices."""
    return len(shape) == 2 and place.name.endswith((".qkv.weight", ".proj_out.weight"))


def _check_schedule(average: Mapping[str, Tensor]) -> None:
    table = average.get("alphas_cumprod")
    if table is None or table.is_meta:
        return
    wanted = cosine(TIMESTEPS).alphas_bar
    if table.shape != wanted.shape or (table.double() - wanted).abs().max() > SCHEDULE_TOLERANCE:
        raise WeightsError(
            f"the checkpoint's noise schedule ({table.numel()} steps) is not the published one "
            f"(cosine, {TIMESTEPS} steps)"
        )


def _layers(config: MedUNetConfig) -> Iterator[tuple[str, TensorPlace]]:
    """(our layer, the published layer), in the order of the published network."""
    for layer in ("time_embed.0", "time_embed.2", "out.0"):
        yield layer, TensorPlace(layer)
    yield "conv_in.conv", TensorPlace("input_blocks.0.0")
    yield "out.2.conv", TensorPlace("out.2")
    yield from _encoder(config)
    yield from _residual("middle_block.resnet_1", "middle_block.0")
    yield from _attention("middle_block.attention", "middle_block.1")
    yield from _residual("middle_block.resnet_2", "middle_block.2")
    yield from _decoder(config)


def _encoder(config: MedUNetConfig) -> Iterator[tuple[str, TensorPlace]]:
    number = 1
    for level, attends in enumerate(config.attention):
        ours = f"down_blocks.{level}"
        for block in range(config.blocks):
            yield from _residual(f"{ours}.resnets.{block}", f"input_blocks.{number}.0")
            if attends:
                yield from _attention(f"{ours}.attentions.{block}", f"input_blocks.{number}.1")
            number += 1
        if level < len(config.channels) - 1:
            yield f"{ours}.downsampler.op.conv", TensorPlace(f"input_blocks.{number}.0.op")
            number += 1


def _decoder(config: MedUNetConfig) -> Iterator[tuple[str, TensorPlace]]:
    number = 0
    levels = len(config.channels)
    for level, attends in enumerate(reversed(config.attention)):
        ours = f"up_blocks.{level}"
        for block in range(config.blocks + 1):
            yield from _residual(f"{ours}.resnets.{block}", f"output_blocks.{number}.0")
            if attends:
                yield from _attention(f"{ours}.attentions.{block}", f"output_blocks.{number}.1")
            if block == config.blocks and level < levels - 1:
                # It stands behind the attention where there is one.
                published = f"output_blocks.{number}.{2 if attends else 1}.conv"
                yield f"{ours}.upsampler.postconv.conv", TensorPlace(published)
            number += 1


def _residual(ours: str, published: str) -> Iterator[tuple[str, TensorPlace]]:
    for theirs, mine in _RESIDUAL.items():
        yield f"{ours}.{mine}", TensorPlace(f"{published}.{theirs}")


def _attention(ours: str, published: str) -> Iterator[tuple[str, TensorPlace]]:
    for theirs, mine in _ATTENTION.items():
        yield f"{ours}.{mine}", TensorPlace(f"{published}.{theirs}")
    for third, mine in enumerate(_THIRDS):
        yield f"{ours}.{mine}", TensorPlace(f"{published}.qkv", third)
