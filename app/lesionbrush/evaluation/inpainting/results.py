"""What `evaluate inpainting` says: typed, so that the JSON is a promise and the tables only show it."""

from __future__ import annotations

from pydantic import Field

from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.statistics import Estimate
from lesionbrush.systems.palette.fills import Fill


class MethodFigures(Typed):
    """Of one method in one organ. slices, patients: what the intervals rest on, seeds not counted.

    bias_hu: of mean HU, made above real; error_hu: absolute, of voxels; dice: of the organ by its threshold.
    """

    slices: int
    patients: int
    fid: Estimate
    inception_score: Estimate
    bias_hu: Estimate
    error_hu: Estimate
    dice: Estimate


class OrganFigures(Typed):
    """One row of every table. left_out: methods that were not asked, and why.

    threshold_hu: what Dice takes for the organ, None where no training patient shows it; fid_halves: of real
    slices against real slices; inception_score_real: of the real slices.
    """

    fill: Fill
    patients: tuple[str, ...]
    slices: int
    threshold_hu: tuple[float, float] | None
    fid_halves: Estimate
    inception_score_real: Estimate
    methods: dict[str, MethodFigures]
    left_out: dict[str, str]


class ReaderFacts(Typed):
    """Who FID and IS are by. accuracy: on real crops of held-out patients, None for the user's.

    named_right: the same of each organ; features of what it does not know say little.
    """

    name: str
    features: int
    classes: int
    accuracy: float | None = None
    named_right: dict[Fill, float] = Field(default_factory=dict)
    accuracy_n: int = 0


class MethodFacts(Typed):
    name: str
    kind: str
    trained: str


class InpaintingReport(Typed):
    """hole_mm: how wide a hole was at most, None for whole organs; missing: baselines without weights."""

    created: str
    machine: str
    seeds: int
    hole_mm: float | None
    reader: ReaderFacts
    methods: tuple[MethodFacts, ...]
    missing: tuple[str, ...]
    organs: tuple[OrganFigures, ...] = ()
