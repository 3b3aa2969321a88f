"""Can a classifier tell ours from real? Critics, their floor, and what they say of planted faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import ndimage

from lesionbrush.evaluation.bench import KIND_TEXT, Bench, Kind
from lesionbrush.evaluation.classifiers import Boosted, Classifier, Linear, out_of_fold
from lesionbrush.evaluation.features import feature_names, features
from lesionbrush.evaluation.network import CNN, TrainingPlan, tensor_of
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.results import Figure, Section, Table, at_most
from lesionbrush.evaluation.statistics import Estimate, auc, by_patient

CRITIC_GOAL = at_most(0.60)
SHUFFLES = 5
CRITICS = {"linear": "logistic regression", "boosted": "gradient boosting", "cnn": "small 3D CNN"}


def critics(bench: Bench) -> Section:
    """AUC of three critics; their floor on real nodules alone; what they say of planted faults."""
    kinds: tuple[Kind, ...] = ("readers", "measured")
    figures = []
    for name, text in CRITICS.items():
        floor = _floor(bench, name)
        for kind in kinds:
            value = _auc(bench, name, bench.patches(kind), None if name == "cnn" else bench.features(kind))
            what = f"AUC of a critic ({text}), {KIND_TEXT[kind]}"
            figures.append(
                Figure(
                    name=f"critic_{name}_{kind}",
                    what=what,
                    unit="",
                    value=value,
                    floor=floor,
                    goal=CRITIC_GOAL,
                )
            )
    return Section(
        name="critics",
        title="Can a classifier tell it from real?",
        text="Real nodule in its crop against ours under the same mask, on 1 mm patches, cross-validated "
        "by patient. 0.5: it cannot; 1: always. The floor is the same critic on real nodules with "
        "shuffled labels. The planted faults below are in real nodules: a critic that misses them "
        "says nothing about ours.",
        figures=tuple(figures),
        tables=(_sensitivity(bench), _tells(bench)),
    )


def _inputs(name: str, patches: Sequence[Patch], rows: np.ndarray | None) -> np.ndarray:
    if name == "cnn":
        return tensor_of(list(patches))
    return rows if rows is not None else np.array([features(patch) for patch in patches])


def _maker(bench: Bench, name: str) -> Callable[[], Classifier]:
    makers: dict[str, Callable[[], Classifier]] = {
        "linear": Linear,
        "boosted": Boosted,
        "cnn": lambda: CNN(TrainingPlan(bench.plan.critic_epochs, bench.plan.least_steps)),
    }
    return makers[name]


def _auc(bench: Bench, name: str, fakes: Sequence[Patch], rows: np.ndarray | None) -> Estimate:
    """Real against `fakes`, which are the same nodules in the same order."""
    real = _inputs(name, bench.real_patches, bench.features("real"))
    X = np.concatenate((real, _inputs(name, fakes, rows)))
    y, patients = np.repeat([0, 1], len(real)), np.tile(bench.patients, 2)
    scores = out_of_fold(_maker(bench, name), X, y, patients.tolist(), bench.plan.critic_folds)
    return by_patient(auc, patients.tolist(), scores, y)


def _floor(bench: Bench, name: str) -> Estimate:
    """AUC on real nodules with labels at random: the mean of a few shuffles (one for the CNN)."""
    real, rng = _inputs(name, bench.real_patches, bench.features("real")), np.random.default_rng(0)
    found = []
    for _ in range(1 if name == "cnn" else SHUFFLES):
        y = rng.permutation(np.arange(len(real)) % 2)
        scores = out_of_fold(_maker(bench, name), real, y, bench.patients, bench.plan.critic_folds)
        found.append(by_patient(auc, bench.patients, scores, y))
    columns = [[getattr(e, key) for e in found] for key in ("value", "low", "high")]
    value, low, high = (float(np.mean([v if v is not None else np.nan for v in c])) for c in columns)
    return Estimate.of(value, [low, high], len(real))


def blur(patch: Patch, deviation_mm: float) -> Patch:
    """A planted fault: the lesion and 2 mm around it lose their fine detail."""
    where = ndimage.binary_dilation(patch.inside, iterations=2)
    return replace(patch, hu=np.where(where, ndimage.gaussian_filter(patch.hu, deviation_mm), patch.hu))


def flat(patch: Patch) -> Patch:
    """A planted fault: the mask holds its mean HU."""
    return replace(patch, hu=np.where(patch.inside, patch.hu[patch.inside].mean(), patch.hu))


def mottle(patch: Patch, size_hu: float = 60.0) -> Patch:
    """A planted fault: smooth blotches in the mask."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=patch.hu.shape), 1.3)
    return replace(patch, hu=patch.hu + patch.inside * (noise / noise.std() * size_hu).astype(np.float32))


FAULTS: dict[str, Callable[[Patch], Patch]] = {
    "blurred, 0.5 mm deviation": partial(blur, deviation_mm=0.5),
    "blurred, 1 mm deviation": partial(blur, deviation_mm=1.0),
    "flat: one HU in the mask": flat,
    "mottled: ±60 HU blotches of 3 mm": mottle,
}


def _sensitivity(bench: Bench) -> Table:
    """What each critic makes of faults that were planted into real nodules."""
    rows = []
    for fault, plant in FAULTS.items():
        planted = [plant(patch) for patch in bench.real_patches]
        measured = np.array([features(patch) for patch in planted])
        names = [n for n in CRITICS if n != "cnn" or fault == "blurred, 1 mm deviation"]
        found = {name: _auc(bench, name, planted, None if name == "cnn" else measured) for name in names}
        rows.append((fault, *(_text(found.get(name)) for name in CRITICS)))
    return Table(
        title="AUC on real nodules with a planted fault",
        columns=("fault", *CRITICS.values()),
        rows=tuple(rows),
    )


def _text(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    return f"{estimate.value:.2f} ({estimate.low or 0:.2f} to {estimate.high or 0:.2f})"


def _tells(bench: Bench, count: int = 10) -> Table:
    """The features that differ most between a nodule and ours under its mask: what gives it away."""
    real, names = bench.features("real"), feature_names()
    scale = np.nanstd(real, axis=0) + 1e-9
    shifts = {
        kind: np.nanmedian((bench.features(kind) - real) / scale, axis=0) for kind in ("readers", "measured")
    }
    order = np.argsort(-np.abs(shifts["measured"]))[:count]
    rows = [(names[k], f"{shifts['readers'][k]:+.2f}", f"{shifts['measured'][k]:+.2f}") for k in order]
    return Table(
        title="What differs most, median in units of the spread of real nodules",
        columns=("feature", KIND_TEXT["readers"], KIND_TEXT["measured"]),
        rows=tuple(rows),
    )
