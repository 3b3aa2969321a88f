"""Picture sheets: a test for readers, a grid of attributes, and the hard cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.bench import Bench
from lesionbrush.evaluation.card_figures import CALCIFICATIONS
from lesionbrush.evaluation.control import sweep_nodules
from lesionbrush.evaluation.hosts import Host, load_hosts
from lesionbrush.evaluation.results import Picture, Section
from lesionbrush.montage import BONE, LUNG, SOFT, Panel, Window, montage, sheet
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest

QUIZ = 64
FIELD_MM = 32.0
GRID: tuple[tuple[str, dict[str, object]], ...] = (
    ("ground glass", {"texture": "ground_glass"}),
    ("part-solid", {"texture": "part_solid"}),
    ("solid", {"texture": "solid"}),
    ("margin 0", {"margin": 0.0}),
    ("margin 1", {"margin": 1.0}),
    ("spiculation 0", {"spiculation": 0.0}),
    ("spiculation 1", {"spiculation": 1.0}),
    ("lobulation 1", {"lobulation": 1.0}),
    ("calcified", {"calcification": "solid"}),
    ("popcorn", {"calcification": "popcorn"}),
    ("-400 HU", {"texture": None, "mean_hu": -400.0}),
    ("spread 200 HU", {"heterogeneity_hu": 200.0}),
)


def box_panels(ct: Volume, mask: Volume, windows: Sequence[Window], caption: str) -> list[Panel]:
    """The axial slice with most of the mask, in each window, radiological convention."""
    turned = Orientation.of(ct.affine)
    k = int(turned.view(mask.array > 0).sum(axis=(1, 2)).argmax())
    _, row_mm, column_mm = turned.spacing_mm(ct.spacing_mm)
    hu = turned.view(ct.array)[k, ::-1, ::-1]
    return [Panel(hu, (row_mm, column_mm), window, caption) for window in windows]


def field(panel: Panel, mask_slice: np.ndarray, side_mm: float = FIELD_MM) -> Panel:
    """The part of a panel, with its outline, of at most `side_mm` around the mask's slice."""
    rows, columns = np.nonzero(mask_slice)
    centre = (rows.mean(), columns.mean())
    parts = []
    for middle, mm, size in zip(centre, panel.spacing_mm, panel.hu.shape, strict=True):
        half = max(4, round(side_mm / mm / 2))
        start = int(np.clip(round(middle) - half, 0, max(0, size - 2 * half)))
        parts.append(slice(start, min(size, start + 2 * half)))
    rows_shown, columns_shown = parts
    outline = None if panel.outline is None else panel.outline[rows_shown, columns_shown]
    return replace(panel, hu=panel.hu[rows_shown, columns_shown], outline=outline)


def _show(ct: Volume, mask: Volume, window: Window, caption: str) -> Panel:
    (panel,), (outline,) = (box_panels(volume, mask, (window,), caption) for volume in (ct, mask))
    return field(panel, outline.hu > 0)


def pictures(bench: Bench) -> Section:
    """All sheets."""
    return Section(
        name="pictures",
        title="Pictures",
        text="The first sheet is a test: which are real? The second is its key. Half of the nodules are "
        "real, the other half made anew under their masks from the readers' scores.",
        pictures=(*_quiz(bench), _grid(bench), *_special(bench), *_calcium(bench)),
    )


