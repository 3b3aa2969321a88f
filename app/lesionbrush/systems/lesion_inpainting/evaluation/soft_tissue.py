"""A model of soft tissue beside what a lung model and a flat fill make in the same places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.model import Model
from lesionbrush.core.registry import find_model
from lesionbrush.evaluation.classifiers import Boosted, Classifier, Linear, out_of_fold
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.measures import grain
from lesionbrush.evaluation.metrics import seam_ratio
from lesionbrush.evaluation.patches import patch_of
from lesionbrush.evaluation.sheets import box_panels, field
from lesionbrush.evaluation.statistics import Estimate, auc, by_patient, median
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.montage import SOFT, Panel, sheet
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.evaluation.soft_copies import find_copies
from lesionbrush.systems.lesion_inpainting.evaluation.soft_fillers import (
    Filler,
    FillSite,
    by_lung_model,
    by_plan,
    flat,
    healing,
)
from lesionbrush.systems.lesion_inpainting.evaluation.soft_sites import free_sites, tumour_parts
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest

LUNG_MODEL = "lung_lesion"
MARGIN_MM = SoftTissueRequest().margin_mm
SHOWN_MM = 60.0


@dataclass(frozen=True)
class Filled:
    """One way of filling, measured. Medians over sites, with intervals."""

    name: str
    hu_error: Estimate
    seam: Estimate
    grain: Estimate
    linear: Estimate | None = None
    boosted: Estimate | None = None

    def line(self) -> str:
        cells = [f"{self.name:>12}", f"|HU - asked| {_text(self.hu_error)}", f"seam {_text(self.seam)}"]
        cells.append(f"grain {_text(self.grain)}")
        for name, value in (("linear", self.linear), ("boosted", self.boosted)):
            if value is not None:
                cells.append(f"AUC {name} {_text(value)}")
        return ", ".join(cells)

    def figures(self, prefix: str) -> Iterator[tuple[str, float]]:
        for name in ("hu_error", "seam", "grain", "linear", "boosted"):
            found = getattr(self, name)
            if found is not None and found.value is not None:
                yield f"{prefix}_{name}", float(found.value)


def _text(found: Estimate) -> str:
    return "-" if found.value is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def evaluate_soft_tissue(model: Model, data: Path, cases: int, out: Path) -> dict[str, float]:
    """Free requests, parts of real tumours made anew, and healing, printed and drawn; for the card."""
    maker, lung = (Maker(m, out / "cache") for m in (model, load_model(find_model(LUNG_MODEL))))
    ways = {"ours": by_plan(maker), "flat": flat, "lung model": by_lung_model(lung)}
    figures: dict[str, float] = {}
    free = free_sites(data, cases)
    made = {name: fill_all(free, way, f"free, {name}") for name, way in ways.items()}
    print(f"free requests, N = {len(free)}, one CT:")
    figures |= report(free, made, "free")
    draw_sheet(free, made, out / "free.png")
    parts = tumour_parts(data, cases)
    made = {name: fill_all(parts, way, f"remade, {name}") for name, way in ways.items()}
    patients = len({part.patient for part in parts})
    print(f"parts of held-out sarcomas made anew, N = {len(parts)}, {patients} patients:")
    figures |= report(parts, made, "remade", judged=True)
    draw_sheet(parts, made, out / "remade.png")
    trained = tumour_parts(data, cases, trained=True)
    copies = find_copies(parts, made["ours"], trained, fill_all(trained, ways["ours"], "training parts"))
    print("\n".join(copies.lines()))
    figures |= copies.figures()
    healed = fill_all(free, healing(maker), "healed")
    kept = [as_healthy(site) for site in free]
    print(f"healthy tissue under the same masks, N = {len(free)}:")
    figures |= report(kept, {"ours": healed}, "healed")
    draw_sheet(free, {"healed": healed}, out / "healed.png")
    return figures


def as_healthy(site: FillSite) -> FillSite:
    """The site where what was there is what is wanted."""
    contrast = float(site.ct.array[site.inner()].mean()) - site.around_hu
    return FillSite(site.name, site.patient, site.ct, site.mask, contrast)


def fill_all(sites: Sequence[FillSite], way: Filler, title: str) -> list[np.ndarray]:
    """HU on the grid of each site's CT, each with a seed of its own."""
    return [way(site, seed) for seed, site in enumerate(tqdm(sites, desc=title, unit="site"))]


def report(
    sites: Sequence[FillSite], made: Mapping[str, Sequence[np.ndarray]], prefix: str, *, judged: bool = False
) -> dict[str, float]:
    """Prints a line for each way, and returns its figures; those of `ours` without its name."""
    figures: dict[str, float] = {}
    for name, arrays in made.items():
        found = measure(name, sites, arrays, judged=judged)
        print(found.line())
        figures |= dict(found.figures(prefix if name == "ours" else f"{prefix}_{name.replace(' ', '_')}"))
    return {name: round(value, 3) for name, value in figures.items()}


def measure(
    name: str, sites: Sequence[FillSite], arrays: Sequence[np.ndarray], *, judged: bool = False
) -> Filled:
    """arrays: HU on the grid of each site's CT. judged: whether a critic knows what was there."""
    pairs = list(zip(sites, arrays, strict=True))
    owners = [site.patient if judged else site.name for site in sites]
    hu_error = [abs(float(hu[site.inner()].mean()) - site.wanted_hu) for site, hu in pairs]
    seam = [seam_ratio(hu, site.inside, site.ct.spacing_mm, MARGIN_MM) for site, hu in pairs]
    ratio = [
        grain(hu, site.inner(), (0, 1)) / grain(site.ct.array, site.inner(), (0, 1)) for site, hu in pairs
    ]
    columns = [by_patient(median, owners, np.array(values)) for values in (hu_error, seam, ratio)]
    if not judged:
        return Filled(name, *columns)
    return Filled(name, *columns, *(_criticise(sites, arrays, critic) for critic in (Linear, Boosted)))


def _criticise(
    sites: Sequence[FillSite], arrays: Sequence[np.ndarray], critic: type[Linear] | type[Boosted]
) -> Estimate:
    """AUC of a critic that tells what was made from what was there, cross-validated by patient."""
    real = [features(patch_of(site.ct, site.mask)) for site in sites]
    fake = [features(patch_of(p.ct, p.mask, hu)) for p, hu in zip(sites, arrays, strict=True)]
    y, patients = np.repeat([0, 1], len(real)), [site.patient for site in sites] * 2

    def fresh() -> Classifier:
        return critic()

    scores = out_of_fold(fresh, np.array(real + fake), y, patients)
    return by_patient(auc, patients, scores, y)


def draw_sheet(sites: Sequence[FillSite], made: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """A PNG: each site as it is with its mask, then as each way filled it, in the soft-tissue window."""
    panels: list[Panel] = []
    for k, site in enumerate(sites):
        panels.append(_show(site, site.ct.array, site.name, outlined=True))
        panels += [_show(site, arrays[k], name) for name, arrays in made.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = (1 + len(made)) * (6 // (1 + len(made)))
    sheet(panels, columns, panel_px=170).save(path)


def _show(site: FillSite, hu: np.ndarray, caption: str, *, outlined: bool = False) -> Panel:
    (panel,), (outline,) = (
        box_panels(volume, site.mask, (SOFT,), caption) for volume in (site.ct.with_array(hu), site.mask)
    )
    if outlined:
        panel = replace(panel, outline=outline.hu > 0)
    return field(panel, outline.hu > 0, SHOWN_MM)
