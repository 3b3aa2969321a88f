"""The attributes of a lesion, as numbers a network can be conditioned on.

One table, used by the request (what a user may ask), the training pack (what the readers said and what the
image shows) and the model (what goes in). NaN means: left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ATTRIBUTES = (
    "lesion",
    "texture",
    "margin",
    "spiculation",
    "lobulation",
    "calcified",
    "mean_hu",
    "heterogeneity_hu",
    "border_roughness",
    "concavity",
)
"""Order of the vector. All are scaled to about 0..1; up to `calcified` the readers', then measured ones."""

MEAN_HU_SCALE = 1000.0
HETEROGENEITY_HU_SCALE = 500.0
TEXTURES = {"ground_glass": 0.0, "part_solid": 0.5, "solid": 1.0}
SOLID_SHARES = {0.5: 0.42, 0.75: 0.58}
LEFT_OPEN, LOST_MM, TYPICAL_DIAMETER_MM = 0.54, 1.65, 8.0
"""By texture, or where that is left open, the share of a part-solid lesion's volume that its solid core would
take, were it very large; a lesion of d mm has LOST_MM / d less. With these the 56 training nodules that the
readers scored 3 and 4 of 5 are on average as dense as they were, small ones and large ones."""
SHARE_RANGE = (0.05, 0.9)
READER_ABSENT_CALCIFICATION = 6


@dataclass(frozen=True)
class Measured:
    """What the image shows. border_roughness, concavity: ranks among the training nodules, NaN if open."""

    mean_hu: float
    heterogeneity_hu: float
    border_roughness: float = np.nan
    concavity: float = np.nan


def from_readers(row: Mapping[str, str], measured: Measured) -> np.ndarray:
    """(A,) float32 from one row of the LIDC-IDRI readers' scores and what was measured.

    Readers score 1..5: texture from ground glass to solid, margin from poor to sharp, spiculation and
    lobulation from none to marked; calcification has kinds 1..5, and 6 for absent.
    """

    def score(name: str) -> float:
        text = row.get(f"{name}_value", "")
        return (float(text) - 1) / 4 if text else np.nan

    kind = row.get("Calcification_value", "")
    calcified = float(float(kind) != READER_ABSENT_CALCIFICATION) if kind else np.nan
    values = [
        1.0,
        score("Texture"),
        score("Margin"),
        score("Spiculation"),
        score("Lobulation"),
        calcified,
        measured.mean_hu / MEAN_HU_SCALE,
        measured.heterogeneity_hu / HETEROGENEITY_HU_SCALE,
        measured.border_roughness,
        measured.concavity,
    ]
    return np.array(values, dtype=np.float32)


def typical_solid_share(diameters_mm: np.ndarray, texture: float = np.nan) -> np.ndarray:
    """Of part-solid lesions that readers give this texture, of 0.5 or 0.75; NaN: of any."""
    share = SOLID_SHARES.get(texture, LEFT_OPEN) - LOST_MM / np.maximum(diameters_mm, 1.0)
    return np.clip(share, *SHARE_RANGE)


def part_solid_texture(solid_share: float | None) -> float:
    """The texture that readers give a part-solid lesion of typical size, with such a core or with some."""
    if solid_share is None:
        return TEXTURES["part_solid"]
    diameter_mm = np.array(TYPICAL_DIAMETER_MM)
    shares = [float(typical_solid_share(diameter_mm, texture)) for texture in SOLID_SHARES]
    return float(np.interp(solid_share, shares, list(SOLID_SHARES)))


def healthy() -> np.ndarray:
    """(A,) float32 of no lesion at all: everything else is left open."""
    values = np.full(len(ATTRIBUTES), np.nan, np.float32)
    values[0] = 0.0
    return values


def as_input(values: np.ndarray) -> np.ndarray:
    """(..., A) with NaN for what is open, to the network's (..., 2 A): values, then which are given."""
    given = ~np.isnan(values)
    return np.concatenate((np.where(given, values, 0.0), given), axis=-1).astype(np.float32)
