"""MedSyn's released networks once more, as shapes and as one function on tensors by their published names.

Of `lesionbrush.systems.medsyn.released.network` the configuration alone is used: both sides agree only
by being right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lesionbrush.systems.medsyn.released.network import ReleasedConfig
from torch import Tensor
from torch.nn import functional as F

Shapes = dict[str, tuple[int, ...]]
HEAD = 32
LOW = ReleasedConfig(8, (1, 2, 4), heads=2, text_width=12, tokens=6)
HIGH = ReleasedConfig(8, (1, 2, 4), heads=1)
"""Narrow ones."""


@dataclass(frozen=True)
class Facts:
    """What the released program says when it makes a network."""

    width: int
    heads: int
    text: int
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    tokens: int = 192

    @classmethod
    def of(cls, config: ReleasedConfig) -> Facts:
        return cls(config.width, config.heads, config.text_width, config.multiples, config.tokens)


def shapes(facts: Facts) -> Shapes:
    """Name and shape of every tensor, in one pass from the input to the output."""
    found: Shapes = {}
    width, time, first = facts.width, 4 * facts.width, "init_conv" if facts.text else "init_conv0"
    across, resize = (2, 3) if facts.text else (4, 5)
    _layer(found, first, width, 4 if facts.text else 8, 7, 7, 7)
    _layer(found, "time_mlp.1", time, width)
    _layer(found, "time_mlp.3", time, time)
    if facts.text:
        found["null_cond_emb"] = (1, facts.tokens, facts.text)
    wide = [width, *(width * multiple for multiple in facts.multiples)]
    last = len(facts.multiples) - 1
    for k in range(last + 1):
        _block(found, f"downs.{k}.0", wide[k], wide[k + 1], time, 1)
        _block(found, f"downs.{k}.1", wide[k + 1], wide[k + 1], time, 1)
        _block(found, f"downs.{k}.{across}", wide[k + 1], wide[k + 1], time, 3)
        if k < last:
            _layer(found, f"downs.{k}.{resize}", wide[k + 1], wide[k + 1], 1, 4, 4)
    bottom, inner = wide[-1], HEAD * facts.heads
    for number in ("1", "2", "3", "4") if facts.text else ("",):
        name = f"mid_spatial_attn{number}.fn"
        found[f"{name}.norm.gamma"] = (1, bottom, 1, 1, 1)
        found[f"{name}.fn.fn.to_qkv.weight"] = (3 * inner, bottom)
        found[f"{name}.fn.fn.to_out.weight"] = (bottom, inner)
        if facts.text:
            name = f"mid_cross_attn{number}.fn"
            found[f"{name}.norm.gamma"] = (1, bottom, 1, 1, 1)
            found[f"{name}.fn.to_q.weight"] = (inner, bottom, 1, 1)
            found[f"{name}.fn.to_kv.weight"] = (2 * inner, facts.text)
            _layer(found, f"{name}.fn.to_out", bottom, inner, 1, 1)
        _block(found, f"mid_temporal_{'attn' if facts.text else 'conv'}{number}", bottom, bottom, time, 3)
    for name in ("mid_block1", "mid_block2"):
        _block(found, name, bottom, bottom, time, 1)
    for k in range(last + 1):
        above, below = wide[last - k], wide[last - k + 1]
        _block(found, f"ups.{k}.0", 2 * below, above, time, 1)
        _block(found, f"ups.{k}.1", above, above, time, 1)
        _block(found, f"ups.{k}.{across}", above, above, time, 3)
        if k < last:
            _layer(found, f"ups.{k}.{resize}", above, above, 1, 4, 4)
    end = first.replace("init", "final")
    _block(found, f"{end}.0", 2 * width, width, 0, 1)
    _layer(found, f"{end}.1", 4, width, 1, 1, 1)
    return found


def _layer(found: Shapes, name: str, outputs: int, inputs: int, *kernel: int) -> None:
    found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs, *kernel), (outputs,)


def _block(found: Shapes, name: str, inputs: int, outputs: int, time: int, deep: int) -> None:
    if time:
        _layer(found, f"{name}.mlp.1", 2 * outputs, time)
    for number, given in ((1, inputs), (2, outputs)):
        _layer(found, f"{name}.block{number}.proj", outputs, given, deep, 3, 3)
        found[f"{name}.block{number}.norm.weight"] = found[f"{name}.block{number}.norm.bias"] = (outputs,)
    if inputs != outputs:
        _layer(found, f"{name}.res_conv", outputs, inputs, 1, 1, 1)


def random_tensors(config: ReleasedConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the signal's size through the network, norms near one; what is one tensor in the
    program is one here."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes(Facts.of(config)).items():
        shared = name.replace(name.partition(".")[0], "mid_spatial_attn1")
        if name.startswith("mid_spatial_attn") and ".fn.fn.fn." in name and shared in made:
            made[name] = made[shared]
            continue
        spread = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 and "gamma" not in name else 0.3
        made[name] = (1.0 if "null" in name else spread) * torch.randn(shape, generator=generator)
        if "gamma" in name or name.endswith("norm.weight"):
            made[name] += 1
    return made


def checkpoint(config: ReleasedConfig, seed: int = 0) -> dict[str, Any]:
    """As `accelerate` saves the program's diffusion after training on several GPUs, tables and all."""
    tensors = {f"module.denoise_fn.{name}": value for name, value in random_tensors(config, seed).items()}
    return {**tensors, "module.betas": torch.zeros(1000)}


