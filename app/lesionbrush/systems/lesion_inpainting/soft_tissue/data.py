"""Training batches of soft tissue: composed lesions, real tumours, and healthy tissue under a lesion's mask.

Arrays are (z, y, x) on the model's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionbrush.core.boxes import cut
from lesionbrush.core.hu import CompressiveHU
from lesionbrush.core.roi import ramp
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.attributes import as_input
from lesionbrush.systems.lesion_inpainting.data import noise_weight, stack
from lesionbrush.systems.lesion_inpainting.soft_tissue.compose import (
    Texture,
    TextureSource,
    compose,
    draw_grain,
    draw_shape,
    random_rotation,
    spare,
    standardise,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import (
    SPACING_MM,
    TISSUES,
    SoftHost,
    SoftTumour,
    is_held_out,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import FATTY_HU, Look, draw_field, measure_around
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import tell
from lesionbrush.training.recipes import Patches

SCALE = CompressiveHU(centre_hu=50.0, scale_hu=250.0, hu_per_unit=400.0)
PATCHES = Patches(sides=(24, 32, 40), shares=(0.35, 0.5, 0.15), counts=(4, 2, 1))
HEALTHY_SHARE, REAL_SHARE, UNPLANNED_SHARE = 0.25, 0.15, 0.12
"""Of all patches; the last one of lesions, which the network is to think up by itself."""
TISSUE_WEIGHTS = {"liver": 3.0, "spleen": 1.2, "kidney": 1.6, "organ": 0.8, "muscle": 2.0, "fat": 1.0}
LEAST_DIAMETER_MM, MOST_OF_SIDE = 6.0, 0.8
MARGIN_MM = (1.5, 6.0)
AIR_HU = -1000.0
PLAN_SMOOTH_VOXELS = 4.0
LEAST_VOXELS = 12
OFFSET_SHARE = 0.15
IN_FAT_HU = (40.0, 22.0)
"""Tissue below this is fat; what grows there is as dense as other tumours are: mean and spread."""


@dataclass(frozen=True)
class SoftBatch:
    """Float32 (B, 1, Z, Y, X), image in units of the HU scale; told (B, 6); weight (B,).

    plan: HU meant, as units, where planned is 1; see `plan`.
    """

    image: Tensor
    visible: Tensor
    mask: Tensor
    plan: Tensor
    planned: Tensor
    scored: Tensor
    told: Tensor
    weight: Tensor

    @property
    def conditions(self) -> Tensor:
        """(B, 5, Z, Y, X): visible context, visibility, mask, plan, where it is planned."""
        return torch.cat((self.image * self.visible, self.visible, self.mask, self.plan, self.planned), dim=1)


@dataclass(frozen=True, eq=False)
class SoftSample:
    """One patch. known: where there is truth; plan: HU, None for none; visible: what may be shown."""

    hu: np.ndarray
    mask: np.ndarray
    known: np.ndarray
    visible: np.ndarray
    told: np.ndarray
    plan: np.ndarray | None = None


class SoftPack:
    """The pack in memory, one side of the split."""

    def __init__(self, path: Path, *, held_out: bool) -> None:
        with np.load(path) as file:
            names, tumours = file["host_names"].tolist(), file["tumour_names"].tolist()
            self.hosts = [
                SoftHost(name, *(file[f"host_{k}_{part}"] for part in _HOST_PARTS))
                for k, name in enumerate(names)
                if is_held_out(name) == held_out
            ]
            self.tumours = [
                SoftTumour(name, file[f"tumour_{k}_hu"], file[f"tumour_{k}_mask"])
                for k, name in enumerate(tumours)
                if is_held_out(name) == held_out
            ]
        if not self.hosts or not self.tumours:
            raise InvalidRequest(f"{path} has no hosts or no tumours: delete it and point --data at more")

    @cached_property
    def textures(self) -> list[TextureSource]:
        return [TextureSource(tumour.hu, tumour.mask) for tumour in self.tumours]

    @cached_property
    def places(self) -> dict[str, list[tuple[int, np.ndarray]]]:
        """By tissue, which hosts have it, each with its places (N, 3)."""
        found: dict[str, list[tuple[int, np.ndarray]]] = {}
        for k, host in enumerate(self.hosts):
            for place, name in enumerate(TISSUES):
                centres = host.centres[host.centre_tissue == place]
                if len(centres):
                    found.setdefault(name, []).append((k, centres))
        return found


_HOST_PARTS = ("hu", "tissue", "known", "centres", "centre_tissue", "grain")


class SoftBatches:
    """Draws batches without end; everything random comes from the generator."""

    def __init__(
        self,
        pack: SoftPack,
        rng: np.random.Generator,
        patches: Patches,
        margin_mm: tuple[float, float] = MARGIN_MM,
    ) -> None:
        self.pack, self.rng, self.patches, self.margin_mm = pack, rng, patches, margin_mm

    def draw(self) -> SoftBatch:
        side, count = self.patches.draw(self.rng)
        return self.collate([self.sample(side) for _ in range(count)])

    def sample(self, side: int) -> SoftSample:
        kind = self.rng.random()
        if kind < REAL_SHARE:
            return self._real(side)
        return self._in_host(side, healthy=kind < REAL_SHARE + HEALTHY_SHARE)

    def _in_host(self, side: int, *, healthy: bool) -> SoftSample:
        host, start = self._place(side)
        cube = (side,) * 3
        hu = cut(host.hu.astype(np.float32), start, cube, AIR_HU)
        known = cut(host.known, start, cube, False)
        there = cut(np.ones(host.hu.shape, bool), start, cube, False)
        mask = self._mask(side, hu)
        if (mask >= 0.5).sum() < LEAST_VOXELS or not (known & (mask > 0)).any():
            return self._in_host(side, healthy=healthy)
        if healthy:
            return SoftSample(hu, mask, known, there, tell(lesion=False))
        look, margin, heterogeneity_hu = self._look(hu, mask)
        field = self._texture(mask)
        grain = draw_grain(host.grain, side, self.rng)
        made = compose(hu, mask, look, margin, Texture(field, heterogeneity_hu), grain, self.rng)
        told = tell(True, margin, heterogeneity_hu)
        plan = None if self.rng.random() < UNPLANNED_SHARE else made.plan
        return SoftSample(made.hu, mask, known, there, told, plan)

    def _place(self, side: int) -> tuple[SoftHost, np.ndarray]:
        names = list(self.pack.places)
        weights = np.array([TISSUE_WEIGHTS[name] for name in names])
        hosts = self.pack.places[names[int(self.rng.choice(len(names), p=weights / weights.sum()))]]
        k, centres = hosts[int(self.rng.integers(len(hosts)))]
        centre = centres[int(self.rng.integers(len(centres)))]
        return self.pack.hosts[k], centre.astype(int) - side // 2

    def _mask(self, side: int, hu: np.ndarray) -> np.ndarray:
        """A lesion's outline: made up, or a sarcoma's, shrunk; not always in the middle."""
        most = MOST_OF_SIDE * side * SPACING_MM
        diameter_mm = float(np.exp(self.rng.uniform(np.log(LEAST_DIAMETER_MM), np.log(most))))
        if self.rng.random() < 0.4:
            mask = self._sarcoma_shape(side, diameter_mm)
        else:
            mask = draw_shape((side,) * 3, diameter_mm, self.rng)
        shift = np.rint(self.rng.normal(0, OFFSET_SHARE * side / 2, 3)).astype(int)
        mask = ndimage.shift(mask, shift, order=0)
        return spare(mask, hu)

    def _sarcoma_shape(self, side: int, diameter_mm: float) -> np.ndarray:
        k = int(self.rng.integers(len(self.pack.tumours)))
        source, mask = self.pack.textures[k], self.pack.tumours[k].mask
        zoom = max(source.diameter * SPACING_MM / diameter_mm, 0.7)
        matrix = zoom * random_rotation(self.rng)
        offset = source.middle - matrix @ np.full(3, (side - 1) / 2)
        smooth = ndimage.gaussian_filter(mask / np.float32(255), 0.4 * zoom)
        made: np.ndarray = ndimage.affine_transform(smooth, matrix, offset, output_shape=(side,) * 3, order=1)
        return np.clip(0.5 + (made - 0.5) * zoom, 0, 1)

    def _look(self, hu: np.ndarray, mask: np.ndarray) -> tuple[Look, float, float]:
        """What a lesion is to look like: its plan, margin and heterogeneity in HU."""
        rng = self.rng
        around = measure_around(hu, mask, SPACING_MM)
        contrast = float(rng.uniform(-90, 110)) if rng.random() < 0.4 else float(rng.normal(-35, 18))
        if around < FATTY_HU:
            contrast = float(rng.normal(*IN_FAT_HU)) - around
        degrees = [float(rng.uniform(0, 1)) if rng.random() < share else 0.0 for share in (0.25, 0.3, 0.12)]
        heterogeneity_hu = float(np.exp(rng.normal(np.log(8), 0.6)))
        return Look(contrast, *degrees), float(rng.uniform(0, 1)), float(np.clip(heterogeneity_hu, 1, 35))

    def _texture(self, mask: np.ndarray) -> np.ndarray:
        if self.rng.random() < 0.75:
            k = int(self.rng.integers(len(self.pack.textures)))
            return self.pack.textures[k].draw(mask, self.rng)
        scale = float(np.exp(self.rng.uniform(np.log(1.5), np.log(6))))
        return standardise(draw_field(mask.shape, scale, self.rng), mask)

    def _real(self, side: int) -> SoftSample:
        """A real tumour, or a part of it, in its own CT; its plan is its own density, smoothed."""
        tumour = self.pack.tumours[int(self.rng.integers(len(self.pack.tumours)))]
        places = np.argwhere(tumour.mask > 127)
        start = places[int(self.rng.integers(len(places)))] - self.rng.integers(0, side, 3)
        cube = (side,) * 3
        hu = cut(tumour.hu.astype(np.float32), start, cube, AIR_HU)
        mask = cut(tumour.mask / np.float32(255), start, cube, 0.0)
        known = cut(np.ones(tumour.hu.shape, bool), start, cube, False)
        mask = _a_part(mask, self.rng)
        weight = np.maximum(ndimage.gaussian_filter(mask, PLAN_SMOOTH_VOXELS), 1e-3)
        plan = ndimage.gaussian_filter(mask * hu, PLAN_SMOOTH_VOXELS) / weight
        plan = None if self.rng.random() < UNPLANNED_SHARE else plan.astype(np.float32)
        return SoftSample(hu, mask, known, known, tell(True), plan)

    def collate(self, samples: Sequence[SoftSample]) -> SoftBatch:
        columns = stack(self._arrays(sample) for sample in samples)
        volumes = [column[:, None] for column in columns[:6]]
        return SoftBatch(*volumes, *columns[6:])

    def _arrays(self, sample: SoftSample) -> tuple[np.ndarray, ...]:
        turned = self._turn(sample)
        hu, mask, known, visible, plan = turned
        edit = ramp(mask > 0.5, SPACING_MM, self.rng.uniform(*self.margin_mm)) > 0
        image = SCALE.to_unit(hu).astype(np.float32)
        planned = (mask > 0) if sample.plan is not None else np.zeros(mask.shape, bool)
        units = np.where(planned, SCALE.to_unit(plan), 0)
        shown, scored = visible & ~edit, known & edit
        told = as_input(self._drop(sample.told))
        arrays = (image, shown, mask, units, planned, scored)
        return (*(a.astype(np.float32) for a in arrays), told, noise_weight(image, shown))

    def _turn(self, sample: SoftSample) -> list[np.ndarray]:
        """The same random mirror images and in-plane transpose of all arrays."""
        plan = np.zeros_like(sample.hu) if sample.plan is None else sample.plan
        arrays = [sample.hu, sample.mask, sample.known, sample.visible, plan]
        flips = tuple(axis for axis in range(3) if self.rng.random() < 0.5)
        arrays = [np.flip(array, flips) for array in arrays]
        if self.rng.random() < 0.5:
            arrays = [array.swapaxes(1, 2) for array in arrays]
        return arrays

    def _drop(self, told: np.ndarray) -> np.ndarray:
        drop = self.rng.random(len(told)) < 0.3
        drop[0] = False
        return np.where(drop, np.nan, told).astype(np.float32)


def _a_part(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A large tumour can fill a patch, which leaves nothing to see: then only a ball of it is made anew."""
    if (mask >= 0.5).mean() < 0.35:
        return mask
    side = mask.shape[0]
    ball = draw_shape((side,) * 3, rng.uniform(0.4, 0.75) * side * SPACING_MM, rng)
    part = mask * ball
    return part if (part >= 0.5).sum() >= LEAST_VOXELS else mask
