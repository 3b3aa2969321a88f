"""HU in the mask, the seam, noise, and how well the lesion fills what was painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lesionbrush.evaluation import plots
from lesionbrush.evaluation.bench import KIND_TEXT, KINDS, Bench, Kind
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.measures import (
    HuInMask,
    adherence_dice,
    band_deviation,
    border_noise_ratio,
    contact_share,
    inner_grain,
)
from lesionbrush.evaluation.metrics import seam_ratio
from lesionbrush.evaluation.results import Figure, Goal, Section, at_least, at_most
from lesionbrush.evaluation.statistics import Estimate, by_patient, median
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

HU_GOAL, SEAM_GOAL, DICE_GOAL = at_most(40.0), at_most(1.1), at_least(0.85)
MARGIN_MM = SynthesisRequest().margin_mm
Measure = Callable[[np.ndarray, Nodule], float]


def _seam(hu: np.ndarray, nodule: Nodule) -> float:
    return seam_ratio(hu, nodule.inside, nodule.case.crop.spacing_mm, MARGIN_MM)


def _border(hu: np.ndarray, nodule: Nodule) -> float:
    return border_noise_ratio(hu, nodule.inside, nodule.case.crop.spacing_mm, MARGIN_MM)


def _grain(hu: np.ndarray, nodule: Nodule) -> float:
    spacing_mm = nodule.case.crop.spacing_mm
    return inner_grain(hu, nodule.inside, spacing_mm) / inner_grain(
        nodule.case.crop.array, nodule.inside, spacing_mm
    )


def _mottle(hu: np.ndarray, nodule: Nodule) -> float:
    if nodule.texture != "solid":
        return float("nan")
    made, real = nodule.patch(hu), nodule.real
    return band_deviation(made.hu, real.inside) / band_deviation(real.hu, real.inside)


def _dice(hu: np.ndarray, nodule: Nodule) -> float:
    if nodule.texture != "solid":
        return float("nan")
    return adherence_dice(hu, nodule.inside, nodule.case.crop.spacing_mm, MARGIN_MM)


def _contact(hu: np.ndarray, nodule: Nodule) -> float:
    return contact_share(hu, nodule.case.crop.array, nodule.inside, nodule.case.crop.spacing_mm, MARGIN_MM)


PLAIN: dict[str, tuple[Measure, str, Goal | None]] = {
    "seam_ratio": (_seam, "gradient across the edit border over nearby background", SEAM_GOAL),
    "border_noise": (_border, "noise power of lung in the edit region over that outside it", None),
    "inner_grain": (_grain, "pixel noise inside the lesion, ours over real", None),
    "mottle": (_mottle, "structure of 2 to 4 mm inside solid lesions, ours over real", None),
    "contact": (
        _contact,
        "soft tissue touching the lesion that is still there, of what the real CT has",
        None,
    ),
    "adherence_dice": (_dice, "Dice of the thresholded solid lesion with the painted mask", DICE_GOAL),
}


def fidelity(bench: Bench) -> Section:
    """HU in the mask, seam, noise, adherence: medians over the held-out nodules."""
    real = [HuInMask.of(hu, nodule.inside) for hu, nodule in zip(bench.real, bench.nodules, strict=True)]
    figures = [figure for kind in KINDS for figure in _hu_figures(bench, kind, real)]
    for name, (measure, what, goal) in PLAIN.items():
        floor = None if name == "contact" else _over(bench, bench.real, measure)
        for kind in KINDS:
            text = f"{what}, {KIND_TEXT[kind]}"
            value = _over(bench, bench.make(kind), measure)
            figures.append(
                Figure(name=f"{name}_{kind}", what=text, unit="", value=value, floor=floor, goal=goal)
            )
    means = [
        HuInMask.of(hu, n.inside).mean for hu, n in zip(bench.make("measured"), bench.nodules, strict=True)
    ]
    picture = bench.picture(
        plots.scatter([r.mean for r in real], means, "mean HU of the real nodule", "of ours, asked for it"),
        "hu.png",
        "Mean HU in the mask: what the real nodule has and was asked for, and what came out.",
    )
    return Section(
        name="fidelity",
        title="HU, seam, noise, and the painted shape",
        text="Medians over nodules. For HU the floor is two real nodules of the same texture drawn at "
        "random: what one gets without looking. The mask in this data includes the blurred rim of the"
        " nodule, so the real nodule itself does not fill it: see the floor of the Dice. Where "
        "mean and spread are asked for and the sampler holds the lesion to them, their errors say "
        "nothing of the model: p10 and p90 do. All on the CT's own grid, but for mottle (1 mm).",
        figures=tuple(figures),
        pictures=(picture,),
    )


def _over(bench: Bench, arrays: Sequence[np.ndarray], measure: Measure) -> Estimate:
    values = np.array([measure(hu, nodule) for hu, nodule in zip(arrays, bench.nodules, strict=True)])
    return by_patient(median, bench.patients, values)


def _hu_figures(bench: Bench, kind: Kind, real: Sequence[HuInMask]) -> list[Figure]:
    made = [HuInMask.of(hu, n.inside) for hu, n in zip(bench.make(kind), bench.nodules, strict=True)]
    figures = []
    for name, text in (("mean", "mean"), ("p10", "10th percentile"), ("p90", "90th percentile")):
        pairs = zip(made, real, strict=True)
        error = np.array([abs(getattr(ours, name) - getattr(theirs, name)) for ours, theirs in pairs])
        figures.append(
            Figure(
                name=f"hu_{name}_error_{kind}",
                what=f"absolute error of the {text} of HU in the mask, {KIND_TEXT[kind]}",
                unit="HU",
                value=by_patient(median, bench.patients, error),
                floor=_two_real(bench, [getattr(one, name) for one in real]),
                goal=HU_GOAL if kind == "measured" else None,
            )
        )
    return figures


def _two_real(bench: Bench, values: Sequence[float]) -> Estimate:
    """The same error between each nodule and another one of its texture."""
    rng, textures = np.random.default_rng(0), np.array([nodule.texture for nodule in bench.nodules])
    apart = []
    for k, texture in enumerate(textures):
        others = np.flatnonzero((textures == texture) & (np.arange(len(textures)) != k))
        apart.append(abs(values[k] - values[rng.choice(others)]) if len(others) else np.nan)
    return by_patient(median, bench.patients, np.array(apart))
