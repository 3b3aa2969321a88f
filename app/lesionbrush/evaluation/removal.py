"""`lesion: none`: is the nodule gone, and is what is there instead like the lung around it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.bench import Bench
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.hosts import Host, load_hosts
from lesionbrush.evaluation.metrics import RING_MM, edit_region
from lesionbrush.evaluation.remains import MEASURES, Measure, Place, deviation_hu, vessel_share
from lesionbrush.evaluation.results import Figure, Picture, Section, Table
from lesionbrush.evaluation.sheets import box_panels
from lesionbrush.evaluation.statistics import Estimate, by_patient, mean, median
from lesionbrush.montage import LUNG, SOFT, Panel, Window, sheet
from lesionbrush.systems.lesion_inpainting.donors import REACH_MM
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest

NEARBY = SynthesisRequest(attributes=Attributes(lesion="none"))
ALONE = NEARBY.model_copy(update={"healthy_from": "model"})
FREE_HU = -600.0
SHOWN_MM, SEARCHED_MM = 30.0, REACH_MM + 32.0
PAINTED_MM = 7.0


def removal(bench: Bench) -> Section:
    """On nodules that lung surrounds, on the chest CTs' own, and under masks painted on healthy lung."""
    chosen = bench.spread(bench.plan.removal_cases, [n for n in bench.nodules if _free(n)] or bench.nodules)
    made = [
        bench.maker.make(n.case.crop, n.case.mask, NEARBY).arrays[0]
        for n in tqdm(chosen, desc="removal", unit="nodule")
    ]
    hosts = load_hosts(bench.data)
    healthy = _healthy(hosts)
    ours = [(hu, n.inside, n.case.crop.spacing_mm) for hu, n in zip(made, chosen, strict=True)]
    patients = [nodule.patient for nodule in chosen]
    figures = []
    for name, what, unit, measure in MEASURES:
        value = _median(measure, ours, patients, size=unit == "HU")
        floor = _median(measure, healthy, [f"{k}" for k in range(len(healthy))], size=unit == "HU")
        figures.append(Figure(name=name, what=what, unit=unit, value=value, floor=floor))
    painted = [removed for host in hosts for removed in _paint(bench, host)]
    own = [removed for host in hosts for removed in _own(bench, host)]
    return Section(
        name="removal",
        title="Removal: healthy tissue under the mask",
        text=f"`lesion: none` on {len(chosen)} held-out nodules that lung surrounds; absolute medians of "
        f"the HU left. The floor is untouched lung under {len(healthy)} masks painted in open lung of "
        "the chest CTs: healthy lung itself is not uniform. `nearby` starts from lung of the same CT, "
        "`model` from noise; the crops of single nodules are often too tight for the first. Vessels are "
        f"measured under {len(painted)} masks painted anywhere in the lungs of the chest CTs, where it is "
        "known what was there; their floor is what was there.",
        figures=(*figures, *_vessels(painted)),
        tables=(*_own_table(own), *_tabulate_painted(painted)),
        pictures=_pictures(bench, own, painted),
    )


def _free(nodule: Nodule) -> bool:
    """Whether the ring outside the edit region is mostly lung."""
    edit = edit_region(nodule.inside, nodule.case.crop.spacing_mm, NEARBY.margin_mm)
    ring = edit_region(edit, nodule.case.crop.spacing_mm, RING_MM) & ~edit
    return bool(ring.any()) and bool((nodule.case.crop.array[ring] < FREE_HU).mean() > 0.85)


def _healthy(hosts: Sequence[Host]) -> list[Place]:
    """Untouched open lung of the chest CTs, under painted masks."""
    found: list[Place] = []
    for host in hosts:
        for radius_mm in (4.0, 7.0):
            sites = dict(host.sites(radius_mm))
            if "open lung" in sites:
                ct, mask = around(host.ct, host.blob(sites["open lung"], radius_mm))
                found.append((ct.array, mask.array > 0, ct.spacing_mm))
    return found


