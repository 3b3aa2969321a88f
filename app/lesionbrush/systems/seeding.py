"""Where the noise of a lesion comes from: a generator of its own, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lesionbrush.core.lesions import RoiBatch


def lesion_generators(rois: RoiBatch, items: Sequence[tuple[int, int]]) -> list[torch.Generator]:
    """One per item (seed, number of the lesion); see `RoiBatch.entropy`."""
    return [torch.Generator().manual_seed(mixed_seed(*rois.entropy(*item))) for item in items]


def mixed_seed(seed: int, lesion: int) -> int:
    """One number from two, so that neighbouring seeds and lesions share nothing."""
    return int(np.random.SeedSequence((seed, lesion)).generate_state(1)[0])
