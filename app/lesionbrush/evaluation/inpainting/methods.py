"""Ways to fill a hole that are measured side by side: installed models, baselines, the neighbouring slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lesionbrush.core.registry import InstalledModel, ModelCard, list_models
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.inpainting.baseline_model import BaselineModel
from lesionbrush.evaluation.inpainting.baselines import BASELINES, SOFT_FILLS, Baseline
from lesionbrush.evaluation.inpainting.holes import OrganHole
from lesionbrush.evaluation.inpainting.weights import TrainedBaseline, load_baseline
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest, TumourAttributes
from lesionbrush.systems.med_ddpm.card import MedDDPMCard
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.palette.card import PaletteCard
from lesionbrush.systems.palette.fills import FILLS, Fill
from lesionbrush.systems.palette.request import PaletteRequest

FillHole = Callable[[Volume, Volume, Fill, int], np.ndarray]
"""(CT, mask, what it is filled with, seed): HU in stored order on the grid of the CT."""
Kind = Literal["diffusion", "GAN", "floor"]
MOST_CUBE_MM = 125.0
"""What is wider is for diffusion in 3D hours of tiles, and far beyond all that it was trained on."""
NEIGHBOUR = "neighbouring slice"


@dataclass(frozen=True, eq=False)
class FillMethod:
    """One column of the tables. fills: what it was taught; most_mm: how wide a hole it takes, None for any;
    trained: how long it learned, in words."""

    name: str
    kind: Kind
    fills: tuple[Fill, ...]
    fill: FillHole
    most_mm: float | None = None
    trained: str = ""

    def why_not(self, holes: Sequence[OrganHole]) -> str | None:
        """Why it is left out of the row of these holes, None where it is not."""
        if holes[0].fill not in self.fills:
            return "was not taught it"
        widest_mm = max(hole.width_mm for hole in holes)
        if self.most_mm is not None and widest_mm > self.most_mm:
            return f"{widest_mm:.0f} mm wide, it takes {self.most_mm:.0f} at most: try --hole-mm"
        return None


def list_methods(out: Path) -> list[FillMethod]:
    """All that can be compared here; syntheses of installed models are kept in `out`. Raises WeightsError."""
    trained = (load_baseline(baseline, out) for baseline in BASELINES)
    return [
        *(method for installed in list_models() for method in _installed(installed, out / "cache")),
        *(_baseline(one) for one in trained if one is not None),
        FillMethod(NEIGHBOUR, "floor", FILLS, take_neighbours),
    ]


def missing_baselines(out: Path) -> list[Baseline]:
    return [baseline for baseline in BASELINES if load_baseline(baseline, out) is None]


def take_neighbours(ct: Volume, mask: Volume, fill: Fill, seed: int) -> np.ndarray:
    """Each masked slice has in its mask what the CT's next slice has there; the last one, the one before."""
    del fill, seed
    following = np.concatenate((ct.array[:, :, 1:], ct.array[:, :, -2:-1]), axis=2)
    return np.where(mask.array > 0, following, ct.array)


# --- installed models ---


def _ask_palette(fill: Fill, seed: int) -> EditRequest:
    return PaletteRequest(fill=fill, seed=seed)


def _ask_med_ddpm(fill: Fill, seed: int) -> EditRequest:
    return MedDDPMRequest(fill="tumour" if fill == "tumour" else "healthy", seed=seed)


def _ask_untold(fill: Fill, seed: int) -> EditRequest:
    del fill
    return MedDDPMRequest(fill=None, seed=seed)


def _ask_soft_tissue(fill: Fill, seed: int) -> EditRequest:
    lesion: Literal["present", "none"] = "present" if fill == "tumour" else "none"
    return SoftTissueRequest(attributes=TumourAttributes(lesion=lesion), seed=seed)


Ask = Callable[[Fill, int], EditRequest]


@dataclass(frozen=True)
class FillWay:
    """How a model is asked for a fill, what it was taught, and how wide a hole may be."""

    ask: Ask
    fills: tuple[Fill, ...]
    most_mm: float | None


def _way_of(card: ModelCard) -> FillWay | None:
    """None for models of systems that are not compared here."""
    if card.system == "palette":
        return FillWay(_ask_palette, PaletteCard.of(card).fills, None)
    if card.system == "med_ddpm":
        ask = _ask_med_ddpm if MedDDPMCard.of(card).is_told else _ask_untold
        return FillWay(ask, SOFT_FILLS, MOST_CUBE_MM)
    if card.system == "soft_tissue_inpainting":
        return FillWay(_ask_soft_tissue, SOFT_FILLS, MOST_CUBE_MM)
    return None


def _installed(installed: InstalledModel, cache: Path) -> Iterator[FillMethod]:
    way = _way_of(installed.card)
    if way is None:
        return
    maker = Maker(load_model(installed), cache)

    def fill(ct: Volume, mask: Volume, what: Fill, seed: int) -> np.ndarray:
        return maker.make(ct, mask, way.ask(what, seed)).arrays[0]

    trained = f"{installed.card.trained.get('steps', 0):g} steps"
    yield FillMethod(installed.card.name, "diffusion", way.fills, fill, way.most_mm, trained)


def _baseline(trained: TrainedBaseline) -> FillMethod:
    model, flat = BaselineModel(trained), trained.baseline.dims == 2
    ask = _ask_palette if flat else _ask_med_ddpm

    def fill(ct: Volume, mask: Volume, what: Fill, seed: int) -> np.ndarray:
        return synthesize(ct, mask, ask(what, seed), model)[0].volume().array

    said = f"{trained.steps} steps, {trained.minutes:.1f} minutes"
    return FillMethod(trained.baseline.name, "GAN", trained.baseline.fills, fill, trained=said)
