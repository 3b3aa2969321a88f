"""A network on a box that is larger than what it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from monai.inferers import sliding_window_inference
from torch import Tensor

TILE_OVERLAP = 0.25


def in_tiles(predict: Callable[[Tensor], Tensor], inputs: Tensor, tile: int) -> Tensor:
    """`predict` on the whole (B, C, Z, Y, X) box, or for larger ones the mean over overlapping tiles.

    All tiles share each step's x, so a large lesion is sampled jointly, never cut
    (Bar-Tal et al. 2023, arXiv:2302.08113).
    """
    if max(inputs.shape[2:]) <= tile:
        return predict(inputs)
    size = [min(side, tile) for side in inputs.shape[2:]]
    tiled = sliding_window_inference(inputs, size, 1, predict, overlap=TILE_OVERLAP, mode="gaussian")
    return cast(Tensor, tiled)