def around(ct: Volume, mask: Volume, margin_mm: float = 24.0) -> tuple[Volume, Volume]:
    """Both cropped to the mask and its surroundings."""
    places = np.argwhere(mask.array)
    reach = np.ceil(margin_mm / np.array(ct.spacing_mm)).astype(int)
    low = np.maximum(places.min(axis=0) - reach, 0)
    high = np.minimum(places.max(axis=0) + reach + 1, ct.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return ct.crop((i, j, k)), mask.crop((i, j, k))


def _median(measure: Measure, places: Sequence[Place], patients: Sequence[str], *, size: bool) -> Estimate:
    """Median of a measure, of its size where the sign does not matter."""
    found = np.array([measure(*place, NEARBY.margin_mm) for place in places])
    return by_patient(median, patients, np.abs(found) if size else found)


class Removed:
    """A mask in a chest CT, and what is made of it from nearby and by the model alone, cropped alike."""

    def __init__(self, bench: Bench, name: str, host: Host, mask: Volume) -> None:
        ct, small = around(host.ct, mask, SEARCHED_MM)
        self.name, self.patient = name, host.name
        self.before, self.mask = around(ct, small, SHOWN_MM)
        self.nearby, self.alone = (
            around(ct.with_array(bench.maker.make(ct, small, wish).arrays[0]), small, SHOWN_MM)[0]
            for wish in (NEARBY, ALONE)
        )

    def compare(self, measure: Measure) -> tuple[float, float, float]:
        """Before, from nearby, by the model alone."""
        before, nearby, alone = (
            measure(ct.array, self.mask.array > 0, ct.spacing_mm, NEARBY.margin_mm)
            for ct in (self.before, self.nearby, self.alone)
        )
        return before, nearby, alone

    def panels(self, windows: Sequence[Window]) -> list[Panel]:
        """Before, mask, alone and from nearby in each window; the mask in the first alone."""
        shown = []
        for window in windows:
            before, alone, nearby = (
                box_panels(ct, self.mask, (window,), caption)[0]
                for ct, caption in ((self.before, "before"), (self.alone, "model"), (self.nearby, "nearby"))
            )
            outlined = replace(before, caption=f"mask, {self.name}", outline=box_outline(self.mask))
            shown += [before, outlined, alone, nearby] if window is windows[0] else [before, nearby]
        return shown


def _own(bench: Bench, host: Host) -> list[Removed]:
    """The CT's own nodules, taken out."""
    return [
        Removed(bench, f"{host.name}, nodule {number}", host, mask)
        for number, mask in enumerate(host.nodules, start=1)
    ]


def _paint(bench: Bench, host: Host) -> list[Removed]:
    """Healthy lung of the CT made anew, at places drawn at random."""
    places = host.places(bench.plan.painted_places, np.random.default_rng(0))
    return [
        Removed(bench, f"{host.name}, place {number}", host, host.blob(place, PAINTED_MM, seed=number))
        for number, place in enumerate(tqdm(places, desc=f"painted in {host.name}", unit="place"), start=1)
    ]


def _vessels(painted: Sequence[Removed]) -> list[Figure]:
    """What of the mask is vessels: from nearby, and by the model alone."""
    before, nearby, alone = np.array([p.compare(vessel_share) for p in painted]).reshape(-1, 3).T
    patients = [removed.patient for removed in painted]
    floor, value, other = (by_patient(mean, patients, 100 * share) for share in (before, nearby, alone))
    what = "share of the mask that is as dense as vessels, healthy lung made anew"
    return [
        Figure(name=name, what=what + by, unit="%", value=value, floor=floor)
        for name, by, value in (
            ("removal_vessels", "", value),
            ("removal_vessels_model", " by the model alone", other),
        )
    ]


def _own_table(own: Sequence[Removed]) -> tuple[Table, ...]:
    """What is left of each of the chest CTs' nodules."""
    residual = MEASURES[0][-1]
    rows = [(one.name, *(f"{hu:+.0f}" for hu in one.compare(residual))) for one in own]
    title = "Chest CTs: HU in the mask over the lung around it"
    return (
        (Table(title=title, columns=("nodule", "before", "nearby", "model"), rows=tuple(rows)),)
        if own
        else ()
    )


def _tabulate_painted(painted: Sequence[Removed]) -> tuple[Table, ...]:
    """Means over healthy places made anew, and how far that is from what was there."""
    if not painted:
        return ()
    rows = []
    for _, what, unit, measure in MEASURES:
        found = np.array([removed.compare(measure) for removed in painted])
        middle = np.nanmedian(np.abs(found), axis=0)
        rows.append((what, *(f"{value:.0f} HU" if unit == "HU" else f"{value:.2f}" for value in middle)))
    apart = [
        np.mean([deviation_hu(getattr(removed, kind), removed.before, removed.mask) for removed in painted])
        for kind in ("nearby", "alone")
    ]
    rows.append(("root mean square difference to what was there", "0 HU", *(f"{hu:.0f} HU" for hu in apart)))
    title = f"Healthy lung made anew under {len(painted)} painted masks, medians"
    columns = ("", "untouched", "nearby", "model")
    return (Table(title=title, columns=columns, rows=tuple(rows)),)


def _pictures(bench: Bench, own: Sequence[Removed], painted: Sequence[Removed]) -> tuple[Picture, ...]:
    """The chest CTs' nodules in lung and soft-tissue windows, and the painted places in the lung window."""
    found = []
    for file, caption, chosen, windows, columns in (
        ("removal.png", "Removal on the chest CTs.", own, (LUNG, SOFT), 6),
        ("removal_painted.png", "Healthy lung of the chest CTs made anew.", painted, (LUNG,), 8),
    ):
        if chosen:
            panels = [panel for removed in chosen for panel in removed.panels(windows)]
            found.append(bench.picture(sheet(panels, columns, panel_px=300), file, caption))
    return tuple(found)


def box_outline(mask: Volume) -> np.ndarray:
    """The mask in the slice that `box_panels` shows."""
    (panel,) = box_panels(mask, mask, (LUNG,), "")
    return panel.hu > 0
