"""The clean image that follows from what a network says.

v-prediction (Salimans & Ho 2022, arXiv:2202.00512) is for images of any spread.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def image_from_v(x: Tensor, v: Tensor, alpha: Number, sigma: Number, spread: float = 1.0) -> Tensor:
    """x_0 = c_skip x - c_out v, so that v has unit variance if x_0 has standard deviation `spread`.

    c_skip = alpha spread² / d, c_out = sigma spread / sqrt(d), d = alpha² spread² + sigma²: Table 1 of Karras
    et al. 2022 (arXiv:2206.00364) for a variance-preserving x. With spread 1 it is alpha x - sigma v.
    alpha, sigma: numbers, or shaped to broadcast.
    """
    variance = alpha**2 * spread**2 + sigma**2
    return alpha * spread**2 / variance * x - sigma * spread / variance**0.5 * v


def v_from_image(x: Tensor, x_0: Tensor, alpha: Number, sigma: Number, spread: float = 1.0) -> Tensor:
    """The v that `image_from_v` makes this image of."""
    variance = alpha**2 * spread**2 + sigma**2
    return (alpha * spread**2 / variance * x - x_0) * variance**0.5 / (sigma * spread)


def image_from(
    prediction: Literal["eps", "x0", "v"],
    x: Tensor,
    said: Tensor,
    alpha: Number,
    sigma: Number,
    spread: float,
) -> Tensor:
    """x_0 from x at (alpha, sigma) and what the network said of it. spread: see `image_from_v`."""
    if prediction == "eps":
        return (x - sigma * said) / alpha
    if prediction == "v":
        return image_from_v(x, said, alpha, sigma, spread)
    return said
