"""How good a model is on patients it has not seen: figures, and a sheet of real beside synthetic.

Each held-out nodule is taken out of its own CT crop and made anew under the same mask, three times: from the
mask alone, with what the readers said of it, and with its measured mean and spread of HU as well. What the
readers said leaves much to the draw: it can be made with several seeds, and is made once more without a draw
of densities (variety 0), as the typical lesion of these scores.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.metrics import seam_ratio
from lesionbrush.files.io import read_volume
from lesionbrush.montage import LUNG, SOFT, Panel, sheet
from lesionbrush.systems.lesion_inpainting.attributes import SOLID_SHARES, typical_solid_share
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.training.split import is_validation

SHEET_CASES = 24
CALCIFICATIONS = {1: "popcorn", 2: "laminated", 3: "solid", 4: "non_central", 5: "central", 6: "none"}
"""By the readers' score."""
Make = Callable[[Volume, Volume, SynthesisRequest], np.ndarray]
"""A CT, a mask and a request: HU on the grid of the CT."""


@dataclass(frozen=True)
class Case:
    """A held-out nodule: its crop, mask, and what the readers said."""

    name: str
    crop: Volume
    mask: Volume
    attributes: Attributes


@dataclass(frozen=True)
class CaseFigures:
    """HU in the mask and the seam, of the real nodule and of the three synthetic ones.

    kind: see `kind_of`; other_seeds_mean_hu: of those with the readers' scores and seeds 1, 2, ...;
    typical_mean_hu: of the one with these scores and variety 0.
    """

    name: str
    kind: str
    other_seeds_mean_hu: list[float]
    typical_mean_hu: float
    real_mean_hu: float
    mask_only_mean_hu: float
    with_readers_mean_hu: float
    with_measured_mean_hu: float
    real_seam: float
    mask_only_seam: float
    with_readers_seam: float
    with_measured_seam: float

    @property
    def typical_error_hu(self) -> float:
        return abs(self.typical_mean_hu - self.real_mean_hu)

    def readers_errors_hu(self) -> list[float]:
        return [abs(hu - self.real_mean_hu) for hu in (self.with_readers_mean_hu, *self.other_seeds_mean_hu)]


@dataclass(frozen=True)
class Figures:
    """Medians over the cases, and over the seeds of those with readers, as they go into the card.

    in_mix: each kind of lesion counts as much as it is of all of the data; of the held-out it is not.
    """

    cases: int
    seeds: int
    mean_hu_error_mask_only_hu: float
    mean_hu_error_typical_hu: float
    mean_hu_error_with_readers_hu: float
    mean_hu_error_with_measured_hu: float
    mean_hu_error_typical_in_mix_hu: float
    mean_hu_error_with_readers_in_mix_hu: float
    seam_mask_only: float
    seam_with_readers: float
    seam_real: float


@dataclass(frozen=True)
class KindFigures:
    """The medians of one kind of lesion."""

    kind: str
    cases: int
    mean_hu_error_typical_hu: float
    mean_hu_error_with_readers_hu: float


@dataclass(frozen=True)
class Evaluation:
    figures: Figures
    kinds: list[KindFigures]


