"""The network: what it must not depend on, and what it must be at both ends of the noise."""

from __future__ import annotations

from hashlib import sha256

import pytest
import torch
from core_fixtures import NETWORK, tiny_network
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.network import (
    ChannelNorm,
    LesionUNet,
    LesionUNetConfig,
    ResBlock,
    fourier,
    pixel_shuffle,
    pixel_unshuffle,
)
from torch import Tensor

A = len(ATTRIBUTES)
SHIPPED = LesionUNetConfig(attributes=A, channels=(48, 96, 160), blocks=2, head_channels=16)
REACH = 56
"""Voxels beyond which nothing matters, in multiples of 8: 44 by the kernels, and 7 by the strides."""


def inputs(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy image, conditions, attributes: (1, 1, Z, Y, X), (1, 3, Z, Y, X), (1, 2 A)."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*s, generator=rng) for s in ((1, 1, *shape), (1, 3, *shape), (1, 2 * A)))


@torch.inference_mode()
def predict(
    network: LesionUNet, x: Tensor, alpha: float, sigma: float, given: tuple[Tensor, Tensor]
) -> Tensor:
    return network(x, torch.tensor([alpha]), torch.tensor([sigma]), *given)


@pytest.fixture(scope="module")
def network() -> LesionUNet:
    return tiny_network()


def test_pixel_shuffle_undoes_pixel_unshuffle() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    small = pixel_unshuffle(x)
    assert small.shape == (2, 24, 2, 3, 4)
    assert torch.equal(pixel_shuffle(small), x)


def test_each_cube_of_eight_voxels_becomes_the_channels_of_one() -> None:
    x = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    small = pixel_unshuffle(x)
    for corner in ((0, 0, 0), (1, 0, 1)):
        z, y, w = corner
        cube = x[0, 0, 2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * w : 2 * w + 2]
        assert set(small[0, :, z, y, w].tolist()) == set(cube.flatten().tolist())


def test_channel_norm_looks_at_one_voxel_at_a_time() -> None:
    x = torch.randn(1, 8, 2, 3, 4)
    found = ChannelNorm(8)(x)
    centred = x - x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(found, centred / (centred**2).mean(dim=1, keepdim=True).add(1e-5).sqrt())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_prediction_does_not_depend_on_how_large_a_box_was_cut(network: LesionUNet, axis: int) -> None:
    """The inner voxels of a long box are the same in a shorter one that begins 8 voxels later."""
    shape = [16, 16, 16]
    shape[axis] = 2 * REACH + 32
    x, conditions, attributes = inputs(*shape)
    whole = predict(network, x, 0.6, 0.8, (conditions, attributes))
    cut = [part.narrow(axis + 2, 8, shape[axis] - 8) for part in (x, conditions)]
    part = predict(network, cut[0], 0.6, 0.8, (cut[1], attributes))
    inner = whole.narrow(axis + 2, 8 + REACH, 16), part.narrow(axis + 2, REACH, 16)
    torch.testing.assert_close(*inner, atol=1e-5, rtol=1e-5)
    at_the_cut = whole.narrow(axis + 2, 8, 8), part.narrow(axis + 2, 0, 8)
    assert (at_the_cut[0] - at_the_cut[1]).abs().max() > 1e-3


def test_without_noise_the_image_comes_back(network: LesionUNet) -> None:
    x, *given = inputs(16, 16, 16)
    found = predict(network, x, 1.0, 1e-5, given)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=0)


def test_in_nothing_but_noise_the_guess_is_all_there_is(network: LesionUNet) -> None:
    x, *given = inputs(16, 16, 16)
    level = torch.tensor([1e-4]), torch.tensor([1.0])
    with torch.inference_mode():
        guess = network.guess(x, *level, *given)
    torch.testing.assert_close(network(x, *level, *given).detach(), guess, atol=1e-3, rtol=0)


def test_in_between_it_is_the_posterior_mean_of_a_gaussian(network: LesionUNet) -> None:
    """Prior N(guess, s^2), observation x / alpha = x_0 + r eps: the mean is weighted by the precisions."""
    x, *given = inputs(16, 16, 16)
    alpha, sigma, s = 0.9, 0.1, NETWORK.prior_spread
    with torch.inference_mode():
        guess = network.guess(x, torch.tensor([alpha]), torch.tensor([sigma]), *given)
    r = sigma / alpha
    expected = (guess / s**2 + (x / alpha) / r**2) / (1 / s**2 + 1 / r**2)
    torch.testing.assert_close(predict(network, x, alpha, sigma, given), expected)


def test_before_training_the_guess_is_the_middle_of_the_window() -> None:
    network = LesionUNet(LesionUNetConfig(A, channels=(8, 16), blocks=1, head_channels=4))
    x, *given = inputs(8, 8, 8)
    with torch.inference_mode():
        assert not network.guess(x, torch.tensor([0.5]), torch.tensor([0.5]), *given).any()


def test_before_training_a_block_is_the_identity() -> None:
    x = torch.randn(1, 8, 4, 4, 4)
    assert torch.equal(ResBlock(8, 32)(x, torch.randn(1, 32)), x)


def test_everything_that_goes_in_has_a_say(network: LesionUNet) -> None:
    x, conditions, attributes = inputs(16, 16, 16)
    before = predict(network, x, 0.3, 0.95, (conditions, attributes))
    for channel in range(3):
        other = conditions.clone()
        other[:, channel] += 1
        assert (predict(network, x, 0.3, 0.95, (other, attributes)) - before).abs().max() > 1e-3
    assert (predict(network, x, 0.3, 0.95, (conditions, attributes + 1)) - before).abs().max() > 1e-3
    assert (predict(network, x + 1, 0.3, 0.95, (conditions, attributes)) - before).abs().max() > 1e-3


def test_items_of_a_batch_do_not_see_each_other(network: LesionUNet) -> None:
    parts = [inputs(16, 16, 16, seed=seed) for seed in range(3)]
    x, conditions, attributes = (torch.cat(part) for part in zip(*parts, strict=True))
    alpha, sigma = torch.tensor([0.2, 0.6, 0.9]), torch.tensor([0.98, 0.8, 0.4])
    with torch.inference_mode():
        together = network(x, alpha, sigma, conditions, attributes)
    for k, (one, *given) in enumerate(parts):
        alone = predict(network, one, float(alpha[k]), float(sigma[k]), given)
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-5)


def test_the_level_is_told_apart_from_slow_to_fast() -> None:
    levels = torch.linspace(-5, 5, 101)
    codes = fourier(levels)
    assert codes.shape == (101, 32)
    torch.testing.assert_close(codes[:, :16] ** 2 + codes[:, 16:] ** 2, torch.ones(101, 16))
    assert torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.1


def names_and_shapes(network: LesionUNet) -> str:
    lines = [f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


def test_names_and_shapes_of_the_weights_stay_what_files_hold() -> None:
    """A change here makes every model folder unreadable."""
    expected = "8b96c395088b05edc546abd5797ce8a289a8b1c9ea09539fb50ae2d567cb4d77"
    assert names_and_shapes(LesionUNet(SHIPPED)) == expected
    assert SHIPPED.multiple == 8
