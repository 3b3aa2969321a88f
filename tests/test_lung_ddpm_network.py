"""Lung-DDPM's networks: published checkpoints load with none left over, and predict what was published."""

from __future__ import annotations

import math

import pytest
import torch
from lesionbrush.errors import WeightsError
from lesionbrush.systems.fit import Fit, compare
from lesionbrush.systems.lung_ddpm.network import (
    LUNG_DDPM,
    LUNG_DDPM_PLUS,
    checkpoint_tensors,
    from_published,
    published_shapes,
)
from lesionbrush.systems.lung_ddpm.published import whole
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig, timestep_embedding
from monai.networks.nets import DiffusionModelUNet
from published_kit import LUNG_DDPM as LAYOUT
from published_kit import LUNG_DDPM_PLUS as LAYOUT_PLUS
from published_kit import TINY, Layout, alphas_bar, checkpoint, doubled, predict, random_tensors, shapes
from torch import Tensor, nn

torch.set_num_threads(1)
SMALL = MedUNetConfig(2, (32, 64), (False, True))
PUBLISHED = [(LAYOUT, LUNG_DDPM, 40_226_433), (LAYOUT_PLUS, LUNG_DDPM_PLUS, 39_051_393)]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return random_tensors(TINY)


@pytest.fixture(scope="module")
def given() -> tuple[Tensor, Tensor]:
    """Two inputs of 8³ with two channels, at an early and a late timestep."""
    x = torch.randn((2, 2, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([7, 201])


@pytest.mark.parametrize(("layout", "config", "parameters"), PUBLISHED)
class TestPublishedFormat:
    def test_names_and_shapes(self, layout: Layout, config: MedUNetConfig, parameters: int) -> None:
        wanted = shapes(layout)
        assert published_shapes(config) == wanted
        assert sum(map(math.prod, wanted.values())) == parameters

    def test_loads_with_none_left_over(self, layout: Layout, config: MedUNetConfig, parameters: int) -> None:
        published = {name: torch.empty(shape, device="meta") for name, shape in shapes(layout).items()}
        state = from_published(checkpoint_tensors(checkpoint(published)), config)
        with torch.device("meta"):
            network = MedUNet(config)
        network.load_state_dict(state, strict=True, assign=True)
        assert sum(value.numel() for value in state.values()) == parameters


class TestPrediction:
    def test_is_the_published_one(self, tensors: dict[str, Tensor], given: tuple[Tensor, Tensor]) -> None:
        network = MedUNet(SMALL)
        network.load_state_dict(from_published(tensors, SMALL))
        with torch.inference_mode():
            assert relative(network(*given), predict(tensors, TINY, *given)) < 1e-5

    def test_stock_monai_takes_the_same_weights_and_is_wrong(
        self, tensors: dict[str, Tensor], given: tuple[Tensor, Tensor]
    ) -> None:
        stock = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2,
            out_channels=1,
            num_res_blocks=1,
            channels=(32, 64),
            attention_levels=(False, True),
            num_head_channels=(32, 64),
            norm_eps=1e-5,
        )
        stock.load_state_dict(from_published(tensors, SMALL))
        wanted = predict(tensors, TINY, *given)
        with torch.inference_mode():
            assert relative(stock(*given), wanted) == pytest.approx(0.346, rel=0.02)
            for module in stock.modules():
                if isinstance(module, nn.Upsample):
                    module.mode = "trilinear"
            # the embedding alone:
            assert relative(stock(*given), wanted) == pytest.approx(0.0585, rel=0.02)

    def test_nearest_upsampling_alone_is_wrong(
        self, tensors: dict[str, Tensor], given: tuple[Tensor, Tensor]
    ) -> None:
        network = MedUNet(SMALL)
        network.load_state_dict(from_published(tensors, SMALL))
        for module in network.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "nearest", None
        with torch.inference_mode():
            wrong = relative(network(*given), predict(tensors, TINY, *given))
        assert wrong == pytest.approx(0.345, rel=0.02)

    def test_training_reaches_every_weight(self, given: tuple[Tensor, Tensor]) -> None:
        network = MedUNet(SMALL)
        network.load_state_dict(from_published(random_tensors(TINY, 2), SMALL))
        network(*given).square().mean().backward()
        assert [name for name, value in network.named_parameters() if value.grad is None] == []


class TestDeviations:
    def test_longest_period_is_1000(self) -> None:
        found = timestep_embedding(torch.tensor([100]), 4)[0].tolist()
        slow = 100 / math.sqrt(1000)
        assert found == pytest.approx(
            [math.cos(100), math.cos(slow), math.sin(100), math.sin(slow)], abs=1e-5
        )

    def test_upsampling_is_trilinear(self) -> None:
        ramp = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 1, 2).expand(1, 1, 2, 2, 2)
        upsamplers = [module for module in MedUNet(SMALL).modules() if isinstance(module, nn.Upsample)]
        assert len(upsamplers) == 1
        made = upsamplers[0](ramp)
        assert made[0, 0, 0, 0].tolist() == [0, 0.25, 0.75, 1]
        noise = torch.randn((1, 2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(upsamplers[0](noise), doubled(noise))


class TestRefusals:
    def test_a_wrong_shape_is_named(self, tensors: dict[str, Tensor]) -> None:
        wrong = {**tensors, "middle_block.1.qkv.weight": torch.zeros(190, 64, 1)}
        with pytest.raises(
            WeightsError,
            match=r"1 of another shape: middle_block\.1\.qkv\.weight is 190x64x1 instead of 192x64x1",
        ):
            from_published(wrong, SMALL)

    def test_what_is_missing_and_what_is_too_much_is_named(self, tensors: dict[str, Tensor]) -> None:
        wrong = {name: value for name, value in tensors.items() if name != "out.2.bias"}
        wrong["label_emb.weight"] = torch.zeros(3)
        with pytest.raises(WeightsError, match=r"1 missing: out\.2\.bias; 1 not known: label_emb\.weight"):
            from_published(wrong, SMALL)

    def test_lung_ddpm_plus_is_not_lung_ddpm(self) -> None:
        published = {name: torch.empty(shape, device="meta") for name, shape in shapes(LAYOUT_PLUS).items()}
        with pytest.raises(
            WeightsError, match=r"of another shape: .*input_blocks\.0\.0\.weight is 64x2x3x3x3"
        ):
            whole().convert(checkpoint(published))

    @pytest.mark.parametrize("content", [None, [1], {}, {"ema": 3}, {"ema": {"denoise_fn.a": 3}}])
    def test_no_checkpoint(self, content: object) -> None:
        with pytest.raises(WeightsError, match="no tensors under 'ema'"):
            checkpoint_tensors(content)

    def test_a_tensor_outside_the_network_is_named(self, tensors: dict[str, Tensor]) -> None:
        made = checkpoint(tensors)
        made["ema"]["out.2.bias"] = torch.zeros(1)
        with pytest.raises(WeightsError, match=r"1 not known: out\.2\.bias"):
            checkpoint_tensors(made)

    def test_another_noise_schedule(self, tensors: dict[str, Tensor]) -> None:
        with pytest.raises(WeightsError, match=r"noise schedule \(1000 steps\)"):
            checkpoint_tensors(checkpoint(tensors, T=1000))
        other = checkpoint(tensors)
        other["ema"]["alphas_cumprod"] = torch.linspace(0.999, 0.001, 250)
        with pytest.raises(WeightsError, match="noise schedule"):
            checkpoint_tensors(other)


def test_the_schedule_is_near_one_at_first_and_near_zero_in_the_end() -> None:
    table = alphas_bar()
    assert float(table[0]) == pytest.approx(0.99981, abs=5e-6)
    assert float(table[-1]) == pytest.approx(3.9e-8, rel=0.02)


class TestFit:
    def test_all_fits(self) -> None:
        fit = compare({"a": (1,)}, {"a": (1,)})
        assert fit
        assert fit.report() == ""

    def test_many_names_are_counted(self) -> None:
        fit = Fit(missing=tuple("abcdefg"))
        assert not fit
        assert fit.report() == "7 missing: a, b, c, d, e and 2 more"

    def test_a_shape_without_axes(self) -> None:
        report = compare({"a": ()}, {"a": (2, 3)}).report()
        assert report == "1 of another shape: a is a single number instead of 2x3"
