"""What `evaluate semantic` says: typed, so that the JSON is a promise and the tables only show it."""

from __future__ import annotations

from lesionbrush.evaluation.inpainting.results import ReaderFacts
from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.statistics import Estimate


class SliceFigures(Typed):
    """Of slices against the real ones of the same layout. fid, psnr, ssim: None where it makes no sense.

    dice: the mean over organs; organs: of each, in all slices together; organ_slices: how many have it.
    """

    slices: int
    fid: Estimate | None
    psnr: Estimate | None
    ssim: Estimate | None
    dice: Estimate
    organs: dict[str, Estimate]
    organ_slices: dict[str, int]


class StageFigures(Typed):
    """A network after so many steps of training, and how its slices were made. seconds: for a slice."""

    name: str
    conditioning: str
    trained_steps: int
    sampler: str
    evaluations: int
    seconds: float
    figures: SliceFigures


class MeasureComparison(Typed):
    """The best of a measure against the next. difference: best minus next, of the same slices."""

    measure: str
    best: str
    next: str
    difference: Estimate
    higher_is_better: bool
    is_clear: bool

    def __str__(self) -> str:
        gap = self.difference
        if gap.value is None or gap.low is None or gap.high is None:
            return f"{self.measure}: not measurable on so few slices"
        amount = f"{abs(gap.value):.3g} ({gap.low:+.2g} to {gap.high:+.2g})"
        says = "which is more than its interval" if self.is_clear else "but its interval holds 0: no winner"
        side = "above" if self.higher_is_better else "below"
        return f"{self.measure}: {self.best} is best, {side} {self.next} by {amount}, {says}"


class MovedFigures(Typed):
    """An organ that was moved in the layout, as the finder finds it in the CT that was edited for it.

    dice: against where it was to be; as_it_was: of the unedited CT against that, the floor; ceiling: of the
    unedited CT against its own layout. gained, lost: share of the pixels that became the organ that are found
    as it, and of those that ceased to be it that are found as something else.
    """

    name: str
    slices: int
    dice: Estimate
    as_it_was: Estimate
    ceiling: Estimate
    gained: Estimate
    lost: Estimate
    kept_share: float


class SemanticReport(Typed):
    """tissues: whether layouts had them, of the CT itself; trained: every network at every stage;
    evaluations: the last of each, over steps and samplers."""

    created: str
    machine: str
    patient: str
    slices: int
    seeds: int
    tissues: bool
    painted: bool = False
    pixel_mm: float
    reader: ReaderFacts
    crops: str
    finder: str
    real: SliceFigures
    real_halves: Estimate
    floors: dict[str, SliceFigures]
    trained: tuple[StageFigures, ...] = ()
    comparisons: tuple[MeasureComparison, ...] = ()
    evaluations: tuple[StageFigures, ...] = ()
    moved: tuple[MovedFigures, ...] = ()
