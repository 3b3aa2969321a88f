"""What is measured of slices, each against the real slice of its layout.

PSNR and SSIM are of the abdomen's window, scaled to 0 ... 1, by scikit-image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lesionbrush.evaluation.inpainting.crops import CropFrame, SliceCrop
from lesionbrush.evaluation.inpainting.organ_reader import LEAST_MM2, NAMED
from lesionbrush.evaluation.inpainting.reader import CropReader
from lesionbrush.evaluation.inpainting.scores import fid
from lesionbrush.evaluation.semantic.results import SliceFigures
from lesionbrush.evaluation.semantic.slices import StudySlices
from lesionbrush.evaluation.statistics import Estimate, Statistic, by_patient, mean
from lesionbrush.montage import SOFT
from lesionbrush.systems.palette.fills import FILLS, fill_number
from lesionbrush.systems.palette.pack import AMOS, KnownCT
from lesionbrush.systems.semantic.classes import CLASSES
from lesionbrush.systems.semantic.pack import ClassedCT
from lesionbrush.systems.semantic.recipes import ABDOMEN

FIND = Callable[[np.ndarray], np.ndarray]
DRAWS = 400
WHOLE, ORGANS_ALONE = "whole slices", "crops around organs"


@dataclass(frozen=True, eq=False)
class ReadSlices:
    """What a reader has of slices, a row a crop. slices: (R,), which slice a row is of."""

    slices: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class ScoredSlices:
    """A row a slice. psnr, ssim: (N,); both, sizes: (N, K) pixels of each organ that are found and asked for,
    and found plus asked for. made, real: what the reader has of them."""

    numbers: np.ndarray
    organs: tuple[int, ...]
    psnr: np.ndarray
    ssim: np.ndarray
    both: np.ndarray
    sizes: np.ndarray
    asked: np.ndarray
    made: ReadSlices
    real: ReadSlices


@dataclass(frozen=True)
class Measure:
    """A figure of slices. names: of what is resampled together; columns: a row for each of them."""

    name: str
    higher_is_better: bool
    statistic: Statistic
    columns: Callable[[ScoredSlices], tuple[np.ndarray, ...]]
    names: Callable[[ScoredSlices], np.ndarray] = lambda scored: scored.numbers

    def of(self, scored: ScoredSlices) -> Estimate:
        """With its interval over slices; the seeds of a slice stay together."""
        names = self.names(scored)
        found = by_patient(self.statistic, list(map(str, names)), *self.columns(scored), draws=DRAWS)
        return found.model_copy(update={"n": len(set(names.tolist()))})

    def difference(self, one: ScoredSlices, other: ScoredSlices) -> Estimate:
        """One minus other, of the same slices."""
        first, second = self.columns(one), self.columns(other)

        def gap(*columns: np.ndarray) -> float:
            return self.statistic(*columns[: len(first)]) - self.statistic(*columns[len(first) :])

        names = self.names(one)
        found = by_patient(gap, list(map(str, names)), *first, *second, draws=DRAWS)
        return found.model_copy(update={"n": len(set(names.tolist()))})


def pooled_dice(both: np.ndarray, sizes: np.ndarray) -> float:
    """Of all slices together, the mean over the organs (columns) that are anywhere."""
    both, sizes = both.sum(axis=0), sizes.sum(axis=0)
    there = np.asarray(sizes > 0)
    return float(np.mean(2 * both[there] / sizes[there])) if there.any() else float("nan")


FID = Measure(
    "FID", False, fid, lambda s: (s.made.features, s.real.features), lambda s: s.numbers[s.real.slices]
)
PSNR = Measure("PSNR", True, mean, lambda s: (s.psnr,))
SSIM = Measure("SSIM", True, mean, lambda s: (s.ssim,))
DICE = Measure("Dice", True, pooled_dice, lambda s: (s.both, s.sizes))
MEASURES = (FID, PSNR, SSIM, DICE)


def organ_dice(scored: ScoredSlices) -> dict[str, Estimate]:
    """Of each organ by its name."""
    found = {}
    for column, number in enumerate(scored.organs):
        one = Measure("", True, pooled_dice, _of_organ(slice(column, column + 1)))
        found[CLASSES[number]] = one.of(scored)
    return found


def _of_organ(column: slice) -> Callable[[ScoredSlices], tuple[np.ndarray, ...]]:
    return lambda scored: (scored.both[:, column], scored.sizes[:, column])


def figures_of(scored: ScoredSlices, *, real: bool = False) -> SliceFigures:
    """real: of the real slices themselves, of which Dice alone makes sense."""
    with_it = (scored.asked > 0).sum(axis=0).tolist()
    return SliceFigures(
        slices=len(set(scored.numbers.tolist())),
        fid=None if real else FID.of(scored),
        psnr=None if real else PSNR.of(scored),
        ssim=None if real else SSIM.of(scored),
        dice=DICE.of(scored),
        organs=organ_dice(scored),
        organ_slices={CLASSES[n]: count for n, count in zip(scored.organs, with_it, strict=True)},
    )


@dataclass(frozen=True, eq=False)
class Scorer:
    """Measures slices of one study. whole: whether the reader is shown whole slices, or organs alone."""

    reader: CropReader
    find: FIND
    whole: bool

    def score(self, slices: StudySlices, made_hu: np.ndarray) -> ScoredSlices:
        """slices: as often as they were made; made_hu: like slices.hu."""
        made, real = (shown(hu) for hu in (made_hu, slices.hu))
        pairs = list(zip(real, made, strict=True))
        found, organs = self.find(made_hu), slices.organs
        asked = [slices.labels == number for number in organs]
        there = [found == number for number in organs]
        return ScoredSlices(
            slices.numbers,
            tuple(organs),
            np.array([psnr(*pair) for pair in pairs]),
            np.array([ssim(*pair) for pair in pairs]),
            _counts([a & b for a, b in zip(asked, there, strict=True)], len(found)),
            _counts(asked, len(found)) + _counts(there, len(found)),
            _counts(asked, len(found)),
            self.read(slices, made_hu),
            self.read(slices, slices.hu),
        )

    def read(self, slices: StudySlices, hu: np.ndarray) -> ReadSlices:
        """Crops where the layout has an organ, whatever is there."""
        crops, rows = [], []
        for row, (labels, image) in enumerate(zip(slices.labels, hu, strict=True)):
            for frame in self._frames(labels, slices.pixel_mm):
                cut = frame.cut(image, (slices.pixel_mm,) * 2, self.reader.side)
                crops.append(SliceCrop(cut, SOFT))
                rows.append(row)
        features = self.reader.read(crops).features if crops else np.empty((0, 1))
        return ReadSlices(np.array(rows, int), features)

    def _frames(self, labels: np.ndarray, pixel_mm: float) -> list[CropFrame]:
        if self.whole:
            middle = (len(labels) - 1) / 2 * pixel_mm
            return [CropFrame((middle, middle), len(labels) * pixel_mm)]
        fills = as_fills(labels)
        inside = (fills == fill_number(fill) for fill in NAMED)
        pixels = LEAST_MM2 / pixel_mm**2
        return [CropFrame.around(one, (pixel_mm,) * 2) for one in inside if one.sum() >= pixels]


def shown(hu: np.ndarray) -> np.ndarray:
    """float64, 0 ... 1 over the abdomen's window."""
    unit: np.ndarray = (ABDOMEN.to_unit(hu.astype(np.float64)) + 1) / 2
    return unit


