"""How a synthetic slice is varied towards what it lacks: fat, contrast medium, bone, other doses, a cut."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lesionbrush.systems.mddpm.annotating.planes import AIR_HU, SIDE, SPACING_MM

TURN_DEG, SCALE, SHIFT_MM = 12.0, (0.8, 1.2), 35.0
CUT_SHARE, CUT_MM = 0.5, 15.0
FAT_HU, CONTRAST_HU, TISSUE_HU, LUNG_HU, NOISE_HU = -110.0, 250.0, 60.0, 80.0, 60.0
PATCH_MM = (10.0, 60.0)
BODY, LUNGS = 1, (2, 3)
"""Numbers of structures in `Pairs`."""


def vary(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(SIDE, SIDE) float32 HU and int64 labels of a pair, moved, cut and with other densities."""
    whole = torch.from_numpy(hu.astype(np.float32))
    turned, where = _move(whole, torch.from_numpy(labels), rng)
    varied = _densities(turned.numpy(), where.numpy(), rng)
    if rng.random() < CUT_SHARE:
        varied, where = _cut(varied, where, rng)
    return torch.from_numpy(varied), where


def _move(hu: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    angle, scale = np.deg2rad(rng.uniform(-TURN_DEG, TURN_DEG)), rng.uniform(*SCALE)
    shift = rng.uniform(-SHIFT_MM, SHIFT_MM, 2) / (SIDE / 2 * SPACING_MM)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    theta = torch.from_numpy(np.concatenate([turn, shift[:, None]], axis=1)).float()[None]
    grid = F.affine_grid(theta, [1, 1, SIDE, SIDE], align_corners=False)
    turned = F.grid_sample((hu - AIR_HU)[None, None], grid, align_corners=False)[0, 0] + AIR_HU
    where = F.grid_sample(labels[None, None].float(), grid, mode="nearest", align_corners=False)[0, 0]
    return turned, where.long()


def _densities(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tissue in patches of fat, muscle, contrast medium and bone; air denser or thinner; noise."""
    tissue, lung = (labels > 0) & ~np.isin(labels, LUNGS), np.isin(labels, LUNGS)
    varied = hu + TISSUE_HU * _patches(rng) * tissue
    fat = (_patches(rng) > rng.uniform(-0.5, 1.5)) & (labels == BODY)
    varied = np.where(fat, FAT_HU + 0.3 * (hu - hu[tissue].mean() if tissue.any() else 0), varied)
    bright = (_patches(rng) > rng.uniform(0.3, 2.5)) & tissue
    varied = varied + bright * rng.uniform(0, CONTRAST_HU)
    varied = varied + lung * rng.uniform(-LUNG_HU, LUNG_HU)
    noise = torch.from_numpy(rng.standard_normal((SIDE, SIDE)).astype(np.float32))
    if rng.random() < 0.5:
        noise = 2 * F.avg_pool2d(noise[None, None], 3, 1, 1)[0, 0]
    varied = varied + rng.uniform(0, NOISE_HU) * noise.numpy()
    return np.maximum(varied, AIR_HU).astype(np.float32)


def _patches(rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE) smooth noise of unit spread, its patches as wide as chance has it."""
    side = max(2, round(SIDE * SPACING_MM / rng.uniform(*PATCH_MM)))
    coarse = torch.from_numpy(rng.standard_normal((1, 1, side, side)).astype(np.float32))
    wide = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False)[0, 0]
    patches: np.ndarray = (wide / wide.std()).numpy()
    return patches


def _cut(hu: np.ndarray, labels: Tensor, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
    """Cropped around the lungs, as many CTs of archives are: nothing is known beyond, nor labelled."""
    rows, columns = (torch.nonzero((labels == LUNGS[0]) | (labels == LUNGS[1]))).T.numpy()
    if not len(rows):
        return hu, labels
    most = CUT_MM / SPACING_MM
    low = [int(max(0, one.min() - rng.uniform(1, most))) for one in (rows, columns)]
    high = [int(min(SIDE, one.max() + rng.uniform(2, most))) for one in (rows, columns)]
    kept = np.zeros((SIDE, SIDE), bool)
    kept[low[0] : high[0], low[1] : high[1]] = True
    return np.where(kept, hu, np.float32(AIR_HU)), labels * torch.from_numpy(kept)
