"""One run of `evaluate inpainting`: train what is missing, fill, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.provenance import now
from lesionbrush.evaluation.inpainting.baselines import BASELINES
from lesionbrush.evaluation.inpainting.holes import OrganHole, list_holes
from lesionbrush.evaluation.inpainting.methods import FillMethod, list_methods, missing_baselines
from lesionbrush.evaluation.inpainting.organ_reader import own_reader
from lesionbrush.evaluation.inpainting.picture import ShownRow, draw_picture
from lesionbrush.evaluation.inpainting.reader import CropReader, ScriptedReader
from lesionbrush.evaluation.inpainting.results import (
    InpaintingReport,
    MethodFacts,
    MethodFigures,
    OrganFigures,
    ReaderFacts,
)
from lesionbrush.evaluation.inpainting.scores import (
    FilledSlice,
    inception_score,
    measure_floor,
    measure_method,
    read_crops,
    slices_of,
)
from lesionbrush.evaluation.inpainting.thresholds import fit_threshold
from lesionbrush.evaluation.inpainting.weights import slice_pack, train_baseline
from lesionbrush.evaluation.statistics import by_patient
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.palette.fills import Fill
from lesionbrush.systems.palette.pack import KnownCT, load_side

FILE, PICTURE = "inpainting.json", "inpainting.png"
SEED = 0
Say = Callable[[str], None]


@dataclass(frozen=True)
class InpaintingOrder:
    """What a run is asked for. slices: of an organ; seeds: of every fill; hole_mm: see `list_holes`;
    reader: a TorchScript file; train_minutes: of each baseline without weights, None to train none."""

    data: Path
    out: Path
    machine: str
    slices: int = 5
    seeds: int = 1
    hole_mm: float | None = None
    reader: Path | None = None
    train_minutes: float | None = None


def evaluate_inpainting(order: InpaintingOrder, say: Say = lambda line: None) -> InpaintingReport:
    """Writes inpainting.json and inpainting.png, anew after every organ.

    Raises InvalidRequest, WeightsError, and FileNotFoundError where the data is not there.
    """
    scripted = None if order.reader is None else ScriptedReader(order.reader)
    holes = list_holes(order.data, order.slices, order.hole_mm)
    order.out.mkdir(parents=True, exist_ok=True)
    if order.train_minutes is not None:
        for baseline in BASELINES:
            train_baseline(baseline, order.data, order.out, order.train_minutes, say)
    missing = missing_baselines(order.out)
    for baseline in missing:
        say(f"{baseline.title} has no weights in {order.out.name} and is left out: --train-baselines MINUTES")
    study = FillStudy(order, list_methods(order.out), holes)
    reader, facts = study.train_own_reader() if scripted is None else (scripted, scripted.facts)
    report = InpaintingReport(
        created=now(),
        machine=order.machine,
        seeds=order.seeds,
        hole_mm=order.hole_mm,
        reader=facts,
        methods=tuple(MethodFacts(name=m.name, kind=m.kind, trained=m.trained) for m in study.methods),
        missing=tuple(baseline.name for baseline in missing),
    )
    return study.run(report, reader)


class FillStudy:
    """The holes, filled by every method and measured."""

    def __init__(
        self, order: InpaintingOrder, methods: Sequence[FillMethod], holes: Sequence[OrganHole]
    ) -> None:
        self.order, self.methods, self.holes = order, methods, holes

    @cached_property
    def pack(self) -> Path:
        return slice_pack(self.order.data, self.order.out)

    @cached_property
    def seen(self) -> list[KnownCT]:
        """The CTs of patients that were trained on."""
        return load_side(self.pack, validation=False)

    def train_own_reader(self) -> tuple[CropReader, ReaderFacts]:
        """On real slices of those; held-out ones say how good it is."""
        return own_reader(self.seen, load_side(self.pack, validation=True))

    def run(self, report: InpaintingReport, reader: CropReader) -> InpaintingReport:
        """The report with a row for every organ, written after each."""
        rows: list[ShownRow] = []
        for fill, group in groupby(self.holes, key=lambda hole: hole.fill):
            organ, shown = self._organ(fill, list(group), reader)
            rows.append(shown)
            report = report.model_copy(update={"organs": (*report.organs, organ)})
            with whole_files(self.order.out / FILE) as (draft,):
                draft.write_text(report.model_dump_json(indent=1), encoding="utf-8")
            draw_picture(rows, [method.name for method in self.methods], self.order.out / PICTURE)
        return report

    def _organ(
        self, fill: Fill, holes: Sequence[OrganHole], reader: CropReader
    ) -> tuple[OrganFigures, ShownRow]:
        threshold = fit_threshold(self.seen, fill)
        real_slices = [one for hole in holes for one in slices_of(hole, hole.ct.array)]
        real = read_crops(reader, real_slices, real=True)
        left_out = {m.name: reason for m in self.methods if (reason := m.why_not(holes)) is not None}
        figures: dict[str, MethodFigures] = {}
        shown: dict[str, FilledSlice] = {}
        for method in (m for m in self.methods if m.name not in left_out):
            filled = self._fill(method, holes)
            shown[method.name] = filled[len(holes[0].slices) // 2]
            figures[method.name] = measure_method(
                filled, read_crops(reader, filled), real.repeated(self.order.seeds), threshold
            )
        organ = OrganFigures(
            fill=fill,
            patients=tuple(dict.fromkeys(hole.patient for hole in holes)),
            slices=len(real_slices),
            threshold_hu=None if threshold is None else (threshold.low_hu, threshold.high_hu),
            fid_halves=measure_floor(real, np.random.default_rng(SEED)),
            inception_score_real=by_patient(inception_score, [one.name for one in real_slices], real.chances),
            methods=figures,
            left_out=left_out,
        )
        return organ, ShownRow(fill, shown)

    def _fill(self, method: FillMethod, holes: Sequence[OrganHole]) -> list[FilledSlice]:
        """All slices of all holes, for one seed after the other."""
        pairs = [(seed, hole) for seed in range(self.order.seeds) for hole in holes]
        made = (
            slices_of(hole, method.fill(hole.ct, hole.mask, hole.fill, seed))
            for seed, hole in tqdm(pairs, desc=f"{holes[0].fill}, {method.name}", unit="hole")
        )
        return [one for slices in made for one in slices]