def _quiz(bench: Bench) -> list[Picture]:
    """64 nodules in the lung window, shuffled, half of them ours; and the key."""
    rng, chosen = np.random.default_rng(1), bench.spread(QUIZ)
    made = dict(zip((n.name for n in bench.nodules), bench.make("readers"), strict=True))
    ours = rng.permutation(np.arange(len(chosen)) < len(chosen) // 2)
    order = rng.permutation(len(chosen))
    panels, key = [], []
    for number, k in enumerate(order, start=1):
        nodule, crop = chosen[k], chosen[k].case.crop
        ct = crop.with_array(made[nodule.name]) if ours[k] else crop
        panel = _show(ct, nodule.case.mask, LUNG, f"{number}")
        panels.append(panel)
        key.append(replace(panel, caption=f"{number} {'synthetic' if ours[k] else 'real'}"))
    text = f"{len(panels)} held-out nodules, shuffled, half of them synthetic"
    return [
        bench.picture(sheet(panels, 8, panel_px=150), "quiz.png", text),
        bench.picture(sheet(key, 8, panel_px=150), "quiz_key.png", "The key."),
    ]


def _grid(bench: Bench) -> Picture:
    """One mask; rows: attributes asked for; columns: the real nodule, then seeds, in two windows."""
    nodule = sweep_nodules(bench)[0]
    panels, seeds = [], range(bench.plan.grid_seeds)
    crop, mask = nodule.case.crop, nodule.case.mask
    for name, asked in tqdm(GRID, desc="attribute grid", unit="row"):
        attributes = Attributes.model_validate(asked)
        made = [crop.with_array(bench.maker.one(nodule, attributes, seed, draw_shape=True)) for seed in seeds]
        panels += [_show(ct, mask, LUNG, name) for ct in made] + [_show(ct, mask, SOFT, name) for ct in made]
    picture = sheet(panels, 2 * len(seeds), panel_px=170)
    return bench.picture(
        picture, "grid.png", "One mask. Rows: what was asked; columns: seeds, lung then soft tissue."
    )


SPECIAL_RADIUS_MM = 6.0
HAZY: tuple[Literal["ground_glass", "part_solid"], ...] = ("ground_glass", "part_solid")


class _Case(NamedTuple):
    host: Host
    name: str
    place: np.ndarray
    radius_mm: float
    attributes: Attributes = Attributes()


def _special(bench: Bench) -> list[Picture]:
    """Lesions in whole chest CTs: at hard places, small and large, in thin and thick slices."""
    hosts = load_hosts(bench.data)
    if not hosts:
        return []
    finest = min(hosts, key=lambda host: host.ct.spacing_mm[2])
    held_out = next((host for host in hosts if host.nodules), hosts[0])
    sites = held_out.sites(SPECIAL_RADIUS_MM)
    cases = [_Case(held_out, name, place, SPECIAL_RADIUS_MM) for name, place in sites]
    for radius_mm in (2.0, 17.5):
        cases += [_Case(finest, f"{2 * radius_mm:g} mm", p, radius_mm) for p in _at(finest, radius_mm)]
    thick = finest.thick(5.0)
    cases += [_Case(finest, "1 mm slices", p, 7.0) for p in _at(finest, 7.0)]
    cases += [_Case(thick, "5 mm slices", p, 7.0) for p in _at(thick, 7.0)]
    cases += [
        _Case(finest, texture, p, 10.0, Attributes(texture=texture))
        for texture in HAZY
        for p in _at(finest, 10.0, "vessel")
    ]
    out = []
    for k, case in enumerate(tqdm(cases, desc="special cases", unit="lesion")):
        ct, mask = case.host.ct, case.host.blob(case.place, case.radius_mm, seed=k)
        made = bench.maker.make(ct, mask, SynthesisRequest(attributes=case.attributes))
        image = montage(ct, mask, ct.with_array(made.arrays[0]), field_mm=64.0, panel_px=230)
        out.append(bench.picture(image, f"special_{k:02d}.png", f"{case.name}: {case.host.name}"))
    return out


CALCIUM_RADII_MM = (3.5, 6.0, 11.0)


def _calcium(bench: Bench) -> list[Picture]:
    """Every kind of calcification in one place; rows: sizes, columns: kinds in three windows."""
    hosts = load_hosts(bench.data)
    if not hosts:
        return []
    host, panels = min(hosts, key=lambda host: host.ct.spacing_mm[2]), []
    kinds = [kind for kind in CALCIFICATIONS.values() if kind != "none"]
    for radius_mm in CALCIUM_RADII_MM:
        for place in _at(host, radius_mm):
            mask = host.blob(place, radius_mm)
            panels += [panel for kind in kinds for panel in _show_calcified(bench, host.ct, mask, kind)]
    if not panels:
        return []
    picture = sheet(panels, 3 * len(kinds), panel_px=150)
    return [bench.picture(picture, "calcium.png", f"Kinds of calcification: {host.name}")]


def _show_calcified(bench: Bench, ct: Volume, mask: Volume, kind: str) -> list[Panel]:
    attributes = Attributes.model_validate({"calcification": kind})
    made = ct.with_array(bench.maker.make(ct, mask, SynthesisRequest(attributes=attributes)).arrays[0])
    windows = ((LUNG, kind.replace("_", " ")), (SOFT, ""), (BONE, ""))
    return [_show(made, mask, window, caption) for window, caption in windows]


def _at(host: Host, radius_mm: float, what: str = "open lung") -> list[np.ndarray]:
    return [place for name, place in host.sites(radius_mm) if name == what]
