"""Does a text steer? The paper's controls (Sec. V.D): a prompt against its negation, measured in the results.

Low attenuation and the width of the heart are measured as in any chest CT (`reports.measuring`), in the lungs
of the result's own lobes; fluid by the air that it takes from its side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image
from scipy import stats

from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.generate import Generation, generate
from lesionbrush.core.inputs import Inputs, Value
from lesionbrush.montage import Panel, Window, sheet, to_lps
from lesionbrush.reports.thorax import find_heart
from lesionbrush.systems.medsyn.hooks import NUMBERS
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.request import MedSynRequest

MOST = 16
"""Variants of one request."""
CARINA_SHARE = 0.55
"""Of the height of the lungs, where the carina is taken to be: at 64 voxels no windpipe is told to fork."""
AERATED_HU = -500
CHEST = Window("lung and soft tissue", -350, 1400)
NOTHING_HELD: Mapping[str, Value] = {}
Measure = Callable[[Generation], float]


@dataclass(frozen=True)
class Control:
    """name: of what is measured, with its unit; measure: nan where it cannot be."""

    name: str
    prompt: str
    negated: str
    measure: Measure


@dataclass(frozen=True)
class Contrast:
    """What was measured over seeds, and the chance of such a difference if the text did nothing (one-sided
    Mann-Whitney test)."""

    control: Control
    prompted: tuple[float, ...]
    negated: tuple[float, ...]

    @property
    def chance(self) -> float:
        """nan with fewer than two measurements on either side."""
        if min(map(len, self._measured())) < 2:
            return float("nan")
        return float(stats.mannwhitneyu(*self._measured(), alternative="greater").pvalue)

    @property
    def right_way(self) -> int:
        """Seeds of which the prompt has more than its negation."""
        return sum(one > other for one, other in zip(self.prompted, self.negated, strict=True))

    def _measured(self) -> tuple[np.ndarray, np.ndarray]:
        prompted, negated = (np.array(one)[~np.isnan(one)] for one in (self.prompted, self.negated))
        return prompted, negated

    def line(self) -> str:
        prompted, negated = self._measured()
        seeds = len(self.prompted)
        unmeasured = 2 * seeds - len(prompted) - len(negated)
        rest = f"; {unmeasured} not measured" if unmeasured else ""
        texts = (self.control.prompt, self.control.negated)
        sides = zip(map(_spread, (prompted, negated)), texts, strict=True)
        return (
            f"{self.control.name}: {', '.join(f'{values} with {text!r}' for values, text in sides)}, "
            f"p = {self.chance:.2g}, {self.right_way} of {seeds} seeds the right way{rest}"
        )

    def figures(self) -> Iterator[tuple[str, float]]:
        for kind, values in zip(("prompted", "negated"), self._measured(), strict=True):
            yield f"{self.control.name}_{kind}", round(float(np.mean(values)), 3) if len(values) else -1.0
        yield f"{self.control.name}_p", round(self.chance, 5)
        yield f"{self.control.name}_right_way", self.right_way / len(self.prompted)


def lungs_of(made: Generation) -> tuple[CoarseGrid, np.ndarray]:
    """The result on coarse voxels (X, Y, Z), left, back, head; and its lungs: 1 right, 2 left."""
    assert made.layout is not None
    grid = CoarseGrid.of(made.ct)
    labels = np.zeros(made.ct.shape, np.uint8)
    for name in made.layout.names.values():
        if name in NUMBERS:
            labels[made.layout.mask(name)] = 1 if name.startswith("right") else 2
    return grid, grid.thin(labels)


def measure_lost_air(made: Generation, side: int) -> float:
    """ml of air that one lung has less than the other: at 5 mm a voxel fluid is told by nothing else. nan
    without lungs."""
    grid, lungs = lungs_of(made)
    if not lungs.any():
        return float("nan")
    right, left = (np.count_nonzero((lungs == one) & (grid.hu < AERATED_HU)) for one in (1, 2))
    return float((left - right if side == 1 else right - left) * grid.voxel_ml)


def measure_low_attenuation(made: Generation) -> float:
    """Percent of both lungs below -950 HU."""
    grid, lungs = lungs_of(made)
    return 100 * float((grid.hu[lungs > 0] < -950).mean()) if lungs.any() else float("nan")


def measure_ratio(made: Generation) -> float:
    """Width of the heart over that of the chest, the greatest on one axial slice."""
    grid, lungs = lungs_of(made)
    high = np.flatnonzero(lungs.any(axis=(0, 1)))
    if not len(high):
        return float("nan")
    carina = (high[0] + CARINA_SHARE * (high[-1] - high[0])) * grid.spacing_mm[2]
    heart = find_heart(grid, lungs, float(carina))
    if heart is None:
        return float("nan")
    z = heart.slices[int(heart.widths_mm.argmax())]
    across = np.flatnonzero(lungs[:, :, z].any(axis=1))
    return float(heart.widths_mm.max() / ((across[-1] - across[0] + 1) * grid.spacing_mm[0]))


CONTROLS = (
    Control(
        "right_air_lost_ml",
        "Large right pleural effusion.",
        "No pleural effusion.",
        partial(measure_lost_air, side=1),
    ),
    Control(
        "left_air_lost_ml",
        "Large left pleural effusion.",
        "No pleural effusion.",
        partial(measure_lost_air, side=2),
    ),
    Control("laa950_percent", "Severe emphysema.", "No emphysema.", measure_low_attenuation),
    Control("cardiothoracic_ratio", "Severe cardiomegaly.", "Normal heart size.", measure_ratio),
)


def generate_seeds(model: MedSyn, request: MedSynRequest, inputs: Inputs, seeds: int) -> list[Generation]:
    """So many from the first of the request on, however many one request may have."""
    made = list[Generation]()
    for first in range(0, seeds, MOST):
        some = {"seed": request.seed + first, "variants": min(MOST, seeds - first)}
        made += generate(request.model_copy(update=some), model, inputs)
    return made


def contrast(
    model: MedSyn,
    control: Control,
    request: MedSynRequest,
    seeds: int,
    held: Mapping[str, Value] = NOTHING_HELD,
) -> tuple[Contrast, Sequence[Panel]]:
    """Over seeds, with what is held beside the text; and panels of the first seed."""
    prompted, negated = (
        generate_seeds(model, request, Inputs(text=text, **held), seeds)
        for text in (control.prompt, control.negated)
    )
    found = Contrast(control, tuple(map(control.measure, prompted)), tuple(map(control.measure, negated)))
    pairs = ((control.prompt, prompted[0]), (control.negated, negated[0]))
    return found, [panel for text, made in pairs for panel in show(made, text)]


def picture(panels: Sequence[Panel], title: str = "A prompt beside its negation") -> Image.Image:
    return sheet(panels, 4, title=f"{title}: coronal and axial", panel_px=256)


def show(made: Generation, text: str) -> Iterator[Panel]:
    """The coronal slice in the middle of the chest, and the axial one in the lower third."""
    hu, (x_mm, y_mm, z_mm) = to_lps(made.ct)
    coronal, axial = hu[:, hu.shape[1] * 6 // 10, ::-1].T, hu[:, :, hu.shape[2] * 4 // 10].T
    for slice_hu, pixel_mm in ((coronal, (z_mm, x_mm)), (axial, (y_mm, x_mm))):
        yield Panel(slice_hu, pixel_mm, CHEST, text, badge="GENERATED")


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3g} ± {values.std():.2g}" if len(values) else "nothing measured"
