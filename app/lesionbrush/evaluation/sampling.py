"""Quality against the number of steps and the sampler, with the time each takes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from lesionbrush.evaluation import plots
from lesionbrush.evaluation.bench import Bench
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.measures import HuInMask, band_deviation, inner_grain
from lesionbrush.evaluation.results import Section, Table
from lesionbrush.evaluation.statistics import median
from lesionbrush.systems.lesion_inpainting.request import Sampler, SynthesisRequest


@dataclass(frozen=True)
class Setting:
    """One sampler and number of steps, and what came of it: medians over the nodules."""

    sampler: Sampler
    steps: int
    hu_error: float
    feature_shift: float
    grain: float
    mottle: float
    seconds: float


MEASURED = {
    "feature_shift": "systematic shift of features, in spreads of real ones",
    "hu_error": "error of mean HU asked for, HU",
    "grain": "noise inside, ours over real",
    "mottle": "2 to 4 mm structure inside, ours over real",
    "seconds": "seconds per lesion",
}


def sampling(bench: Bench) -> Section:
    """Every sampler at every number of steps, on the same nodules with the same seed."""
    chosen = bench.spread(bench.plan.step_cases)
    settings = [
        _setting(bench, chosen, sampler, steps)
        for sampler, steps in tqdm(
            [(a, b) for a in bench.plan.samplers for b in bench.plan.steps], desc="samplers", unit="setting"
        )
    ]
    panels = [_panel(settings, name, text) for name, text in MEASURED.items()]
    rows = [(s.sampler, f"{s.steps}", *(f"{getattr(s, name):.3g}" for name in MEASURED)) for s in settings]
    return Section(
        name="sampling",
        title="How many steps, and which sampler?",
        text=f"The same {len(chosen)} held-out nodules with readers' scores and measured HU, one seed. The "
        "systematic shift is the mean over the radiomic features of how far their mean moves from "
        "that of the real nodules, in units of the real spread: what is wrong in every lesion, not "
        "what differs by chance. Seconds are of this machine when the lesion was made, other work on "
        "it included.",
        tables=(
            Table(
                title="Samplers and steps", columns=("sampler", "steps", *MEASURED.values()), rows=tuple(rows)
            ),
        ),
        pictures=(
            bench.picture(plots.panels(panels), "steps.png", "Quality and time against steps, by sampler."),
        ),
    )


def _setting(bench: Bench, chosen: Sequence[Nodule], sampler: Sampler, steps: int) -> Setting:
    made, seconds = [], []
    for nodule in chosen:
        request = SynthesisRequest(
            attributes=nodule.measured, sampler=sampler, steps=steps, draw_shape=False, keep_vessels=False
        )
        found = bench.maker.make(nodule.case.crop, nodule.case.mask, request)
        made.append(found.arrays[0])
        seconds.append(found.seconds)
    pairs = list(zip(chosen, made, strict=True))
    errors = [_mean(hu, n) - _mean(n.case.crop.array, n) for n, hu in pairs]
    ours = np.array([features(nodule.patch(hu)) for nodule, hu in pairs])
    real = np.array([features(nodule.real) for nodule in chosen])
    shift = np.nanmean(ours - real, axis=0) / (np.nanstd(bench.features("real"), axis=0) + 1e-9)
    grains = [_grain(hu, n) / _grain(n.case.crop.array, n) for n, hu in pairs]
    mottles = [
        band_deviation(n.patch(hu).hu, n.real.inside) / band_deviation(n.real.hu, n.real.inside)
        for n, hu in pairs
    ]
    return Setting(
        sampler,
        steps,
        median(np.abs(errors)),
        float(np.nanmean(np.abs(shift))),
        median(np.array(grains)),
        median(np.array(mottles)),
        median(np.array(seconds)),
    )


def _mean(hu: np.ndarray, nodule: Nodule) -> float:
    return HuInMask.of(hu, nodule.inside).mean


def _grain(hu: np.ndarray, nodule: Nodule) -> float:
    return inner_grain(hu, nodule.inside, nodule.case.crop.spacing_mm)


def _panel(settings: Sequence[Setting], name: str, text: str) -> plots.CurvePanel:
    samplers = dict.fromkeys(setting.sampler for setting in settings)
    curves: dict[str, plots.Curve] = {
        sampler: plots.Curve(
            [s.steps for s in settings if s.sampler == sampler],
            [getattr(s, name) for s in settings if s.sampler == sampler],
        )
        for sampler in samplers
    }
    level = 1.0 if name in ("grain", "mottle") else None
    return plots.CurvePanel(text, "steps", "", curves, level=level, log_x=True)
