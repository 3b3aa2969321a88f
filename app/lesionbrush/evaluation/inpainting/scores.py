"""What is measured of filled slices, each against its own real slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr

from lesionbrush.core.roi import Orientation
from lesionbrush.evaluation.inpainting.crops import CropFrame, SliceCrop
from lesionbrush.evaluation.inpainting.holes import OrganHole
from lesionbrush.evaluation.inpainting.reader import CropReader, ReadCrops
from lesionbrush.evaluation.inpainting.results import MethodFigures
from lesionbrush.evaluation.inpainting.thresholds import OrganThreshold, dice, near_hole
from lesionbrush.evaluation.statistics import Estimate, Statistic, by_patient, frechet_distance, mean

LEAST_FOR_FID = 2
FID_DRAWS = 200


@dataclass(frozen=True, eq=False)
class FilledSlice:
    """A slice of a hole, as it was filled, (Y, X). name: of the patient and the slice, not of the seed."""

    name: str
    hole: OrganHole
    made_hu: np.ndarray
    real_hu: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]

    def crop(self, hu: np.ndarray, side: int) -> SliceCrop:
        frame = CropFrame.around(self.mask, self.spacing_mm)
        return SliceCrop(frame.cut(hu, self.spacing_mm, side), self.hole.window)

    def errors_hu(self) -> tuple[float, float]:
        """Mean made above mean real, and mean absolute difference of voxels, within the organ's window."""
        window = self.hole.window
        ends = window.level_hu - window.width_hu / 2, window.level_hu + window.width_hu / 2
        made, real = (hu[self.mask].astype(np.float64).clip(*ends) for hu in (self.made_hu, self.real_hu))
        return float(made.mean() - real.mean()), float(np.abs(made - real).mean())

    def dice(self, threshold: OrganThreshold | None) -> float:
        """Of the organ found by its density in both; NaN without a threshold."""
        if threshold is None:
            return float("nan")
        near = near_hole(self.mask, self.spacing_mm)
        made, real = (threshold.find(hu, near, self.spacing_mm) for hu in (self.made_hu, self.real_hu))
        return dice(made, real)


def slices_of(hole: OrganHole, made: np.ndarray) -> Iterator[FilledSlice]:
    """made: HU in stored order on the grid of the hole's CT."""
    turned = Orientation.of(hole.ct.affine)
    views = [turned.view(array) for array in (made, hole.ct.array, hole.mask.array)]
    _, row_mm, column_mm = turned.spacing_mm(hole.ct.spacing_mm).tolist()
    stored = turned.view(np.broadcast_to(np.arange(hole.ct.shape[2]), hole.ct.shape))
    wanted = hole.slices
    for made_hu, real_hu, mask, number in zip(*views, stored[:, 0, 0], strict=True):
        if number in wanted:
            name = f"{hole.patient} {number}"
            yield FilledSlice(name, hole, made_hu.copy(), real_hu.copy(), mask > 0, (row_mm, column_mm))


def inception_score(chances: np.ndarray) -> float:
    """exp of the mean divergence of (N, K) chances from their mean (Salimans et al. 2016, arXiv:1606.03498,
    Sec. 4): 1 where all are alike, K at most. NaN without a row."""
    if not len(chances):
        return float("nan")
    return float(np.exp(rel_entr(chances, chances.mean(axis=0)).sum(axis=1).mean()))


def fid(made: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of (N, D) features; NaN of less than two rows, which have no spread."""
    if min(len(made), len(real)) < LEAST_FOR_FID:
        return float("nan")
    return frechet_distance(made, real)


def read_crops(reader: CropReader, slices: Sequence[FilledSlice], *, real: bool = False) -> ReadCrops:
    return reader.read([one.crop(one.real_hu if real else one.made_hu, reader.side) for one in slices])


def measure_method(
    slices: Sequence[FilledSlice], made: ReadCrops, real: ReadCrops, threshold: OrganThreshold | None
) -> MethodFigures:
    """Every figure with its interval, resampled by slice: the seeds of a slice stay together."""
    names = [one.name for one in slices]
    bias, error = np.array([one.errors_hu() for one in slices]).T
    agreement = np.array([one.dice(threshold) for one in slices])

    def estimate(statistic: Statistic, *columns: np.ndarray) -> Estimate:
        found = by_patient(statistic, names, *columns, draws=FID_DRAWS)
        return found.model_copy(update={"n": len(set(names))})

    return MethodFigures(
        slices=len(set(names)),
        patients=len({one.hole.patient for one in slices}),
        fid=estimate(fid, made.features, real.features),
        inception_score=estimate(inception_score, made.chances),
        bias_hu=estimate(mean, bias),
        error_hu=estimate(mean, error),
        dice=estimate(mean, agreement),
    )


def measure_floor(real: ReadCrops, rng: np.random.Generator, halvings: int = 20) -> Estimate:
    """FID of one half of the real slices against the other, over random halves: what chance alone makes.

    It rests on half as many slices as what is made, which alone makes it larger.
    """
    count = len(real.features)
    found = []
    for _ in range(halvings if count >= 2 * LEAST_FOR_FID else 0):
        order = rng.permutation(count)
        found.append(fid(real.features[order[: count // 2]], real.features[order[count // 2 :]]))
    return Estimate.of(float(np.median(found)) if found else float("nan"), found, count)
