"""The weights of Lung-DDPM and Lung-DDPM+ as their publishers store them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lesionbrush.systems.contract import PublishedWeights
from lesionbrush.systems.lung_ddpm.network import (
    LUNG_DDPM,
    LUNG_DDPM_PLUS,
    TIMESTEPS,
    checkpoint_tensors,
    from_published,
)
from lesionbrush.systems.med_unet import MedUNetConfig

WINDOW_HU = (-1024.0, 3071.0)
WHOLE_SIDE, CUBE_SIDE = 128, 64
LUNG = {"name": "lung", "hu": (-1000.0, -300.0), "least_share": 0.3}


def whole() -> PublishedWeights:
    """Both lungs, in 128 voxels a side."""
    return _weights(LUNG_DDPM, roi_voxels=(WHOLE_SIDE,), spacing_mm=2.0)


def cube() -> PublishedWeights:
    """A nodule in 64 voxels a side.

    The boxes keep their scan's voxels, in LIDC-IDRI about 0.7 mm in plane and 1 to 2.5 mm along the body;
    cubes of 1 mm are in between.
    """
    return _weights(LUNG_DDPM_PLUS, roi_voxels=(CUBE_SIDE,), spacing_mm=1.0)


def _weights(config: MedUNetConfig, **place: Any) -> PublishedWeights:
    def convert(checkpoint: Any) -> Mapping[str, Tensor]:
        return from_published(checkpoint_tensors(checkpoint), config)

    network = {"dims": 3, **asdict(config), "prediction": "eps"}
    section = {"scaling": "columns", "schedule": "cosine", "timesteps": TIMESTEPS, "network": network}
    common = {"window_hu": WINDOW_HU, "roi_multiple": config.multiple, "tissue": LUNG}
    return PublishedWeights(convert, {**common, "section": section, **place})