def evaluate(make: Make, data: Path, out: Path, cases: int = 0, seeds: int = 1) -> Evaluation:
    """Write figures.json and sheet.png into `out`; `cases` 0 takes every held-out nodule."""
    chosen = read_held_out(data)
    chosen = chosen[:: max(1, len(chosen) // cases)][:cases] if cases else chosen
    if not chosen:
        raise FileNotFoundError(f"{data} holds no held-out nodules: point --data at the training data")
    out.mkdir(parents=True, exist_ok=True)
    rows, panels = [], []
    for case in tqdm([load_case(data, row) for row in chosen], desc="evaluate", unit="nodule"):
        asked = (Attributes(), case.attributes, add_measures(case))
        made = [_make(case, attributes, make) for attributes in asked]
        others = [_make(case, case.attributes, make, seed=seed) for seed in range(1, seeds)]
        typical = _make(case, case.attributes, make, variety=0.0)
        rows.append(_figures_of(case, made, others, typical))
        panels.append(_panels(case, made[-1]))
    found = Evaluation(_summary(rows, kinds_of_data(data)), _by_kind(rows))
    report = {**asdict(found), "cases": [asdict(row) for row in rows]}
    (out / "figures.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    every = max(1, len(panels) // SHEET_CASES)
    chosen_panels = [panel for four in panels[::every][:SHEET_CASES] for panel in four]
    sheet(chosen_panels, columns=12, panel_px=160).save(out / "sheet.png")
    return found


def read_held_out(data: Path) -> list[dict[str, str]]:
    """The readers' rows of the held-out nodules, largest first."""
    return [row for row in readers_rows(data) if is_validation(row["patient_id"])]


def readers_rows(data: Path) -> list[dict[str, str]]:
    """The readers' rows of all nodules that are there, largest first."""
    folder = data / "lidc_nodules"
    with (folder / "attributes.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"]]
    there = [row for row in rows if (folder / "images" / row["file"]).is_file()]
    return sorted(there, key=lambda row: -float(row["diameter_mm"]))


def kinds_of_data(data: Path) -> Counter[str]:
    """How many nodules of each kind there are, on both sides of the split."""
    return Counter(kind_of(readers_attributes(row, float(row["diameter_mm"]))) for row in readers_rows(data))


def kind_of(wish: Attributes) -> str:
    """Its texture, or that it is calcified."""
    return str(wish.texture) if wish.calcification in (None, "none") else "calcified"


def load_case(data: Path, row: dict[str, str]) -> Case:
    folder = data / "lidc_nodules"
    crop, mask = (read_volume(folder / kind / row["file"]) for kind in ("images", "masks"))
    volume_mm3 = np.count_nonzero(mask.array) * np.prod(mask.spacing_mm)
    return Case(row["file"], crop, mask, readers_attributes(row, float(np.cbrt(6 / np.pi * volume_mm3))))


def readers_attributes(row: dict[str, str], diameter_mm: float) -> Attributes:
    """What the readers said, as a request: scores 1..5 become 0..1, texture one of three names.

    What they call part-solid has a core of the share that is typical of this texture and diameter.
    """

    def degree(name: str) -> float | None:
        return (float(row[f"{name}_value"]) - 1) / 4 if row[f"{name}_value"] else None

    texture = float(row["Texture_value"])
    name = "ground_glass" if texture <= 2 else "part_solid" if texture < 5 else "solid"
    grade = (texture - 1) / 4
    share = typical_solid_share(np.array(diameter_mm), grade) if grade in SOLID_SHARES else None
    return Attributes.model_validate(
        {
            "texture": name,
            "solid_share": None if share is None else float(share),
            "margin": degree("Margin"),
            "spiculation": degree("Spiculation"),
            "lobulation": degree("Lobulation"),
            "calcification": CALCIFICATIONS[int(float(row["Calcification_value"]))],
        }
    )


def _make(case: Case, attributes: Attributes, make: Make, **wishes: float) -> np.ndarray:
    in_place = {"draw_shape": False, "keep_vessels": False}  # under the mask is the real nodule
    request = {"attributes": attributes, **in_place, **wishes}
    return make(case.crop, case.mask, SynthesisRequest.model_validate(request))


def add_measures(case: Case) -> Attributes:
    """What the readers said, and the mean and spread of HU in the mask, within the ranges of a request.

    No spread of calcified ones.
    """
    hu = case.crop.array[case.mask.array > 0]
    mean_hu, spread_hu = float(np.clip(hu.mean(), -950, 1000)), float(np.clip(hu.std(), 0, 500))
    spread = {} if case.attributes.calcification != "none" else {"heterogeneity_hu": spread_hu}
    return case.attributes.model_copy(update={"mean_hu": mean_hu, **spread})


def _figures_of(
    case: Case, made: list[np.ndarray], others: list[np.ndarray], typical: np.ndarray
) -> CaseFigures:
    inside = case.mask.array > 0
    margin = SynthesisRequest().margin_mm
    volumes = (case.crop.array, *made)
    means = [float(hu[inside].mean()) for hu in volumes]
    seams = [seam_ratio(hu, inside, case.crop.spacing_mm, margin) for hu in volumes]
    by_seed = [float(hu[inside].mean()) for hu in others]
    return CaseFigures(
        case.name, kind_of(case.attributes), by_seed, float(typical[inside].mean()), *means, *seams
    )


def _summary(rows: list[CaseFigures], mix: Counter[str]) -> Figures:
    def error(name: str) -> float:
        return float(np.median([abs(getattr(row, name) - row.real_mean_hu) for row in rows]))

    def median(name: str) -> float:
        return float(np.nanmedian([getattr(row, name) for row in rows]))

    there = Counter(row.kind for row in rows)
    weights = np.array([mix[row.kind] / there[row.kind] for row in rows])
    readers = np.array([row.readers_errors_hu() for row in rows])
    values = [
        error("mask_only_mean_hu"),
        error("typical_mean_hu"),
        float(np.median(readers)),
        error("with_measured_mean_hu"),
        weighted_median(np.array([row.typical_error_hu for row in rows]), weights),
        weighted_median(readers.ravel(), weights.repeat(readers.shape[1])),
        median("mask_only_seam"),
        median("with_readers_seam"),
        median("real_seam"),
    ]
    return Figures(len(rows), readers.shape[1], *(round(value, 3) for value in values))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """(N,) each: the least value that, with all below it, has half of the weight."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _by_kind(rows: list[CaseFigures]) -> list[KindFigures]:
    return [
        _of_kind(kind, [row for row in rows if row.kind == kind]) for kind in sorted({r.kind for r in rows})
    ]


def _of_kind(kind: str, rows: list[CaseFigures]) -> KindFigures:
    typical = float(np.median([row.typical_error_hu for row in rows]))
    readers = float(np.median([error for row in rows for error in row.readers_errors_hu()]))
    return KindFigures(kind, len(rows), round(typical, 3), round(readers, 3))


def _panels(case: Case, made: np.ndarray) -> list[Panel]:
    """Real and synthetic in the lung window, then in the soft-tissue window, through the largest slice."""
    turned = Orientation.of(case.crop.affine)
    k = int(turned.view(case.mask.array).sum(axis=(1, 2)).argmax())
    _, row_mm, column_mm = turned.spacing_mm(case.crop.spacing_mm)
    pair = ((case.crop.array, "real"), (made, "synthetic"))
    return [
        Panel(turned.view(array)[k, ::-1, ::-1], (row_mm, column_mm), window, caption)
        for window in (LUNG, SOFT)
        for array, caption in pair
    ]