def psnr(real: np.ndarray, made: np.ndarray) -> float:
    """dB; NaN for two that are the same, of which there is none."""
    if np.array_equal(real, made):
        return float("nan")
    return float(peak_signal_noise_ratio(real, made, data_range=1.0))


def ssim(real: np.ndarray, made: np.ndarray) -> float:
    """As Wang et al. 2004 (doi:10.1109/TIP.2003.819861): a Gaussian of 1.5 pixels."""
    found = structural_similarity(
        real, made, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(found)


def _counts(masks: Sequence[np.ndarray], count: int) -> np.ndarray:
    """(N, K) of K masks (N, Y, X), of which there may be none."""
    found = [mask.sum(axis=(1, 2)) for mask in masks]
    return np.stack(found, axis=1) if found else np.zeros((count, 0), int)


# --- our own reader's words ---

_FILLS = np.zeros(256, np.uint8)
for _code, _number in AMOS.items():
    _FILLS[_code] = _number if _number <= len(FILLS) else 0
"""Of each class of a layout, whose organs have AMOS's codes, the number that the organ reader knows it by."""


def as_fills(labels: np.ndarray) -> np.ndarray:
    found: np.ndarray = _FILLS[labels]
    return found


def as_known(ct: ClassedCT) -> KnownCT:
    """For the organ reader to learn from."""
    return KnownCT(ct.name, ct.hu, as_fills(ct.labels), ct.spacing_mm, whole=False)
