"""Training batches of Lung-DDPM+: nodules in their crops and in lungs, with their masks as layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.core.roi import ramp
from lesionbrush.systems.lesion_inpainting.attributes import healthy
from lesionbrush.systems.lesion_inpainting.data import NoduleCrops, Sample, noise_weight, stack
from lesionbrush.systems.lung_ddpm.layout import nodule_layout
from lesionbrush.systems.lung_ddpm.trainer import LayoutBatch
from lesionbrush.training.recipes import Patches

PATCHES = Patches(sides=(32, 48), shares=(0.7, 0.3), counts=(2, 1))
"""None below 32: with 2^3 voxels at the lowest level, torch's bfloat16 gradients on a CPU are random."""
EMPTY_SHARE, COMPOSED_SHARE = 0.1, 0.6
NEAR_MM, NEAR_WEIGHT = 5.0, 4.0
"""What lies in the nodule or this near to it counts so many times what lies farther off."""


class NoduleBatches(NoduleCrops[Sample, LayoutBatch]):
    """Cubes around nodules on the model's grid, and some of lung without a nodule."""

    def sample(self, side: int) -> Sample:
        kind = self.rng.random()
        if kind < EMPTY_SHARE:
            empty = np.zeros((side,) * 3, np.float32)
            return Sample(self._host_patch(side), empty, np.ones(empty.shape, bool), healthy())
        nodule = self._nodule(side)
        return self._compose(nodule, side) if kind < EMPTY_SHARE + COMPOSED_SHARE else nodule

    def collate(self, samples: Sequence[Sample]) -> LayoutBatch:
        return LayoutBatch(*stack(self._score(sample) for sample in samples))

    def _score(self, sample: Sample) -> tuple[np.ndarray, ...]:
        image = self.window.to_unit(sample.image_hu).astype(np.float32)
        inside = sample.mask >= 0.5
        near = ramp(inside, 1.0, NEAR_MM) > 0 if inside.any() else inside
        scored = np.where(near, NEAR_WEIGHT, 1.0).astype(np.float32) * sample.known
        weight = noise_weight(image, sample.known & ~near)
        return image[None], nodule_layout(inside), scored[None], weight