def predict(p: Mapping[str, Tensor], config: ReleasedConfig, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """The released program for inference on (B, 4 or 8, slices, rows, columns): x_0."""
    reads, half = config.text_width > 0, config.width // 2
    across, resize = ("2", "3") if reads else ("4", "5")
    waves = t.float()[:, None] / torch.tensor([10_000 ** (k / (half - 1)) for k in range(half)])
    time = torch.cat((torch.sin(waves), torch.cos(waves)), dim=1)
    time = _linear(p, "time_mlp.3", F.gelu(_linear(p, "time_mlp.1", time)))
    start = "init_conv" if reads else "init_conv0"
    h = first = F.conv3d(x, p[f"{start}.weight"], p[f"{start}.bias"], padding=3)
    kept, last = [], len(config.multiples) - 1
    for k in range(last + 1):
        for number in "01":
            h = _apply_block(p, f"downs.{k}.{number}", h, time)
        kept.append(h)
        if k < last:
            name = f"downs.{k}.{resize}"
            h = F.conv3d(h, p[f"{name}.weight"], p[f"{name}.bias"], (1, 2, 2), (0, 1, 1))
        h = _apply_block(p, f"downs.{k}.{across}", h, time)
    h = _apply_block(p, "mid_block1", h, time)
    for number in ("1", "2", "3", "4") if reads else ("",):
        h = h + _within(p, f"mid_spatial_attn{number}.fn", h, config.heads)
        if reads:
            h = h + _read(p, f"mid_cross_attn{number}.fn", h, text, config.heads)
        h = _apply_block(p, f"mid_temporal_{'attn' if reads else 'conv'}{number}", h, time)
    h = _apply_block(p, "mid_block2", h, time)
    for k in range(last + 1):
        h = torch.cat((h, kept.pop()), dim=1)
        for number in ("0", "1", across):
            h = _apply_block(p, f"ups.{k}.{number}", h, time)
        if k < last:
            name = f"ups.{k}.{resize}"
            h = F.conv_transpose3d(h, p[f"{name}.weight"], p[f"{name}.bias"], (1, 2, 2), (0, 1, 1))
    end = start.replace("init", "final")
    h = _apply_block(p, f"{end}.0", torch.cat((h, first), dim=1), None)
    return F.conv3d(h, p[f"{end}.1.weight"], p[f"{end}.1.bias"])


def _apply_block(p: Mapping[str, Tensor], name: str, x: Tensor, time: Tensor | None) -> Tensor:
    h = _convolve(p, f"{name}.block1", x)
    if time is not None:
        scale, shift = _linear(p, f"{name}.mlp.1", F.silu(time))[:, :, None, None, None].chunk(2, dim=1)
        h = h * (scale + 1) + shift
    h = F.silu(_convolve(p, f"{name}.block2", F.silu(h)))
    if f"{name}.res_conv.weight" in p:
        x = F.conv3d(x, p[f"{name}.res_conv.weight"], p[f"{name}.res_conv.bias"])
    return h + x


def _convolve(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = p[f"{name}.proj.weight"]
    h = F.conv3d(x, weight, p[f"{name}.proj.bias"], padding=[side // 2 for side in weight.shape[2:]])
    return F.group_norm(h, 8, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])


def _within(p: Mapping[str, Tensor], name: str, x: Tensor, heads: int) -> Tensor:
    """Slice by slice, head by head."""
    x, said = _normed(p, name, x), torch.zeros_like(x)
    for item in range(len(x)):
        for z in range(x.shape[2]):
            voxels = x[item, :, z].flatten(1).T
            asked = voxels @ p[f"{name}.fn.fn.to_qkv.weight"].T
            found = _attend(*asked.chunk(3, dim=1), heads) @ p[f"{name}.fn.fn.to_out.weight"].T
            said[item, :, z] = found.T.reshape(x[item, :, z].shape)
    return said


def _read(p: Mapping[str, Tensor], name: str, x: Tensor, text: Tensor, heads: int) -> Tensor:
    x, said = _normed(p, name, x), torch.zeros_like(x)
    for item in range(len(x)):
        query = x[item].flatten(1).T @ p[f"{name}.fn.to_q.weight"].flatten(1).T
        key, value = (text[item] @ p[f"{name}.fn.to_kv.weight"].T).chunk(2, dim=1)
        out = p[f"{name}.fn.to_out.weight"].flatten(1)
        found = _attend(query, key, value, heads) @ out.T + p[f"{name}.fn.to_out.bias"]
        said[item] = found.T.reshape(x[item].shape)
    return said


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(N, heads x 32), (M, heads x 32) twice, to (N, heads x 32)."""
    found = []
    for q, k, v in zip(*(one.chunk(heads, dim=1) for one in (query, key, value)), strict=True):
        found.append(torch.softmax(q @ k.T / math.sqrt(HEAD), dim=1) @ v)
    return torch.cat(found, dim=1)


def _normed(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    away = x - x.mean(dim=1, keepdim=True)
    return away / ((away**2).mean(dim=1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.norm.gamma"]


def _linear(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
