"""One run of `evaluate semantic`: train who measures, make slices, measure, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.provenance import now
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.inpainting.organ_reader import own_reader
from lesionbrush.evaluation.inpainting.reader import CropReader, ReadCrops, ScriptedReader
from lesionbrush.evaluation.inpainting.results import ReaderFacts
from lesionbrush.evaluation.inpainting.scores import measure_floor
from lesionbrush.evaluation.semantic.finder import OrganFinder, trained_finder
from lesionbrush.evaluation.semantic.moving import MovedOrgan, measure_moved
from lesionbrush.evaluation.semantic.picture import ShownSlices, draw_curves, draw_moved, draw_slices
from lesionbrush.evaluation.semantic.results import MeasureComparison, SemanticReport, StageFigures
from lesionbrush.evaluation.semantic.scores import (
    MEASURES,
    ORGANS_ALONE,
    WHOLE,
    Measure,
    ScoredSlices,
    Scorer,
    as_known,
    figures_of,
)
from lesionbrush.evaluation.semantic.slices import (
    Sampling,
    StudySlices,
    class_means,
    classes_in,
    cut_slices,
    frame_of,
    make_slices,
    numbers_beside,
    painted_hu,
    spread,
)
from lesionbrush.evaluation.semantic.stages import SamplingStart, TrainedStage, last_stages, list_stages
from lesionbrush.evaluation.semantic.tables import BESIDE, FLAT
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.semantic.pack import LABELLED, ClassedCT, load_classed, write_pack
from lesionbrush.systems.semantic.request import Sampler
from lesionbrush.training.runs import make_once

FILE, PICTURE, CURVES, MOVED = "semantic.json", "semantic.png", "semantic_curves.png", "semantic_moved.png"
PACK, FINDER = "semantic_pack.npz", "organ_finder.safetensors"
SAMPLERS: tuple[Sampler, ...] = ("dpm_solver_pp_2m", "ddim")
EVALUATIONS, FEW = (5, 10, 25, 50), 8
"""What the last weights are asked with beside, and for how many slices at most."""
PAINTED_ABOVE, CALMED = 0.5, 0.3
"""Of the ratio of noise to signal, and of coarse noise: as the starter's card has them."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class SemanticOrder:
    """What a run is asked for. runs: see `list_stages`; slices: of the patient, spread over the CT; seeds: of
    every slice; steps: evaluations of the network; tissues: whether networks that know them are told; paint:
    whether those of runs start from organs in their mean HU; reader: a TorchScript file."""

    data: Path
    out: Path
    machine: str
    runs: Path | None = None
    slices: int = 20
    seeds: int = 1
    steps: int = 25
    tissues: bool = False
    paint: bool = False
    reader: Path | None = None


def evaluate_semantic(order: SemanticOrder, say: Say = lambda line: None) -> SemanticReport:
    """Writes semantic.json, anew after every network, and the pictures.

    Raises InvalidRequest, WeightsError, and FileNotFoundError where the data is not there.
    """
    scripted = None if order.reader is None else ScriptedReader(order.reader)
    order.out.mkdir(parents=True, exist_ok=True)
    pack = make_once(order.out / PACK, partial(write_pack, order.data))
    seen, held_out = (load_classed(pack, validation=flag) for flag in (False, True))
    start = SamplingStart(painted_hu(seen), PAINTED_ABOVE, CALMED) if order.paint else None
    stages = list_stages(order.runs, classes_in(seen), start)
    for stage in stages:
        say(f"{stage.name}: {stage.conditioning}, {stage.steps} steps")
    study = SliceStudy(order, stages, seen, held_out[0])
    return study.run(*study.readers(scripted))


