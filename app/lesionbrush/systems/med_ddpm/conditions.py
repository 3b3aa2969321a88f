"""What the network is shown beside the noisy image, in training as in use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lesionbrush.systems.med_ddpm.request import Content

CONTENT: Mapping[Content | None, float] = {"tumour": 1.0, "healthy": -1.0, None: 0.0}


def join_conditions(image: Tensor, visible: Tensor, mask: Tensor, content: Tensor | None) -> Tensor:
    """(B, 2 or 3, Z, Y, X): the CT where it is known, the mask, and in it the content.

    image: (B, 1, Z, Y, X) units; visible, mask: like it, 0 or 1; content: (B,), or None for a network that
    was not taught any.
    """
    shown = (image * visible, mask)
    if content is None:
        return torch.cat(shown, dim=1)
    return torch.cat((*shown, mask * content.reshape(-1, 1, 1, 1, 1)), dim=1)
