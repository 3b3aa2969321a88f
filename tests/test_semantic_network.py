"""The network of semantic CT: sizes in closed form, conditionings, checkpoints of improved-diffusion."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lesionbrush.errors import WeightsError
from lesionbrush.systems.semantic.blocks import sinusoids
from lesionbrush.systems.semantic.network import CONDITIONINGS, SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.semantic.published import from_improved_diffusion
from torch import Tensor, nn

SMALL = SemanticUNetConfig(
    channels=(8, 16, 24), attention=(False, False, True), blocks=2, heads=2, norm_groups=4
)
PAPER = SemanticUNetConfig(
    channels=(128, 128, 256, 256, 512, 512),
    attention=(False, False, False, False, True, True),
    blocks=2,
    norm_groups=32,
)


def conditioned(kind: str, config: SemanticUNetConfig = SMALL) -> SemanticUNetConfig:
    return replace(config, conditioning=kind)  # type: ignore[arg-type]


def random_network(config: SemanticUNetConfig) -> SemanticUNet:
    """No layer is silent."""
    torch.manual_seed(0)
    network = SemanticUNet(config)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network.eval()


def asked(config: SemanticUNetConfig, side: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 1, side, side, generator=rng)
    conditions = torch.rand(2, config.condition_channels, side, side, generator=rng)
    return noisy, torch.tensor([3, 700]), conditions


def size_of_block(came: int, width: int, told: int = 0) -> int:
    """Two normalisations, two 3 x 3 convolutions, scale and shift, a 1 x 1 convolution if need be."""
    convolutions = 9 * came * width + width + 9 * width * width + width
    modulation = 2 * width * (told + 1) if told else 0
    return 2 * (came + width) + convolutions + modulation + (came * width + width if came != width else 0)


def size_of_attention(width: int) -> int:
    return 2 * width + 3 * width * (width + 1) + width * (width + 1)


def size_of(config: SemanticUNetConfig) -> int:
    """All parameters, counted as improved-diffusion builds its lists, and what a second encoder adds."""
    widths, told, joined = config.channels, 4 * config.channels[0], config.joined
    total = told * (widths[0] + 1) + told * (told + 1) + widths[0] * (9 * config.in_channels + 1)
    left, came = [widths[0]], widths[0]
    for level, width in enumerate(widths):
        for _ in range(config.blocks):
            total += size_of_block(came, width, told) + config.attention[level] * size_of_attention(width)
            came = width
            left.append(came)
        left[-1] += joined[level]
        if level < len(widths) - 1:
            total += 9 * (width + joined[level]) * width + width
            left.append(width)
    total += 2 * size_of_block(came, came, told) + size_of_attention(came)
    for level in reversed(range(len(widths))):
        for _ in range(config.blocks + 1):
            total += size_of_block(came + left.pop(), widths[level], told)
            total += config.attention[level] * size_of_attention(widths[level])
            came = widths[level]
        total += (9 * came + 1) * came if level else 0
    return total + 2 * came + (9 * came + 1) * config.out_channels + size_of_guide(config)


def size_of_guide(config: SemanticUNetConfig) -> int:
    if not config.guide_inputs:
        return 0
    widths = config.joined[:-1]
    total, came = widths[0] * (9 * config.guide_inputs + 1), widths[0]
    for level, width in enumerate(widths):
        for _ in range(config.blocks):
            total, came = total + size_of_block(came, width), width
        total += (9 * width + 1) * width if level < len(widths) - 1 else 0
    return total


class TestSizes:
    @pytest.mark.parametrize("kind", CONDITIONINGS)
    @pytest.mark.parametrize(
        "changes", [{}, {"blocks": 1}, {"layout_channels": 17}, {"guide_channels": (4, 8)}]
    )
    def test_as_many_parameters_as_the_plan_has(self, kind: str, changes: dict[str, Any]) -> None:
        config = replace(conditioned(kind), **changes)
        network = SemanticUNet(config)
        assert sum(parameter.numel() for parameter in network.parameters()) == size_of(config)

    def test_those_of_the_paper_s_networks(self) -> None:
        """On the meta device: nothing is allocated."""
        with torch.device("meta"):
            sizes = {
                kind: sum(p.numel() for p in SemanticUNet(conditioned(kind, PAPER)).parameters())
                for kind in CONDITIONINGS
            }
        assert sizes == {kind: size_of(conditioned(kind, PAPER)) for kind in CONDITIONINGS}
        assert sizes["conditional"] == 124_050_946

    def test_that_of_the_network_for_imagenet(self) -> None:
        """Nichol & Dhariwal 2021, Fig. 10: 120 million for 128 channels times 1, 2, 3, 4, three blocks."""
        wide = replace(PAPER, channels=(128, 256, 384, 512), attention=(False, False, True, True), blocks=3)
        colours = 9 * 128 + 4 * (9 * 128 + 1)  # of its first layer, 3 in place of 2, and its last, 6 of 2
        assert size_of(wide) + colours == 121_063_942

    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_shapes(self, kind: str) -> None:
        config = conditioned(kind)
        network = SemanticUNet(config)
        said = network(*asked(config))
        assert said.shape == (2, 2, 16, 16)
        assert (said == 0).all()  # it starts silent
        assert network.first.weight.shape[1] == (1 if kind == "mask_guided" else 2)
        assert [conv.weight.shape[1] for conv in network.down] == (  # type: ignore[union-attr]
            [8, 16] if kind == "conditional" else [16, 32]
        )

    def test_the_second_encoder_has_one_map_for_each_halving(self) -> None:
        network = SemanticUNet(conditioned("mask_guided"))
        assert network.guide is not None
        maps = network.guide(torch.rand(2, 1, 16, 16))
        assert [tuple(one.shape) for one in maps] == [(2, 8, 16, 16), (2, 16, 8, 8)]


class TestWhatItHears:
    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_each_thing_it_is_shown_changes_what_it_says(self, kind: str) -> None:
        config = conditioned(kind)
        network, given = random_network(config), asked(config)
        before = network(*given)
        for number in range(2):
            other = [one.clone() for one in given]
            other[number] = other[number].flip(0)
            assert not torch.allclose(network(*other), before, atol=1e-4)
        for channel in range(config.condition_channels):
            conditions = given[2].clone()
            conditions[:, channel] += 1
            assert not torch.allclose(network(given[0], given[1], conditions), before, atol=1e-4)

    def test_edges_go_to_the_second_encoder_alone_and_the_layout_does_not(self) -> None:
        config = conditioned("edge_guided")
        network, given = random_network(config), asked(config)
        main, _ = network._see(given[0], given[2])
        assert torch.equal(main[:, 1:], given[2][:, :1])
        edges = given[2].clone()
        edges[:, 1] = 0
        assert torch.equal(network._see(given[0], edges)[0], main)

    def test_added_is_not_scaled(self) -> None:
        plain = replace(SMALL, scale_shift=False)
        assert random_network(plain).encoder[0][0].block.tell.weight.shape == (8, 32)  # type: ignore
        said = random_network(plain)(*asked(plain))
        assert not torch.allclose(said[0], said[1], atol=1e-4)

    def test_levels_are_cosines_then_sines(self) -> None:
        found = sinusoids(torch.tensor([0, 500]), 8)
        assert found[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
        assert float(found[1, 1]) == pytest.approx(math.cos(500 / 10), abs=1e-4)
        assert float(found[1, 6]) == pytest.approx(math.sin(500 / 100), abs=1e-4)


# --- the network as improved-diffusion stores it, told again from its key layout ---


class TheirBlock(nn.Module):
    def __init__(self, came: int, width: int, told: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, came), nn.SiLU(), nn.Conv2d(came, width, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(told, 2 * width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(width, width, 3, 1, 1)
        )
        self.skip_connection = nn.Identity() if came == width else nn.Conv2d(came, width, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.emb_layers(told)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class TheirAttention(nn.Module):
    """Weights of the softmax as a matrix, each head's thirds cut out one by one."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(groups, width)
        self.qkv, self.proj_out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        flat = x.flatten(2)
        parts = self.qkv(self.norm(flat)).chunk(self.heads, dim=1)
        seen = []
        for part in parts:
            q, k, v = part.chunk(3, dim=1)
            weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), dim=-1)
            seen.append(v @ weights.transpose(1, 2))
        return (flat + self.proj_out(torch.cat(seen, dim=1))).reshape(x.shape)


class Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.op(x)


class Double(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Plain(nn.Conv2d):
    def forward(self, x: Tensor, told: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class TheirUNet(nn.Module):
    """Three lists, as the keys `input_blocks`, `middle_block` and `output_blocks` say."""

    def __init__(self, c: SemanticUNetConfig) -> None:
        super().__init__()
        width, told, groups = c.channels[0], 4 * c.channels[0], c.norm_groups
        self.width = width
        self.time_embed = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.input_blocks = nn.ModuleList([nn.ModuleList([Plain(c.in_channels, width, 3, padding=1)])])
        came, left = width, [width]

        def step(before: int, after: int, attends: bool) -> nn.ModuleList:
            parts: list[nn.Module] = [TheirBlock(before, after, told, groups)]
            return nn.ModuleList([*parts, *([TheirAttention(after, c.heads, groups)] if attends else [])])

        for level, here in enumerate(c.channels):
            for _ in range(c.blocks):
                self.input_blocks.append(step(came, here, c.attention[level]))
                came = here
                left.append(here)
            if level < len(c.channels) - 1:
                self.input_blocks.append(nn.ModuleList([Halve(came)]))
                left.append(came)
        self.middle_block = nn.ModuleList([*step(came, came, True), *step(came, came, False)])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(c.channels))):
            for k in range(c.blocks + 1):
                self.output_blocks.append(step(came + left.pop(), c.channels[level], c.attention[level]))
                came = c.channels[level]
                if level and k == c.blocks:
                    self.output_blocks[-1].append(Double(came))  # type: ignore[operator]
        self.out = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, c.out_channels, 3, 1, 1)
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        told = self.time_embed(sinusoids(timesteps, self.width))
        h, left = torch.cat((noisy, conditions), 1), []
        for parts in self.input_blocks:
            for part in parts:  # type: ignore[attr-defined]
                h = part(h, told)
            left.append(h)
        for part in self.middle_block:
            h = part(h, told)
        for parts in self.output_blocks:
            h = torch.cat((h, left.pop()), 1)
            for part in parts:  # type: ignore[attr-defined]
                h = part(h, told)
        return self.out(h)


