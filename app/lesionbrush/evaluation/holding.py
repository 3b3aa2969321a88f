"""What is measured of Med-DDPM: the three ways to hold what is known, beside the model of soft tissue.

The thesis (Sedykh 2024, Sec. 4.3) found its 3D results badly joined, and its text leaves open how what is
known was held. All three ways fill the same holes here, from the same seeds and weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from lesionbrush.core.registry import find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.evaluation.soft_fillers import Filler, FillSite
from lesionbrush.systems.lesion_inpainting.evaluation.soft_sites import free_sites, tumour_parts
from lesionbrush.systems.lesion_inpainting.evaluation.soft_tissue import (
    as_healthy,
    draw_sheet,
    fill_all,
    report,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest, TumourAttributes
from lesionbrush.systems.med_ddpm.model import MedDDPM
from lesionbrush.systems.med_ddpm.request import Content, Known, MedDDPMRequest

RIVAL = "soft_tissue_lesion"


def evaluate_known(model: MedDDPM, data: Path, cases: int, out: Path) -> dict[str, float]:
    """Parts of held-out sarcomas made anew, and healthy tissue in a held-out abdomen; printed and drawn.

    cases: of each, spread over all; 0 for all. For the card. DamagedFile, FileNotFoundError without data.
    """
    ours = Maker(model, out / "cache")
    rival = Maker(load_model(find_model(RIVAL)), out / "cache")
    parts = tumour_parts(data, cases)
    figures = _compare(parts, _ways(ours, rival, "tumour"), "remade", out, judged=True)
    if model.section.is_told:
        free = [as_healthy(site) for site in free_sites(data, cases)]
        figures |= _compare(free, _ways(ours, rival, "healthy"), "healed", out, judged=False)
    return figures


def _compare(
    sites: list[FillSite], ways: Mapping[str, Filler], title: str, out: Path, *, judged: bool
) -> dict[str, float]:
    made = {name: fill_all(sites, way, f"{title}, {name}") for name, way in ways.items()}
    patients = len({site.patient for site in sites})
    print(f"{title}, N = {len(sites)}, {patients} patients; asked for is what was there:")
    draw_sheet(sites, made, out / f"{title}.png")
    return report(sites, made, title, judged=judged)


def _ways(ours: Maker, rival: Maker, content: Content) -> dict[str, Filler]:
    """The default one is called `ours`. None is told how dense the tissue was."""
    default = MedDDPMRequest().known
    ways = {
        "ours" if known == default else known: _asking(ours, MedDDPMRequest(fill=content, known=known))
        for known in _ordered(default)
    }
    wish = TumourAttributes(lesion="none") if content == "healthy" else TumourAttributes()
    return {**ways, RIVAL: _asking(rival, SoftTissueRequest(attributes=wish))}


def _ordered(first: Known) -> list[Known]:
    return [first, *(known for known in get_args(Known) if known != first)]


def _asking(maker: Maker, request: EditRequest) -> Filler:
    def fill(site: FillSite, seed: int) -> np.ndarray:
        return maker.make(site.ct, site.mask, request.model_copy(update={"seed": seed})).arrays[0]

    return fill
