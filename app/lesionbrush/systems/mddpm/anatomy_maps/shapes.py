"""Principal components of the control points over training slices, and new anatomies drawn from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve
from lesionbrush.systems.mddpm.anatomy_maps.structures import NAMED, STRUCTURES, Structure

Floats = NDArray[np.float64]
KEPT_VARIANCE = 0.98
LEAST_SLICES = 3


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """control points = mean + sum of coefficient x deviation x component.

    mean: (D,), all curves' control points (y, x) in mm one after the other; components: (M, D), orthonormal;
    deviations: (M,), mm, largest first; counts: (S,), control points of each structure; hu: (S,), its level;
    structures: (S,), what they are.
    """

    mean: Floats
    components: Floats
    deviations: Floats
    counts: NDArray[np.int64]
    hu: Floats
    structures: tuple[Structure, ...] = STRUCTURES

    @classmethod
    def fit(
        cls,
        shapes: Sequence[Sequence[ClosedCurve]],
        hu: np.ndarray,
        kept: float = KEPT_VARIANCE,
        structures: tuple[Structure, ...] = STRUCTURES,
    ) -> ShapeModel:
        """From the curves of each training slice; `kept`: the share of the variance that is explained.

        InvalidRequest for too few slices to have a spread.
        """
        if len(shapes) < LEAST_SLICES:
            raise InvalidRequest(
                f"{len(shapes)} slices show all structures; a shape model needs {LEAST_SLICES} or more"
            )
        vectors = np.stack([flatten(curves) for curves in shapes])
        mean = vectors.mean(axis=0)
        _, singular, components = np.linalg.svd(vectors - mean, full_matrices=False)
        variance = singular**2
        few = int(np.searchsorted(np.cumsum(variance) / max(float(variance.sum()), 1e-12), kept)) + 1
        few = min(few, len(shapes) - 1)
        counts = np.array([len(curve.control_mm) for curve in shapes[0]])
        deviations = singular[:few] / np.sqrt(len(shapes) - 1)
        return cls(mean, components[:few], deviations, counts, np.asarray(hu), structures)

    @property
    def spread_mm(self) -> float:
        """Root mean square distance of control points from those of the mean anatomy, as far as explained."""
        return float(np.sqrt((self.deviations**2).sum() / (len(self.mean) / 2)))

    def coefficients(self, curves: Sequence[ClosedCurve]) -> Floats:
        """(M,), in standard deviations; 0 for a component without any."""
        along = self.components @ (flatten(curves) - self.mean)
        spread = np.where(self.deviations > 0, self.deviations, 1.0)
        return np.where(self.deviations > 0, along / spread, 0.0)

    def curves(self, coefficients: np.ndarray) -> tuple[ClosedCurve, ...]:
        """The anatomy with these coefficients, in standard deviations."""
        return self._cut(self.mean + (coefficients * self.deviations) @ self.components)

    def move(self, curves: Sequence[ClosedCurve], coefficients: np.ndarray) -> tuple[ClosedCurve, ...]:
        """Curves that keep all of their own detail, changed by so many standard deviations."""
        return self._cut(flatten(curves) + (coefficients * self.deviations) @ self.components)

    def draw(self, generator: np.random.Generator, within: float) -> Floats:
        """(M,) coefficients: normal, each within so many standard deviations. InvalidRequest below 0."""
        if not within >= 0:
            raise InvalidRequest(f"within {within:g}: give the standard deviations to stay in, 0 or more")
        if within == 0:
            return np.zeros(len(self.deviations))
        drawn = generator.standard_normal(len(self.deviations))
        while (outside := np.abs(drawn) > within).any():
            tighter = generator.uniform(-within, within, int(outside.sum()))
            accepted = generator.random(len(tighter)) < np.exp(-(tighter**2) / 2)
            drawn[np.flatnonzero(outside)[accepted]] = tighter[accepted]
        return drawn

    def _cut(self, vector: Floats) -> tuple[ClosedCurve, ...]:
        parts = np.split(vector.reshape(-1, 2), np.cumsum(self.counts)[:-1])
        return tuple(ClosedCurve(part) for part in parts)

    def save(self, path: Path) -> None:
        """One .npz file, in one move."""
        temporary = path.with_name(f".{path.name}")
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                mean=self.mean.astype(np.float32),
                components=self.components.astype(np.float32),
                deviations=self.deviations,
                counts=self.counts,
                hu=self.hu,
                names=np.array([structure.name for structure in self.structures]),
            )
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> ShapeModel:
        """DamagedFile for anything but what `save` writes for the structures of this version."""
        try:
            with np.load(path, allow_pickle=False) as file:
                kept = ("mean", "components", "deviations", "counts", "hu")
                mean, components, deviations, counts, hu = (file[name] for name in kept)
                names = file["names"].tolist() if "names" in file else [one.name for one in STRUCTURES]
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
            raise DamagedFile(f"{path} holds no shape model; make one with: run.py anatomy fit") from error
        known = tuple(one for one in (*STRUCTURES, *NAMED) if one.name in names)
        model = cls(mean, components, deviations, counts, hu, known)
        if model.counts.tolist() != [one.controls for one in known] or known[: len(STRUCTURES)] != STRUCTURES:
            raise DamagedFile(f"{path} was fitted by another version; make it anew with: run.py anatomy fit")
        return model


def flatten(curves: Sequence[ClosedCurve]) -> Floats:
    """(D,): the control points of all curves, one after the other."""
    return np.concatenate([curve.control_mm.ravel() for curve in curves])
