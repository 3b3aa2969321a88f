"""Lesion or not, in folds by patient: the classification of MedSyn (Xu et al. 2024, Table VI) on boxes.

In every fold a network learns from real lesions and boxes without one, or from these, made lesions and the
same places without them: healthy twins, which differ in the lesion alone. It is tested on the real lesions
and the boxes of patients and chests that the fold left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lesionbrush.evaluation.downstream.classification import CLASSIFIED, tensor_of_boxes, train_classifier
from lesionbrush.evaluation.downstream.clear import as_seen
from lesionbrush.evaluation.downstream.data import DownstreamData, Say
from lesionbrush.evaluation.downstream.made import make_pairs, place_donors
from lesionbrush.evaluation.downstream.samples import held_out_patches, real_sample
from lesionbrush.evaluation.statistics import Estimate, by_patient
from lesionbrush.evaluation.syntheses import Maker

FOLDS, MADE = 5, 1.5
"""MADE: lesions for each real one, of which a fold has about two thirds: neither their donor nor the CT they
are in may be tested in it."""
ARMS = ("real", "real + made and twins")


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Of all folds together, each box scored by the network that did not see its patient. labels: 1 lesion;
    logits: by arm."""

    patients: tuple[str, ...]
    labels: np.ndarray
    logits: dict[str, np.ndarray]

    def figure(self, arm: str, measure: str) -> Estimate:
        return by_patient(CLASSIFIED[measure], self.patients, self.logits[arm], self.labels)

    def gain(self, measure: str) -> Estimate:
        """Of the last arm over the first, with the same patients in every draw."""
        mine, others = (self.logits[arm] for arm in reversed(ARMS))
        return by_patient(partial(_difference, measure), self.patients, mine, others, self.labels)

    def lines(self) -> Iterator[str]:
        """A Markdown table."""
        lesions, boxes = int(self.labels.sum()), len(self.labels)
        yield f"{FOLDS} folds by patient: {lesions} real lesions, {boxes - lesions} boxes without one"
        yield "| trained on | " + " | ".join(CLASSIFIED) + " |"
        yield "|---" * (1 + len(CLASSIFIED)) + "|"
        for arm in ARMS:
            yield f"| {arm} | " + " | ".join(_cell(self.figure(arm, name)) for name in CLASSIFIED) + " |"
        yield "| gain | " + " | ".join(_cell(self.gain(name)) for name in CLASSIFIED) + " |"
        yield "The generator saw lesions of all training patients, also of those that a fold leaves out."


def evaluate_folds(
    data: DownstreamData, maker: Maker, steps: int, seed: int, say: Say = lambda line: None
) -> FoldResult:
    """All lesions of the data, and its boxes without one; about as many made ones as real ones in every
    fold."""
    nodules = [*data.training, *data.tested]
    clear = [*data.clear_training, *data.clear_tested]
    known = [*(one.patient for one in nodules), *(box.patient for box in clear)]
    fold_of = split_patients([*known, *(host.name for host in data.hosts)], seed)
    count, rng = round(MADE * len(nodules)), np.random.default_rng(seed)
    made = make_pairs(list(place_donors(nodules, data.hosts, count, rng)), maker)
    patients, labels = list[str](), list[int]()
    logits: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for fold in range(FOLDS):
        seen = [one for one in nodules if fold_of[one.patient] != fold]
        real = [real_sample(one) for one in seen]
        left_out = [real_sample(one) for one in nodules if fold_of[one.patient] == fold]
        boxes = [box for box in clear if fold_of[box.patient] == fold]
        tested = [*left_out, *as_seen(boxes, left_out or real)]
        if not tested or not seen:
            continue
        patients += [box.patient for box in tested]
        labels += [1] * len(left_out) + [0] * len(boxes)
        views = tensor_of_boxes(held_out_patches(tested))
        free = as_seen([box for box in clear if fold_of[box.patient] != fold], real)
        pairs = [
            pair for pair in made if fold not in (fold_of[pair.made.patient], fold_of[pair.twin.patient])
        ]
        materials = (
            (real, free),
            ([*real, *(pair.made for pair in pairs)], [*free, *(pair.twin for pair in pairs)]),
        )
        for arm, (lesions, healthy) in zip(ARMS, materials, strict=True):
            logits[arm] += train_classifier(lesions, healthy, steps, seed).decision(views).tolist()
            say(f"fold {fold + 1} of {FOLDS}, {arm}: {len(lesions)} lesions, {len(healthy)} without")
    return FoldResult(tuple(patients), np.array(labels), {arm: np.array(one) for arm, one in logits.items()})


def split_patients(patients: Sequence[str], seed: int) -> dict[str, int]:
    """The fold of each, about as many patients in every one. A name that begins with another one is of the
    same patient, as P7_chest and P7."""
    names = sorted(set(patients))
    owner = {name: next(other for other in names if name.startswith(other)) for name in names}
    order = np.random.default_rng((seed, 5)).permutation(sorted(set(owner.values())))
    fold = {str(patient): number % FOLDS for number, patient in enumerate(order)}
    return {name: fold[owner[name]] for name in names}


def _difference(measure: str, mine: np.ndarray, others: np.ndarray, labels: np.ndarray) -> float:
    score = CLASSIFIED[measure]
    return score(mine, labels) - score(others, labels)


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
