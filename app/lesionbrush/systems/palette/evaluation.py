"""What is measured of Palette: organs of a held-out abdomen filled anew, each against the real one under it.

Every organ is filled twice, as by default and with every slice on its own: the first should come near the
real difference of neighbouring slices, the second shows what there was to mend. HU are compared in the
windowed range alone, so that models of different scales can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.measures import difference_hu
from lesionbrush.evaluation.sheets import box_panels, field
from lesionbrush.files.io import read_volume
from lesionbrush.montage import SOFT, Panel, sheet
from lesionbrush.systems.palette.fills import FILLS, Fill
from lesionbrush.systems.palette.model import Palette
from lesionbrush.systems.palette.pack import UNSURE, SourceCT, list_sources
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.palette.scale import SOFT_TISSUE
from lesionbrush.systems.slab import Agreement

SLICES, SEEDS = 5, 3
SHOWN_MM = 160.0
ALONE = Agreement(alike_mm=0.0, neighbour_weight=0.0)


@dataclass(frozen=True)
class FilledOrgan:
    """Means over seeds. bias_hu: of the mean HU, made above real; error_hu: absolute, of every voxel;
    neighbours_*: mean absolute difference of neighbouring slices in the organ. panels: the real one with its
    outline, filled, and filled with every slice on its own."""

    fill: Fill
    bias_hu: float
    error_hu: float
    neighbours_hu: float
    neighbours_real_hu: float
    neighbours_alone_hu: float
    panels: tuple[Panel, ...] = field_of(default=(), repr=False)

    def __str__(self) -> str:
        return (
            f"{self.fill}: mean {self.bias_hu:+.0f} HU of the real one, each voxel {self.error_hu:.0f} HU; "
            f"neighbouring slices differ by {self.neighbours_hu:.0f} HU, real ones by "
            f"{self.neighbours_real_hu:.0f}, every slice on its own by {self.neighbours_alone_hu:.0f}"
        )


def evaluate_fills(model: Palette, data: Path, cases: int, out: Path) -> dict[str, float]:
    """For the card, printed and drawn: medians over organs. cases: seeds for each, 0 for the usual number.

    InvalidRequest without data.
    """
    rows = [
        fill_organ(model, *organ, seeds=cases or SEEDS)
        for organ in tqdm(list(held_out_organs(data, model)), desc="organs", unit="organ")
    ]
    if not rows:
        raise InvalidRequest(f"{data} holds no held-out abdomen with an organ that {model.card.name!r} fills")
    print("\n".join(map(str, rows)))
    out.mkdir(parents=True, exist_ok=True)
    sheet([panel for row in rows for panel in row.panels], 6, panel_px=200).save(out / "fills.png")
    figures = {
        "fill_bias_hu": [abs(row.bias_hu) for row in rows],
        "fill_error_hu": [row.error_hu for row in rows],
        "neighbour_difference_hu": [row.neighbours_hu for row in rows],
        "neighbour_difference_real_hu": [row.neighbours_real_hu for row in rows],
        "neighbour_difference_independent_hu": [row.neighbours_alone_hu for row in rows],
    }
    return {name: round(float(np.nanmedian(values)), 1) for name, values in figures.items()}


def held_out_organs(data: Path, model: Palette) -> Iterator[tuple[Volume, Volume, Fill]]:
    """The CT, a mask of some slices in the middle of an organ, and what it is."""
    for source in list_sources(data):
        if source.held_out and source.labels.parent.name == "abdomen_ct":
            yield from _organs_of(source, model)


def _organs_of(source: SourceCT, model: Palette) -> Iterator[tuple[Volume, Volume, Fill]]:
    ct, labels = read_volume(source.image), read_volume(source.labels)
    for number in sorted(set(source.codes.values()) - {UNSURE}):
        fill = FILLS[number - 1]
        codes = [code for code, ours in source.codes.items() if ours == number]
        mask = middle_slices(np.isin(labels.array, codes), SLICES)
        if fill in model.section.fills and mask.any():
            yield ct, ct.with_array(mask.astype(np.uint8)), fill


def middle_slices(inside: np.ndarray, count: int) -> np.ndarray:
    """Of (I, J, K) bool so many slices around the one with most of it, as far as there are any."""
    k = int(inside.sum(axis=(0, 1)).argmax())
    kept = np.zeros_like(inside)
    low = max(0, k - count // 2)
    kept[:, :, low : low + count] = True
    return kept & inside


def fill_organ(model: Palette, ct: Volume, mask: Volume, fill: Fill, *, seeds: int) -> FilledOrgan:
    alone = copy(model)
    alone.agreement = ALONE
    request = PaletteRequest(fill=fill, variants=seeds)
    inside = mask.array > 0
    real = _shown(ct.array)
    made, single = (
        [_shown(one.volume().array) for one in synthesize(ct, mask, request, which)]
        for which in (model, alone)
    )
    return FilledOrgan(
        fill,
        bias_hu=float(np.mean([hu[inside].mean() - real[inside].mean() for hu in made])),
        error_hu=float(np.mean([np.abs(hu - real)[inside].mean() for hu in made])),
        neighbours_hu=float(np.mean([_neighbours(hu, inside) for hu in made])),
        neighbours_real_hu=_neighbours(real, inside),
        neighbours_alone_hu=float(np.mean([_neighbours(hu, inside) for hu in single])),
        panels=tuple(_draw(ct, mask, (real, made[0], single[0]), fill)),
    )


def _draw(ct: Volume, mask: Volume, arrays: Sequence[np.ndarray], fill: Fill) -> Iterator[Panel]:
    """The slice with most of the mask."""
    (outline,) = box_panels(mask, mask, (SOFT,), "")
    for hu, caption in zip(arrays, (fill, "filled", "slices alone"), strict=True):
        (panel,) = box_panels(ct.with_array(hu), mask, (SOFT,), caption)
        shown = replace(panel, outline=outline.hu > 0) if caption == fill else panel
        yield field(shown, outline.hu > 0, SHOWN_MM)


def _shown(hu: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = hu.astype(np.float32).clip(SOFT_TISSUE.lo_hu, SOFT_TISSUE.hi_hu)
    return clipped


def _neighbours(hu: np.ndarray, inside: np.ndarray) -> float:
    """Of slices of the third stored axis, as in our data."""
    return difference_hu(np.moveaxis(hu, 2, 0), np.moveaxis(inside, 2, 0))