def theirs(config: SemanticUNetConfig) -> TheirUNet:
    torch.manual_seed(2)
    return TheirUNet(config).eval()


class TestCheckpointsOfImprovedDiffusion:
    @pytest.mark.parametrize("changes", [{}, {"blocks": 1}, {"attention": (False, True, True), "heads": 1}])
    def test_one_loads_key_by_key_and_says_the_same(self, changes: dict[str, Any]) -> None:
        config = replace(SMALL, **changes)
        their = theirs(config)
        network = SemanticUNet(config)
        network.load_state_dict(from_improved_diffusion(their.state_dict(), config))
        given = asked(config)
        torch.testing.assert_close(network.eval()(*given), their(*given), rtol=1e-4, atol=1e-5)

    def test_one_of_another_network_is_refused_with_names(self) -> None:
        state = theirs(SMALL).state_dict()
        with pytest.raises(WeightsError, match=r"of another shape: decoder\.0\.0\.block\.tell\.bias is 48 "):
            from_improved_diffusion(state, replace(SMALL, scale_shift=False))
        state["label_emb.weight"] = torch.zeros(3)
        del state["out.2.bias"]
        with pytest.raises(WeightsError, match=r"1 missing: last\.2\.bias; 1 not known: label_emb\.weight"):
            from_improved_diffusion(state, SMALL)

    def test_guided_networks_have_none(self) -> None:
        with pytest.raises(WeightsError, match="'mask_guided': improved-diffusion has no second"):
            from_improved_diffusion({}, conditioned("mask_guided"))
