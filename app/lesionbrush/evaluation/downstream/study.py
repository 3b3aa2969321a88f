"""One run of `evaluate downstream`: make lesions, train a network for every arm and seed, measure, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from lesionbrush.core.provenance import now
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.downstream.arms import ARMS, MOST, Material, choose_patients
from lesionbrush.evaluation.downstream.classification import classified, tensor_of_boxes, train_classifier
from lesionbrush.evaluation.downstream.clear import as_seen
from lesionbrush.evaluation.downstream.data import DownstreamData, Say, read_shared
from lesionbrush.evaluation.downstream.detection import detect
from lesionbrush.evaluation.downstream.folds import FoldResult, evaluate_folds
from lesionbrush.evaluation.downstream.made import ASK, make_pairs, place_donors
from lesionbrush.evaluation.downstream.own import OwnLabels, read_own
from lesionbrush.evaluation.downstream.picture import draw_clear, draw_pairs
from lesionbrush.evaluation.downstream.results import (
    ClassifiedRun,
    DownstreamReport,
    HeldOutLesions,
    TrainedRun,
    as_scores,
)
from lesionbrush.evaluation.downstream.samples import LesionBox, held_out_patches, real_sample
from lesionbrush.evaluation.downstream.scores import score_outlines
from lesionbrush.evaluation.downstream.segmenter import outline, train_segmenter
from lesionbrush.evaluation.downstream.tables import draw_dice
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.files.durable import whole_files
from lesionbrush.files.nnunet_raw import is_raw_dataset
from lesionbrush.systems import load_model

FILE, PICTURE, PAIRS, CLEAR = "downstream.json", "downstream.png", "pairs.png", "clear.png"
SHARES, STEPS = (0.1, 0.25), 300
Kind = Literal["runs", "classified"]


@dataclass(frozen=True)
class DownstreamOrder:
    """What a run is asked for. shares: of the real training lesions, by patient; steps: of every network;
    cases: lesions of training and of test at most, 0 for all; own: of a raw dataset of nnU-Net."""

    model: str
    data: Path
    out: Path
    machine: str
    shares: Sequence[float] = SHARES
    arms: Sequence[str] = tuple(ARMS)
    seeds: int = 1
    steps: int = STEPS
    cases: int = 0
    own: OwnLabels = field(default_factory=OwnLabels)

    def __post_init__(self) -> None:
        if wrong := [share for share in self.shares if not 0 < share <= 1]:
            raise InvalidRequest(f"--shares {wrong[0]:g}: give shares above 0, 1 at most")
        if self.steps < 1:
            raise InvalidRequest(f"--steps {self.steps}: give 1 or more")
        if unknown := [arm for arm in self.arms if arm not in ARMS]:
            raise InvalidRequest(f"--arms {unknown[0]}: known are {'; '.join(ARMS)}")
        if self.own.given and not is_raw_dataset(self.data):
            name, value = next(iter(self.own.given.items()))
            raise InvalidRequest(f"--{name} {value}: {self.data.name} is no dataset of nnU-Net v2")

    def read(self, say: Say) -> DownstreamData:
        if is_raw_dataset(self.data):
            return read_own(self.data, self.own, self.cases, say)
        return read_shared(self.data, self.cases)


def evaluate_downstream(order: DownstreamOrder, say: Say = lambda line: None) -> DownstreamReport:
    """Writes downstream.json and its pictures; what is in the file already is not trained again.

    InvalidRequest for a model of another system; FileNotFoundError where the data is not there.
    """
    return DownstreamStudy(order, say).run()


def classify_in_folds(order: DownstreamOrder, say: Say = lambda line: None) -> FoldResult:
    """Lesion or not, over five folds of all patients. Raises as `evaluate_downstream`, and InvalidRequest
    where the data has no boxes without a lesion."""
    study = DownstreamStudy(order, say)
    if not study.data.clear_training:
        raise InvalidRequest("--folds: the data has no CT from which boxes without a lesion can be taken")
    return evaluate_folds(study.data, study.maker, order.steps, seed=0, say=say)


class DownstreamStudy:
    """The lesions of both sides of the split, and what is trained on them."""

    def __init__(self, order: DownstreamOrder, say: Say) -> None:
        self.order, self.say = order, say
        model = load_model(find_model(order.model))
        if model.card.system not in ASK:
            raise InvalidRequest(f"{order.model} is of {model.card.system}: this needs {' or '.join(ASK)}")
        self.data = order.read(say)
        self.maker = Maker(model, order.out / "cache")

    @cached_property
    def tested(self) -> list[LesionBox]:
        return [real_sample(one) for one in tqdm(self.data.tested, desc="held out", unit="lesion")]

    @cached_property
    def clear(self) -> list[LesionBox]:
        return as_seen(self.data.clear_tested, self.tested)

    def run(self) -> DownstreamReport:
        report = self._begun()
        if self.data.clear_tested:
            with whole_files(self.order.out / CLEAR) as (draft,):
                draw_clear(self.data.clear_tested, draft)
        for share in self.order.shares:
            missing = [task for task in self._tasks(share) if not report.has(*task)]
            if missing:
                material = self._material(share)
                for kind, _, arm, seed in missing:
                    one = self._train if kind == "runs" else self._classify
                    report = self._keep(report, one(share, arm, seed, ARMS[arm](material)))
        return report

    def _tasks(self, share: float) -> list[tuple[Kind, float, str, int]]:
        """Of every seed the segmenters, then the classifiers, where there are boxes without a lesion."""
        kinds: tuple[Kind, ...] = (
            ("runs", "classified") if self.clear and self.data.clear_training else ("runs",)
        )
        return [
            (kind, share, arm, seed)
            for seed in range(self.order.seeds)
            for kind in kinds
            for arm in self.order.arms
        ]

    def _begun(self) -> DownstreamReport:
        """What a run in the same folder has done already, or nothing yet."""
        order, card = self.order, self.maker.model.card
        fresh = DownstreamReport(
            created=now(),
            machine=order.machine,
            model=card.name,
            weights_sha256=card.weights_sha256,
            steps=order.steps,
            real=len(self.data.training),
            tested=self._describe(),
            clear_patients=tuple(one.patient for one in self.clear),
        )
        path = order.out / FILE
        if not path.is_file():
            return fresh
        old = DownstreamReport.model_validate_json(path.read_text(encoding="utf-8"))
        said_only = {"created", "machine", "runs", "classified"}
        if old.model_dump(exclude=said_only) != fresh.model_dump(exclude=said_only):
            raise InvalidRequest(f"{path} is of other lesions, weights or steps: choose another --out")
        self.say(f"going on after {len(old.runs) + len(old.classified)} networks")
        return old

    def _describe(self) -> HeldOutLesions:
        return HeldOutLesions(
            patients=tuple(one.patient for one in self.tested),
            groups=tuple(one.group for one in self.tested),
            volumes_mm3=tuple(one.volume_mm3 for one in self.tested),
        )

    def _material(self, share: float) -> Material:
        """The lesions of some patients, and what is made of them."""
        donors, others = choose_patients(self.data.training, share)
        self.say(f"{share:.0%}: {len(donors)} real lesions")
        count = round(MOST * len(donors))
        pairs = make_pairs(
            list(place_donors(donors, self.data.hosts, count, np.random.default_rng(0))), self.maker
        )
        if not pairs:
            raise InvalidRequest(f"{self.order.model} made none of {count} lesions: no place, or refused")
        with whole_files(self.order.out / f"{share:g}_{PAIRS}") as (draft,):
            draw_pairs(pairs, draft)
        return Material(donors, pairs, others)

    def _train(self, share: float, arm: str, seed: int, samples: Sequence[LesionBox]) -> TrainedRun:
        began, window = time.perf_counter(), self.data.window_hu
        with tqdm(total=self.order.steps, desc=f"{share:.0%}, {arm}, seed {seed}", unit="step") as bar:
            network = train_segmenter(samples, self.order.steps, seed, bar.update, window)
        logits, patches = outline(network, self.tested, window), held_out_patches(self.tested)
        scores = score_outlines(logits > 0, patches)
        detection = None
        if self.clear:
            clear_logits = outline(network, self.clear, window)
            detection = detect(logits, patches, clear_logits, held_out_patches(self.clear))
        return TrainedRun(
            real_share=share,
            arm=arm,
            seed=seed,
            samples=len(samples),
            seconds=round(time.perf_counter() - began, 1),
            scores={name: as_scores(values) for name, values in scores.items()},
            detection=detection,
        )

    def _classify(self, share: float, arm: str, seed: int, samples: Sequence[LesionBox]) -> ClassifiedRun:
        """Boxes without a lesion are seen through the windows of what the arm has."""
        began = time.perf_counter()
        clear = as_seen(self.data.clear_training, samples)
        network = train_classifier(samples, clear, self.order.steps, seed)
        logits, clear_logits = (
            network.decision(tensor_of_boxes(held_out_patches(boxes))) for boxes in (self.tested, self.clear)
        )
        return ClassifiedRun(
            real_share=share,
            arm=arm,
            seed=seed,
            samples=len(samples),
            seconds=round(time.perf_counter() - began, 1),
            logits=as_scores(logits),
            clear_logits=as_scores(clear_logits),
        )

    def _keep(self, report: DownstreamReport, run: TrainedRun | ClassifiedRun) -> DownstreamReport:
        of = f"{run.real_share:.0%}, {run.arm}, seed {run.seed}"
        if isinstance(run, TrainedRun):
            report = report.model_copy(update={"runs": (*report.runs, run)})
            so_far = f"Dice {report.figure(run.real_share, run.arm, 'dice').value}"
        else:
            report = report.model_copy(update={"classified": (*report.classified, run)})
            so_far = f"AUC {classified(report, run.real_share, run.arm, 'AUC').value}"
        with whole_files(self.order.out / FILE, self.order.out / PICTURE) as (text, picture):
            text.write_text(report.model_dump_json(indent=1), encoding="utf-8")
            draw_dice(report).save(picture, format="PNG")
        self.say(f"{of}: {so_far} so far, {run.seconds:.0f} s")
        return report
