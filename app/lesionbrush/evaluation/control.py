"""Does what was asked come out? One attribute is moved, everything else stays: mask, crop, seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from lesionbrush.evaluation import plots
from lesionbrush.evaluation.bench import Bench
from lesionbrush.evaluation.cases import TEXTURES, Nodule
from lesionbrush.evaluation.classifiers import Linear
from lesionbrush.evaluation.features import SHELLS_MM, features
from lesionbrush.evaluation.measures import HuInMask, Surface, calcium_share
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.results import Figure, Section, Table, at_least
from lesionbrush.evaluation.statistics import balanced_accuracy, by_patient, mean, median, rank_correlation
from lesionbrush.systems.lesion_inpainting.measures import Surroundings
from lesionbrush.systems.lesion_inpainting.request import Attributes

TEXTURE_GOAL, RANK_GOAL = at_least(0.90), at_least(0.60)
HU_FEATURES = 6 + 3 * len(SHELLS_MM)
"""Histogram and radial profile: what texture is recovered from."""

DENSE_HU = -300.0

Measure = Callable[[Patch], float]


@dataclass(frozen=True)
class Sweep:
    """An attribute, what it is moved over, and the measures that should follow.

    score: the readers' own score that the measure is held against on real nodules (the floor); sign: -1
    where the measure should fall. base: the other attributes.
    """

    attribute: str
    values: tuple[float | str, ...]
    measures: tuple[tuple[str, Measure, int], ...]
    score: str | None
    base: Attributes = field(default_factory=Attributes)

    def ask(self, value: float | str) -> Attributes:
        return Attributes.model_validate({**self.base.model_dump(), self.attribute: value})

    def positions(self) -> np.ndarray:
        """The values as numbers; names by their place."""
        return np.array([v if isinstance(v, float) else k for k, v in enumerate(self.values)], dtype=float)


def _roughness(patch: Patch) -> float:
    return Surroundings(patch.hu, patch.inside).border_roughness()


def _concavity(patch: Patch) -> float:
    return Surroundings(patch.hu, patch.inside).concavity()


def _mean_hu(patch: Patch) -> float:
    return HuInMask.of(patch.hu, patch.inside).mean


def _spread_hu(patch: Patch) -> float:
    return HuInMask.of(patch.hu, patch.inside).spread


def _dense_share(patch: Patch) -> float:
    """Of the voxels in the mask, those nearer to soft tissue than to ground glass."""
    return float((patch.hu[patch.inside] > DENSE_HU).mean())


def sweeps(count: int) -> tuple[Sweep, ...]:
    """All sweeps, with `count` values of each degree."""
    degrees = tuple(float(v) for v in np.linspace(0, 1, count).round(3))
    means = tuple(float(v) for v in np.linspace(-650, 100, count).round())
    spreads = tuple(float(v) for v in np.linspace(60, 260, count).round())
    shares = tuple(float(v) for v in np.linspace(0.1, 0.7, count).round(2))
    open_texture = Attributes(texture=None)
    return (
        Sweep("margin", degrees, _pick("edge_slope", "border_roughness"), "Margin"),
        Sweep("spiculation", degrees, _pick("spikes", "concavity"), "Spiculation"),
        Sweep("lobulation", degrees, _pick("lobes"), "Lobulation"),
        Sweep("calcification", ("none", "solid"), _pick("calcium_share"), "Calcification"),
        Sweep("solid_share", shares, _pick("dense_share"), None, Attributes(texture="part_solid")),
        Sweep("mean_hu", means, _pick("mean_hu"), None, open_texture),
        Sweep("heterogeneity_hu", spreads, _pick("heterogeneity_hu"), None, Attributes()),
    )


MEASURES: dict[str, tuple[Measure, int]] = {
    "edge_slope": (lambda patch: Surface(patch).edge_slope(), 1),
    "border_roughness": (_roughness, -1),
    "spikes": (lambda patch: Surface(patch).spikes(), 1),
    "concavity": (_concavity, 1),
    "lobes": (lambda patch: Surface(patch).lobes(), 1),
    "calcium_share": (lambda patch: calcium_share(patch.hu, patch.inside), 1),
    "dense_share": (_dense_share, 1),
    "mean_hu": (_mean_hu, 1),
    "heterogeneity_hu": (_spread_hu, 1),
}


def _pick(*names: str) -> tuple[tuple[str, Measure, int], ...]:
    return tuple((name, *MEASURES[name]) for name in names)


def control(bench: Bench) -> Section:
    """Sweeps of every attribute, and the texture that a classifier reads from the HU."""
    chosen = sweep_nodules(bench)
    figures, rows, panels = [_texture(bench)], [], []
    for sweep in sweeps(bench.plan.sweep_values):
        patches = _sweep(bench, sweep, chosen)
        for name, measure, sign in sweep.measures:
            table = np.array([[measure(patch) for patch in row] for row in patches])
            figures.append(_figure(bench, sweep, (name, measure, sign), table, chosen))
            rows.append(_row(sweep, name, table))
            panels.append(_panel(sweep, name, table))
    picture = bench.picture(
        plots.panels(panels), "attributes.png", "Asked against measured: one line per mask."
    )
    return Section(
        name="attributes",
        title="Does what was asked come out?",
        text=f"Each attribute is moved over its values on {len(chosen)} held-out masks with the same seed, "
        "all else fixed. The figure is the rank correlation of asked and measured within a mask, "
        "averaged over masks. Its floor is the rank correlation of the readers' scores with the same "
        "measure over real nodules: how well the measure follows readers at all. Texture is read by a"
        " classifier trained on real training nodules.",
        figures=tuple(figures),
        tables=(
            Table(
                title="Median of the measure at the lowest and the highest value asked",
                columns=("attribute", "measure", "lowest asked", "measured", "highest asked", "measured"),
                rows=tuple(rows),
            ),
        ),
        pictures=(picture,),
    )


def sweep_nodules(bench: Bench) -> list[Nodule]:
    """Solid nodules of about 8 to 20 mm that lung surrounds; all there are if none is."""
    sized = [n for n in bench.nodules if 250 < n.real.inside.sum() < 4200]
    suits = [nodule for nodule in sized if nodule.texture == "solid" and _free(nodule)]
    return bench.spread(bench.plan.sweep_cases, suits or bench.nodules)


def _free(nodule: Nodule) -> bool:
    """Most of the border is lung."""
    patch = nodule.real
    surface = Surface(patch)
    shell = patch.known & (surface.distance_mm > 3) & (surface.distance_mm <= 5)
    return surface.shown and bool((patch.hu[shell] < -600).mean() > 0.75)


def _sweep(bench: Bench, sweep: Sweep, chosen: Sequence[Nodule]) -> list[list[Patch]]:
    """Per nodule, per value."""
    return [
        [nodule.patch(bench.maker.one(nodule, sweep.ask(value), draw_shape=True)) for value in sweep.values]
        for nodule in tqdm(chosen, desc=sweep.attribute, unit="mask")
    ]


def _figure(
    bench: Bench,
    sweep: Sweep,
    measured: tuple[str, Measure, int],
    table: np.ndarray,
    chosen: Sequence[Nodule],
) -> Figure:
    name, measure, sign = measured
    asked = sweep.positions()
    within = np.array([sign * correlate_ranks(asked, row) for row in table])
    floor = None
    if sweep.score:
        scores = np.array([nodule.scores[sweep.score] for nodule in bench.nodules])
        scores = (scores != 6).astype(float) if sweep.score == "Calcification" else scores
        values = np.array([measure(patch) for patch in bench.real_patches])
        floor = by_patient(lambda a, b: sign * rank_correlation(a, b), bench.patients, scores, values)
    return Figure(
        name=f"{sweep.attribute}_{name}" if name != sweep.attribute else sweep.attribute,
        what=f"rank correlation of {sweep.attribute} asked with {name} measured"
        + (" (sign as wanted)" if sign < 0 else ""),
        unit="",
        value=by_patient(mean, [nodule.patient for nodule in chosen], within),
        floor=floor,
        goal=RANK_GOAL,
    )


def correlate_ranks(asked: np.ndarray, measured: np.ndarray) -> float:
    """Rank correlation of what was asked, rising, with what came out; of two values: 1 up, -1 down.

    0, not NaN, where the measure does not move at all: then nothing was followed. NaN where it is unknown.
    """
    if not np.isfinite(measured).all():
        return float("nan")
    if len(asked) == 2:
        return float(np.sign(measured[1] - measured[0]))
    return rank_correlation(asked, measured) if np.ptp(measured) > 0 else 0.0


def _row(sweep: Sweep, name: str, table: np.ndarray) -> tuple[str, ...]:
    low, high = median(table[:, 0]), median(table[:, -1])
    return (sweep.attribute, name, str(sweep.values[0]), f"{low:.3g}", str(sweep.values[-1]), f"{high:.3g}")


def _panel(sweep: Sweep, name: str, table: np.ndarray) -> plots.CurvePanel:
    curves = {f"{k}": plots.Curve(sweep.positions().tolist(), row.tolist()) for k, row in enumerate(table)}
    return plots.CurvePanel(sweep.attribute, "asked", name, curves)


def _texture(bench: Bench) -> Figure:
    """Balanced accuracy of the texture asked for, read from HU; floor: of the readers' on real nodules."""
    reader = Linear(strength=0.3).fit(
        bench.training_features[:, :HU_FEATURES], np.array([nodule.texture for nodule in bench.training])
    )
    chosen = bench.spread(bench.plan.texture_cases)
    pairs = [(nodule, texture) for nodule in chosen for texture in TEXTURES]
    made = [
        nodule.patch(bench.maker.one(nodule, Attributes.model_validate({"texture": texture})))
        for nodule, texture in tqdm(pairs, desc="texture", unit="lesion")
    ]
    found = reader.predict(np.array([features(patch)[:HU_FEATURES] for patch in made]))
    real = reader.predict(bench.features("real")[:, :HU_FEATURES])
    true = np.array([nodule.texture for nodule in bench.nodules])
    asked = np.array([texture for _, texture in pairs])
    return Figure(
        name="texture",
        what="balanced accuracy: texture asked for, read from HU by a classifier",
        unit="",
        value=by_patient(balanced_accuracy, [n.patient for n, _ in pairs], found, asked),
        floor=by_patient(balanced_accuracy, bench.patients, real, true),
        goal=TEXTURE_GOAL,
    )
