"""Findings of chests that nobody has: plausible numbers, for pretraining on their reports and for tests."""

from __future__ import annotations

import numpy as np

from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.cohorts.truth import LesionTruth
from lesionbrush.reports.findings import ChestFindings, Measurement, NoduleFinding, Texture

HEALTHY, NOT_MEASURED = 0.2, 0.05
LUNG_CUT = "the base of the {side} lung is not in the volume"
NO_LUNG = "no {side} lung is found"
NO_HEART = (
    "no carina is found, below which the heart begins",
    "there is one lung only",
    "the lower end of the heart is not in the volume, or is not told from what is below it",
)
NO_TISSUE, NO_TRACHEA = "there is too little soft tissue in the volume", "no trachea is found"
SLICES_MM = (0.6, 0.8, 1.0, 1.25, 2.0, 2.5, 3.0, 5.0)
TEXTURES: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass")


def draw_findings(generator: np.random.Generator) -> ChestFindings:
    """A chest in five is healthy, of the others about half of each part; now and then a number is missing,
    with a reason as `measure_chest` gives it."""
    draw = _Draw(generator, healthy=bool(generator.random() < HEALTHY))
    heart = draw.heart()
    scale = draw.spread(1.0, 0.28, 0.45, 1.7)  # of both lungs
    return ChestFindings(
        right_lung_ml=draw.maybe(2450 * draw.spread(scale, 0.1, 0.3, 2), 0, NO_LUNG.format(side="right")),
        left_lung_ml=draw.maybe(2100 * draw.spread(scale, 0.1, 0.3, 2), 0, NO_LUNG.format(side="left")),
        laa950_percent=draw.emphysema(),
        heart_width_mm=heart[0],
        chest_width_mm=heart[1],
        cardiothoracic_ratio=heart[2],
        effusion_right_ml=draw.effusion("right"),
        effusion_left_ml=draw.effusion("left"),
        consolidation_ml=draw.maybe(draw.ill(0.45, 3.6, 1.2), 1, ""),
        airways_ml=draw.maybe(draw.spread(70, 20, 20, 140), 1, NO_TRACHEA),
        noise_hu=draw.maybe(generator.lognormal(2.7, 0.5), 1, NO_TISSUE),
        slice_mm=SLICES_MM[int(generator.integers(len(SLICES_MM)))],
        nodules=draw.nodules(),
    )


class _Draw:
    def __init__(self, generator: np.random.Generator, healthy: bool) -> None:
        self._generator, self._healthy = generator, healthy

    def spread(self, mean: float, spread: float, least: float, most: float) -> float:
        """Of a normal distribution, a third as wide in the healthy."""
        value = mean + self._generator.normal() * (spread / 3 if self._healthy else spread)
        return float(min(max(value, least), most))

    def maybe(self, value: float, digits: int, why_not: str) -> Measurement:
        """The number, or seldom why there is none; always the number where there is no reason to give."""
        if why_not and self._generator.random() < NOT_MEASURED:
            return Measurement(why_not=why_not)
        return Measurement(value=round(float(value), digits))

    def ill(self, share: float, log_mean: float, log_spread: float) -> float:
        """A log-normal amount in such a share, else none."""
        ill = not self._healthy and self._chance(share)
        return float(self._generator.lognormal(log_mean, log_spread)) if ill else 0.0

    def effusion(self, side: str) -> Measurement:
        ml = min(self.ill(0.4, 5.9, 1.1), 3500.0)
        return self.maybe(ml, 0, LUNG_CUT.format(side=side))

    def emphysema(self) -> Measurement:
        none = self._healthy or self._chance(0.5)
        percent = self._generator.uniform(0, 5) if none else self._generator.uniform(5, 40)
        why = f"{percent:.1f} % of it is below -950 HU, as noise of 40 HU alone would make it"
        return self.maybe(percent, 2, why if percent > 5 else "")

    def heart(self) -> tuple[Measurement, Measurement, Measurement]:
        """Heart, chest, and one over the other."""
        chest_mm = self.spread(275, 22, 200, 350)
        ratio = self.spread(0.44 if self._healthy else 0.51, 0.075, 0.34, 0.75)
        why_not = NO_HEART[int(self._generator.integers(len(NO_HEART)))]
        found = self.maybe(ratio, 3, why_not)
        if found.value is None:
            return found, found, found
        heart_mm = Measurement(value=round(chest_mm * ratio))
        return heart_mm, Measurement(value=round(chest_mm)), found

    def nodules(self) -> tuple[NoduleFinding, ...] | None:
        """Seldom looked for."""
        if self._chance(0.7):
            return None
        return tuple(self._nodule() for _ in range(self._chance(0.6) + self._chance(0.3)))

    def _nodule(self) -> NoduleFinding:
        long_mm = min(max(float(self._generator.lognormal(2.3, 0.4)), 4.0), 30.0)
        short_mm = long_mm * float(self._generator.uniform(0.6, 1.0))
        ball_mm = (long_mm + short_mm) / 2
        texture = TEXTURES[int(self._generator.integers(3))]
        mean_hu = {"solid": 10.0, "part-solid": -250.0, "ground-glass": -600.0}[texture]
        names = tuple(LOBES.values())
        truth = LesionTruth(
            voxels=1,
            volume_ml=round(np.pi / 6 * ball_mm**3 / 1000, 3),
            long_axis_mm=round(long_mm, 1),
            short_axis_mm=round(short_mm, 1),
            mean_diameter_mm=round(ball_mm, 1),
            ball_mm=round(ball_mm, 1),
            mean_hu=round(mean_hu + float(self._generator.normal(0, 40))),
            std_hu=50.0,
            ring_hu=None,
            contrast_hu=None,
            cnr=None,
        )
        return NoduleFinding(
            lobe=names[int(self._generator.integers(len(names)))], texture=texture, truth=truth
        )

    def _chance(self, share: float) -> bool:
        return bool(self._generator.random() < share)
