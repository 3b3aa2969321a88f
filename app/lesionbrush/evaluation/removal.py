"""`lesion: none`: is the nodule gone, and is what is there instead like the lung around it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from lesionbrush.evaluation.bench import Bench
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.hosts import load_hosts
from lesionbrush.evaluation.measures import LUNG_HU, grain
from lesionbrush.evaluation.results import Figure, Picture, Section, Table
from lesionbrush.evaluation.sheets import box_panels
from lesionbrush.evaluation.statistics import Estimate, by_patient, median
from lesionbrush.metrics import RING_MM, edit_region, seam_ratio
from lesionbrush.montage import LUNG, SOFT, sheet
from lesionbrush.request import Attributes, SynthesisRequest
from lesionbrush.volume import Volume

NONE = SynthesisRequest(attributes=Attributes(lesion="none"))
FREE_HU = -600.0
Place = tuple[np.ndarray, np.ndarray, Sequence[float]]
"""HU, mask (bool) and spacing in mm, on one grid."""
Measure = Callable[[np.ndarray, np.ndarray, Sequence[float], float], float]


def residual_hu(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Mean HU in the mask less that of the lung in the ring outside the edit region: 0 when nothing is left.

    Chest wall and vessels of the ring are left out. NaN without lung in it.
    """
    edit = edit_region(inside, spacing_mm, margin_mm)
    ring = edit_region(edit, spacing_mm, RING_MM) & ~edit & (hu < LUNG_HU)
    return float(hu[inside].mean() - hu[ring].mean()) if ring.any() else float("nan")


def grain_ratio(hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> float:
    """Noise in the mask over that in the ring outside the edit region."""
    edit = edit_region(inside, spacing_mm, margin_mm)
    ring = edit_region(edit, spacing_mm, RING_MM) & ~edit
    return grain(hu, inside) / grain(hu, ring)


def removal(bench: Bench) -> Section:
    """On nodules that lung surrounds, on healthy lung, and on the chest CTs' own nodules."""
    chosen = bench.spread(bench.plan.removal_cases, [n for n in bench.nodules if _free(n)] or bench.nodules)
    made = [
        bench.maker.make(n.case.crop, n.case.mask, NONE).arrays[0]
        for n in tqdm(chosen, desc="removal", unit="nodule")
    ]
    healthy = _healthy(bench)
    ours = [(hu, n.inside, n.case.crop.spacing_mm) for hu, n in zip(made, chosen, strict=True)]
    patients = [nodule.patient for nodule in chosen]
    figures = []
    for name, what, unit, measure in MEASURES:
        value = _median(measure, ours, patients, size=unit == "HU")
        floor = _median(measure, healthy, [f"{k}" for k in range(len(healthy))], size=unit == "HU")
        figures.append(Figure(name=name, what=what, unit=unit, value=value, floor=floor))
    tables, pictures = _chests(bench)
    return Section(
        name="removal",
        title="Removal: healthy tissue under the mask",
        text=f"`lesion: none` on {len(chosen)} held-out nodules that lung surrounds; absolute medians of "
        f"the HU left. The floor is untouched lung under {len(healthy)} masks painted in open lung of "
        "the chest CTs: healthy lung itself is not uniform.",
        figures=tuple(figures),
        tables=tables,
        pictures=pictures,
    )


def _free(nodule: Nodule) -> bool:
    """Whether the ring outside the edit region is mostly lung."""
    edit = edit_region(nodule.inside, nodule.case.crop.spacing_mm, NONE.margin_mm)
    ring = edit_region(edit, nodule.case.crop.spacing_mm, RING_MM) & ~edit
    return bool(ring.any()) and bool((nodule.case.crop.array[ring] < FREE_HU).mean() > 0.85)


def _healthy(bench: Bench) -> list[Place]:
    """Untouched open lung of the chest CTs, under painted masks."""
    found: list[Place] = []
    for host in load_hosts(bench.data):
        for radius_mm in (4.0, 7.0):
            sites = dict(host.sites(radius_mm))
            if "open lung" in sites:
                ct, mask = _around(host.ct, host.blob(sites["open lung"], radius_mm))
                found.append((ct.array, mask.array > 0, ct.spacing_mm))
    return found


def _around(ct: Volume, mask: Volume, margin_mm: float = 24.0) -> tuple[Volume, Volume]:
    """Both cropped to the mask and its surroundings."""
    places = np.argwhere(mask.array)
    reach = np.ceil(margin_mm / np.array(ct.spacing_mm)).astype(int)
    low = np.maximum(places.min(axis=0) - reach, 0)
    high = np.minimum(places.max(axis=0) + reach + 1, ct.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return ct.crop((i, j, k)), mask.crop((i, j, k))


def _median(measure: Measure, places: Sequence[Place], patients: Sequence[str], *, size: bool) -> Estimate:
    """Median of a measure, of its size where the sign does not matter."""
    found = np.array([measure(hu, inside, spacing_mm, NONE.margin_mm) for hu, inside, spacing_mm in places])
    return by_patient(median, patients, np.abs(found) if size else found)


MEASURES: tuple[tuple[str, str, str, Measure], ...] = (
    ("residual", "size of the HU left in the mask over the lung around it", "HU", residual_hu),
    ("removal_noise", "noise in the filled mask over that of the lung around it", "", grain_ratio),
    ("removal_seam", "gradient across the edit border over nearby background", "", seam_ratio),
)


def _chests(bench: Bench) -> tuple[tuple[Table, ...], tuple[Picture, ...]]:
    """The chest CTs' own nodules: what is left of each, and before and after."""
    rows, panels = [], []
    for host in load_hosts(bench.data):
        for number, mask in enumerate(host.nodules, start=1):
            ct, small = _around(host.ct, mask, 30.0)
            hu = bench.maker.make(ct, small, NONE).arrays[0]
            inside, after = small.array > 0, ct.with_array(hu)
            before_hu, after_hu = (
                residual_hu(x, inside, ct.spacing_mm, NONE.margin_mm) for x in (ct.array, hu)
            )
            rows.append((f"{host.name}, nodule {number}", f"{before_hu:+.0f}", f"{after_hu:+.0f}"))
            before_lung, before_soft = box_panels(ct, small, (LUNG, SOFT), "before")
            after_lung, after_soft = box_panels(after, small, (LUNG, SOFT), "after")
            outlined = replace(before_lung, caption="mask", outline=box_outline(small))
            panels += [before_lung, outlined, after_lung, before_soft, after_soft]
    if not rows:
        return (), ()
    table = Table(
        title="Chest CTs: HU in the mask over the lung around it",
        columns=("nodule", "before", "after"),
        rows=tuple(rows),
    )
    picture = bench.picture(sheet(panels, 5, panel_px=300), "removal.png", "Removal on the chest CTs.")
    return (table,), (picture,)


def box_outline(mask: Volume) -> np.ndarray:
    """The mask in the slice that `box_panels` shows."""
    (panel,) = box_panels(mask, mask, (LUNG,), "")
    return panel.hu > 0
