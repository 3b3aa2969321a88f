"""Checkpoints in the published format, made here: names and shapes follow from the listed configuration.

Nothing of `lesionbrush.systems.lung_ddpm.network` is used, so that both sides agree only by being right.
`predict` is the published network once more, as one function on tensors by their published names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
TABLES = (
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod"),
    *("sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped"),
    *("posterior_mean_coef1", "posterior_mean_coef2", "posterior_mean_coef3"),
)


@dataclass(frozen=True)
class Layout:
    """What `create_model` of the published code makes of its options: one list of layers per block."""

    inputs: int
    width: int
    multiples: tuple[int, ...]
    attention_level: int

    def widths(self) -> list[int]:
        return [self.width * multiple for multiple in self.multiples]


LUNG_DDPM = Layout(3, 64, (1, 1, 2, 3, 4), 3)
LUNG_DDPM_PLUS = Layout(2, 64, (1, 2, 3, 4), 2)
TINY = Layout(2, 32, (1, 2), 1)


def shapes(layout: Layout) -> Shapes:
    """Name and shape of every tensor of the published network, in one pass from the input to the output."""
    found: Shapes = {}
    embedding = 4 * layout.width
    _layer(found, "time_embed.0", embedding, layout.width)
    _layer(found, "time_embed.2", embedding, embedding)
    _layer(found, "input_blocks.0.0", layout.width, layout.inputs, 3)
    block, width, skips = 1, layout.width, [layout.width]
    for level, wide in enumerate(layout.widths()):
        _residual(found, f"input_blocks.{block}.0", width, wide, embedding)
        if level == layout.attention_level:
            _attention(found, f"input_blocks.{block}.1", wide)
        block, width = block + 1, wide
        skips.append(wide)
        if level < len(layout.multiples) - 1:
            _layer(found, f"input_blocks.{block}.0.op", wide, wide, 3)
            block += 1
            skips.append(wide)
    for k, add in enumerate((_residual, _attention, _residual)):
        add(found, f"middle_block.{k}", width, *((width, embedding) if k != 1 else ()))
    block = 0
    for level, wide in reversed(list(enumerate(layout.widths()))):
        for repeat in range(2):
            _residual(found, f"output_blocks.{block}.0", width + skips.pop(), wide, embedding)
            width, place = wide, 1
            if level == layout.attention_level:
                _attention(found, f"output_blocks.{block}.1", wide)
                place = 2
            if level and repeat:
                _layer(found, f"output_blocks.{block}.{place}.conv", wide, wide, 3)
            block += 1
    _norm(found, "out.0", width)
    _layer(found, "out.2", 1, width, 3)
    return found


def _layer(found: Shapes, name: str, outputs: int, inputs: int, kernel: int | None = None) -> None:
    found[f"{name}.weight"] = (outputs, inputs) + ((kernel,) * 3 if kernel else ())
    found[f"{name}.bias"] = (outputs,)


def _norm(found: Shapes, name: str, width: int) -> None:
    found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)


def _residual(found: Shapes, name: str, inputs: int, outputs: int, embedding: int) -> None:
    _norm(found, f"{name}.in_layers.0", inputs)
    _layer(found, f"{name}.in_layers.2", outputs, inputs, 3)
    _layer(found, f"{name}.emb_layers.1", outputs, embedding)
    _norm(found, f"{name}.out_layers.0", outputs)
    _layer(found, f"{name}.out_layers.3", outputs, outputs, 3)
    if inputs != outputs:
        _layer(found, f"{name}.skip_connection", outputs, inputs, 1)


def _attention(found: Shapes, name: str, width: int) -> None:
    _norm(found, f"{name}.norm", width)
    found[f"{name}.qkv.weight"], found[f"{name}.qkv.bias"] = (3 * width, width, 1), (3 * width,)
    found[f"{name}.proj_out.weight"], found[f"{name}.proj_out.bias"] = (width, width, 1), (width,)


def random_tensors(layout: Layout, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the signal's size through the network, norms near one."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(layout).items():
        spread = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
        made[name] = spread * torch.randn(shape, generator=generator)
        if len(shape) == 1 and name.endswith("weight"):
            made[name] += 1
    return made


def alphas_bar(T: int = 250) -> Tensor:
    """(T,) float64, the cosine schedule of Nichol & Dhariwal, by a plain loop."""
    level, table = 1.0, []
    for t in range(T):
        f = [math.cos(((t + k) / T + 0.008) / 1.008 * math.pi / 2) ** 2 for k in (0, 1)]
        level *= 1 - min(1 - f[1] / f[0], 0.999)
        table.append(level)
    return torch.tensor(table, dtype=torch.float64)


def checkpoint(tensors: Mapping[str, Tensor], T: int = 250) -> dict[str, Any]:
    """{"step", "model", "ema"} as the published training saves it; only "ema" has the weights here."""
    tables = {name: torch.zeros(T) for name in TABLES}
    tables["alphas_cumprod"] = alphas_bar(T).float()
    network = {f"denoise_fn.{name}": value for name, value in tensors.items()}
    return {"step": 100000, "model": {}, "ema": {**tables, **network}}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def predict(p: Mapping[str, Tensor], layout: Layout, x: Tensor, t: Tensor) -> Tensor:
    """The published network on (B, inputs, X, Y, Z): its noise estimate (B, 1, X, Y, Z)."""
    half = layout.width // 2
    angles = t.float()[:, None] / torch.tensor([1000.0 ** (k / half) for k in range(half)])
    embedding = torch.cat((torch.cos(angles), torch.sin(angles)), dim=1)
    embedding = F.silu(_linear(p, "time_embed.2", F.silu(_linear(p, "time_embed.0", embedding))))
    h, block = _conv(p, "input_blocks.0.0", x), 1
    skips = [h]
    while f"input_blocks.{block}.0.in_layers.2.weight" in p or f"input_blocks.{block}.0.op.weight" in p:
        name = f"input_blocks.{block}"
        if f"{name}.0.op.weight" in p:
            h = _conv(p, f"{name}.0.op", h, stride=2)
        else:
            h = _through(p, name, h, embedding)
        skips.append(h)
        block += 1
    h = _res(p, "middle_block.0", h, embedding)
    h = _res(p, "middle_block.2", _attend(p, "middle_block.1", h), embedding)
    for block in range(len(skips)):
        h = _through(p, f"output_blocks.{block}", torch.cat((h, skips.pop()), dim=1), embedding)
    return _conv(p, "out.2", F.silu(_group(p, "out.0", h)))


def _through(p: Mapping[str, Tensor], name: str, h: Tensor, embedding: Tensor) -> Tensor:
    h = _res(p, f"{name}.0", h, embedding)
    if f"{name}.1.qkv.weight" in p:
        h = _attend(p, f"{name}.1", h)
    for place in (1, 2):
        if f"{name}.{place}.conv.weight" in p:
            h = _conv(p, f"{name}.{place}.conv", doubled(h))
    return h


def doubled(h: Tensor) -> Tensor:
    """Twice the side along the last three axes: new voxels at a quarter and at three quarters."""
    for axis in (2, 3, 4):
        n = h.shape[axis]
        before = h.index_select(axis, torch.arange(n).sub(1).clamp(0))
        after = h.index_select(axis, torch.arange(n).add(1).clamp(max=n - 1))
        pair = torch.stack((0.25 * before + 0.75 * h, 0.75 * h + 0.25 * after), dim=axis + 1)
        h = pair.flatten(axis, axis + 1)
    return h


def _res(p: Mapping[str, Tensor], name: str, x: Tensor, embedding: Tensor) -> Tensor:
    h = _conv(p, f"{name}.in_layers.2", F.silu(_group(p, f"{name}.in_layers.0", x)))
    h = h + _linear(p, f"{name}.emb_layers.1", embedding)[:, :, None, None, None]
    h = _conv(p, f"{name}.out_layers.3", F.silu(_group(p, f"{name}.out_layers.0", h)))
    return h + (_conv(p, f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in p else x)


def _attend(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    voxels = _group(p, f"{name}.norm", x).flatten(2)
    q, k, v = F.conv1d(voxels, p[f"{name}.qkv.weight"], p[f"{name}.qkv.bias"]).chunk(3, dim=1)
    weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), dim=-1)
    out = F.conv1d(v @ weights.transpose(1, 2), p[f"{name}.proj_out.weight"], p[f"{name}.proj_out.bias"])
    return x + out.reshape(x.shape)


def _conv(p: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = p[f"{name}.weight"]
    return F.conv3d(x, weight, p[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)


def _linear(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def _group(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-5)
