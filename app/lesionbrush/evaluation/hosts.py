"""Whole chest CTs as hosts: where to paint beside the pleura, a vessel or a fissure, and what to paint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume

GRID_MM = 2.0
"""Places are sought on a coarse grid: about this spacing."""
DEEP_MM = 14.0


@dataclass(frozen=True, eq=False)
class Host:
    """A chest CT, its lungs, and masks of its own nodules."""

    name: str
    ct: Volume
    lungs: Volume | None
    nodules: tuple[Volume, ...]

    @cached_property
    def step(self) -> tuple[int, int, int]:
        """Stored voxels per voxel of the coarse grid."""
        i, j, k = (max(1, round(GRID_MM / mm)) for mm in self.ct.spacing_mm)
        return i, j, k

    @cached_property
    def coarse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """HU smoothed by 1.5 mm, lungs (bool) and depth in the lung in mm, all on the coarse grid."""
        spacing = np.array(self.ct.spacing_mm)
        i, j, k = self.step
        smooth = ndimage.gaussian_filter(self.ct.array.astype(np.float32), 1.5 / spacing)[::i, ::j, ::k]
        lungs = self._lungs()[::i, ::j, ::k]
        depth = ndimage.distance_transform_edt(lungs, sampling=spacing * self.step)
        return smooth, lungs, depth

    def _lungs(self) -> np.ndarray:
        """The lung mask with vessels and nodules filled in."""
        lungs = self.ct.array < -500 if self.lungs is None else self.lungs.array > 0
        closed: np.ndarray = ndimage.binary_closing(lungs, np.ones((5, 5, 1)))
        return closed

    def sites(self, radius_mm: float) -> Iterator[tuple[str, np.ndarray]]:
        """(what it is near, voxel index) of a place for a lesion of this radius, each kind once.

        A kind for which this CT has no place is left out.
        """
        smooth, lungs, depth = self.coarse
        x = np.abs(np.arange(lungs.shape[0]) - lungs.shape[0] / 2)[:, None, None] + np.zeros(lungs.shape)
        middle = lungs & self._middle()
        rim = middle & (np.abs(depth - 0.7 * radius_mm) < GRID_MM)
        deep = middle & (depth > DEEP_MM)
        spread = ndimage.generic_gradient_magnitude(smooth, ndimage.sobel)
        for name, where, score in (
            ("pleura", rim, x),
            ("mediastinum", rim, -x),
            ("vessel", deep, ndimage.maximum_filter(smooth, 3)),
            ("fissure", deep, ndimage.uniform_filter(sheetness(smooth), 5)),
            ("open lung", deep, -ndimage.uniform_filter(spread, 7)),
        ):
            if where.any():
                best = np.argmax(np.where(where, score, -np.inf))
                yield name, np.array(np.unravel_index(best, where.shape)) * self.step

    def places(
        self, count: int, rng: np.random.Generator, least_depth_mm: float = DEEP_MM
    ) -> list[np.ndarray]:
        """Voxel indices of `count` places drawn anywhere so deep in the lungs; fewer when there are fewer."""
        _, lungs, depth = self.coarse
        found = np.argwhere(lungs & self._middle() & (depth > least_depth_mm))
        chosen = rng.permutation(len(found))[:count]
        return [found[k] * self.step for k in chosen]

    def _middle(self) -> np.ndarray:
        """Slices away from both ends, so that there is context all round."""
        length = self.coarse[1].shape[2]
        places = np.arange(length)
        keep: np.ndarray = (places > 0.2 * length) & (places < 0.8 * length)
        return keep[None, None, :]

    def blob(self, centre: np.ndarray, radius_mm: float, seed: int = 0) -> Volume:
        """A mask: a ball with an uneven surface around a voxel, on the grid of the CT."""
        spacing = np.array(self.ct.spacing_mm)
        reach = np.ceil(1.5 * radius_mm / spacing).astype(int) + 1
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, self.ct.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        places = np.stack(
            np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), -1
        )
        offset = (places - centre) * spacing
        distance = np.linalg.norm(offset, axis=-1)
        mask = np.zeros(self.ct.shape, np.uint8)
        mask[box] = distance <= radius_mm * (1 + _bumps(offset / np.maximum(distance, 1e-6)[..., None], seed))
        mask[tuple(centre)] = 1
        return self.ct.with_array(mask)

    def thick(self, slice_mm: float) -> Host:
        """The same CT with slices of about `slice_mm`: means of neighbouring slices along the last axis."""
        count = max(1, round(slice_mm / self.ct.spacing_mm[2]))
        kept = self.ct.shape[2] // count * count
        return Host(
            f"{self.name}, {slice_mm:g} mm slices",
            _average(self.ct, count, kept),
            None if self.lungs is None else _average(self.lungs, count, kept),
            (),
        )


def _average(volume: Volume, count: int, kept: int) -> Volume:
    i, j, _ = volume.shape
    means = volume.array[:, :, :kept].reshape(i, j, kept // count, count).mean(axis=3)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (count - 1) / 2
    affine[:3, 2] *= count
    return Volume(np.rint(means).astype(volume.array.dtype), affine)


def _bumps(directions: np.ndarray, seed: int) -> np.ndarray:
    """A smooth function on the sphere, -0.25 to 0.25: a few plane waves."""
    rng = np.random.default_rng(seed)
    waves = [(rng.normal(size=3), rng.uniform(0, 2 * np.pi)) for _ in range(6)]
    total: np.ndarray = sum(np.sin(2.2 * directions @ wave + phase) for wave, phase in waves)
    return total / 6 * 0.25


def sheetness(smooth: np.ndarray) -> np.ndarray:
    """How much a voxel lies on a thin bright plate: the strongest second derivative less the next one."""
    gradients = np.gradient(smooth)
    hessian = np.stack([np.stack(np.gradient(g), -1) for g in gradients], -1)
    sizes = np.linalg.eigvalsh((hessian + hessian.swapaxes(-1, -2)) / 2)
    plate: np.ndarray = np.clip(-sizes[..., 0] - np.abs(sizes[..., 1]) - np.abs(sizes[..., 2]), 0, 60)
    return np.where(smooth < -600, plate, 0)


def load_hosts(data: Path) -> list[Host]:
    """Every chest CT of the data folder, with its lungs and nodule masks where it has them."""
    folder = data / "chest_ct"
    found = []
    for path in sorted(folder.glob("*.nii.gz")):
        stem = path.name.removesuffix(".nii.gz")
        if "_lungs" in stem or "_nodule" in stem:
            continue
        patient, _, rest = stem.partition("_")
        lungs = folder / (f"{patient}_lungs_{rest}.nii.gz" if rest else f"{stem}_lungs.nii.gz")
        nodules = sorted(folder.glob(f"{stem}_nodule_*.nii.gz"))
        found.append(
            Host(
                stem,
                read_volume(path),
                read_volume(lungs) if lungs.is_file() else None,
                tuple(read_volume(nodule) for nodule in nodules),
            )
        )
    return found