class SliceStudy:
    """The slices of one patient, made by every network and measured."""

    def __init__(
        self, order: SemanticOrder, stages: list[TrainedStage], seen: list[ClassedCT], patient: ClassedCT
    ) -> None:
        self.order, self.stages, self.seen, self.patient = order, stages, seen, patient
        self.how = Sampling(order.steps, SAMPLERS[0], order.seeds)
        self.frame, self.pixel_mm = frame_of(patient, stages[0].model.card)
        self.slices = self.cut(spread(len(patient.hu), order.slices))
        self.scored: dict[str, ScoredSlices] = {}
        self.made: dict[str, np.ndarray] = {}

    def cut(self, numbers: np.ndarray) -> StudySlices:
        return cut_slices(self.patient, self.frame, self.pixel_mm, numbers, tissues=self.order.tissues)

    @cached_property
    def finder(self) -> OrganFinder:
        return trained_finder(self.seen, self.order.out / FINDER)

    def readers(self, scripted: ScriptedReader | None) -> tuple[Scorer, ReaderFacts]:
        """Who measures: the user's reader of whole slices, or our own of organs; and the finder."""
        reader: CropReader
        if scripted is not None:
            reader, facts = scripted, scripted.facts
        else:
            reader, facts = own_reader(list(map(as_known, self.seen)), [as_known(self.patient)])
        return Scorer(reader, self.finder.find, whole=scripted is not None), facts

    def run(self, scorer: Scorer, facts: ReaderFacts) -> SemanticReport:
        """Everything, and what was left undone by an interruption is in the files as far as it came."""
        report = self._begin(scorer, facts)
        for stage in self.stages:
            one, scored, hu = self._measure(scorer, stage, self.slices, self.how)
            self.scored[stage.name], self.made[stage.name] = scored, hu[: len(self.slices.hu)]
            report = report.model_copy(update={"trained": (*report.trained, one)})
            self._write(report)
        report = report.model_copy(update={"comparisons": tuple(compare(self.scored))})
        self._write(report)
        self._draw(report)
        for stage, how in self._settings():
            one, _, _ = self._measure(scorer, stage, self.slices.spread(FEW), how)
            report = report.model_copy(update={"evaluations": (*report.evaluations, one)})
            self._write(report)
        self._draw(report)
        return self._move(report, scorer)

    def _begin(self, scorer: Scorer, facts: ReaderFacts) -> SemanticReport:
        """The real slices and the floors."""
        slices, order = self.slices, self.order
        real = scorer.score(slices, slices.hu)
        away = numbers_beside(slices.numbers, len(self.patient.hu), slices.slice_mm)
        flat = class_means(self.seen, tissues=order.tissues)[slices.told].astype(np.float32)
        floors = {BESIDE: self.cut(away).hu, FLAT: flat}
        features = real.real.features
        halves = measure_floor(ReadCrops(features, np.empty((len(features), 0))), np.random.default_rng(0))
        return SemanticReport(
            created=now(),
            machine=order.machine,
            patient=self.patient.name,
            slices=len(slices.hu),
            seeds=order.seeds,
            tissues=order.tissues,
            painted=order.paint,
            pixel_mm=round(self.pixel_mm, 3),
            reader=facts,
            crops=WHOLE if scorer.whole else ORGANS_ALONE,
            finder=self.finder.name,
            real=figures_of(real, real=True),
            real_halves=halves,
            floors={name: figures_of(scorer.score(slices, hu)) for name, hu in floors.items()},
        )

    def _measure(
        self, scorer: Scorer, stage: TrainedStage, slices: StudySlices, how: Sampling
    ) -> tuple[StageFigures, ScoredSlices, np.ndarray]:
        """And the HU, one seed after the other."""
        model, began = stage.model, time.perf_counter()
        with tqdm(desc=f"{stage.name} {stage.steps}, {how}", unit="evaluation") as bar:
            hu = make_slices(model, slices, how, partial(_advance, bar))
        seconds = (time.perf_counter() - began) / len(hu)
        scored = scorer.score(slices.pick(np.tile(np.arange(len(slices.hu)), how.seeds)), hu)
        figures = StageFigures(
            name=stage.name,
            conditioning=stage.conditioning,
            trained_steps=stage.steps,
            sampler=how.sampler,
            evaluations=how.steps,
            seconds=round(seconds, 2),
            figures=figures_of(scored),
        )
        return figures, scored, hu

    def _settings(self) -> Iterator[tuple[TrainedStage, Sampling]]:
        for stage in last_stages(self.stages):
            for sampler in SAMPLERS:
                for steps in EVALUATIONS:
                    yield stage, replace(self.how, sampler=sampler, steps=steps)

    def _move(self, report: SemanticReport, scorer: Scorer) -> SemanticReport:
        source = next(one for one in LABELLED if one.name == self.patient.name)
        moved, made = MovedOrgan.of(source, self.order.data), dict[str, Volume]()
        for stage in last_stages(self.stages):
            found, made[stage.name] = measure_moved(moved, stage.model, scorer.find, self.how, stage.name)
            report = report.model_copy(update={"moved": (*report.moved, found)})
            self._write(report)
        draw_moved(moved, made, self.order.out / MOVED)
        return report

    def _write(self, report: SemanticReport) -> None:
        with whole_files(self.order.out / FILE) as (draft,):
            draft.write_text(report.model_dump_json(indent=1), encoding="utf-8")

    def _draw(self, report: SemanticReport) -> None:
        out = self.order.out
        draw_slices(ShownSlices(self.slices, self.made), out / PICTURE)
        draw_curves(report.trained, report.evaluations, report.real, out / CURVES)


def _advance(bar: tqdm, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def compare(scored: dict[str, ScoredSlices]) -> Iterator[MeasureComparison]:
    """For each measure the best against the next, of the same slices; nothing where there is only one."""
    if len(scored) < 2:
        return
    for measure in MEASURES:
        yield _compare(measure, scored)


def _compare(measure: Measure, scored: dict[str, ScoredSlices]) -> MeasureComparison:
    values = {name: measure.statistic(*measure.columns(one)) for name, one in scored.items()}
    worst = -np.inf if measure.higher_is_better else np.inf
    known = {name: value if np.isfinite(value) else worst for name, value in values.items()}
    best, second = sorted(known, key=known.__getitem__, reverse=measure.higher_is_better)[:2]
    gap = measure.difference(scored[best], scored[second])
    clear = gap.low is not None and gap.high is not None and gap.low * gap.high > 0
    return MeasureComparison(
        measure=measure.name,
        best=best,
        next=second,
        difference=gap,
        higher_is_better=measure.higher_is_better,
        is_clear=clear,
    )
