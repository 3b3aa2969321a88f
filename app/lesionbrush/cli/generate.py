"""A whole new CT, without a server: from a map, a layout, a text, whatever its model takes, or from nothing.

Its labels go beside it where they are known, and a record beside every result. `run.py synthesize` edits it
like any other, and the result still says that it was generated.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.augment.wishes import fulfil
from lesionbrush.cli.files import volume_suffix
from lesionbrush.cli.options import add_input_arguments, add_request_arguments, request_from
from lesionbrush.cli.orders import CTOrder, add_order_arguments, write_result
from lesionbrush.cli.outputs import require_same_origin
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.generate import LESION, Generation, generate
from lesionbrush.core.inputs import Layout, check_inputs
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Array
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.layouts import tables_beside, write_layout
from lesionbrush.montage import (
    AXIAL,
    BLACK,
    CORONAL,
    GREY,
    TINTS,
    Colour,
    Panel,
    Plane,
    Window,
    sheet,
    to_lps,
    upright,
    windows_for,
)
from lesionbrush.systems import find_system, load_model

DEFAULT_MODEL = "mddpm_whole"
TISSUE_HU, AROUND_MM = -300, 8.0
PART_MM = 100.0
"""As much from feet to head is a part of a body and worth a coronal slice."""
BODY = "body"
GREY_TINT = TINTS.index(GREY)
COLOURS = [number for number, colour in enumerate(TINTS) if colour not in (BLACK, GREY)]


def add_arguments(parser: ArgumentParser) -> None:
    add_order_arguments(parser, "the result and its labels")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="one that makes whole CTs (%(default)s)")
    add_request_arguments(parser)
    add_input_arguments(parser, "volume")


def run(options: Namespace) -> int:
    carry_out(CTOrder.of(options, request=request_from(options)))
    return 0


def carry_out(order: CTOrder[BaseRequest]) -> None:
    """Check, read, generate, write. Raises LesionBrushError or OSError; what is wrong is told early."""
    card = order.model.card
    system = find_system(card.system)
    if system.makes != "volume":
        raise InvalidRequest(f"{card.name} edits a CT: use  run.py synthesize CT MASK")
    labels = [labels_path(path) for path in order.paths]
    order.check(beside=[*labels, *(tables_beside(path)[0] for path in labels)])
    require_same_origin(order.paths, None)
    inputs = read_inputs(order.inputs, system.inputs)
    check_inputs(inputs, system.inputs, None)
    model = load_model(order.model, order.device)
    with StepBar() as bar:
        made = generate(order.request, model, inputs, on_step=bar)
    made = [fulfil(one, order.device) for one in made]
    order.keep(made, save, picture)


def labels_path(path: Path) -> Path:
    """`ct.nii.gz` -> `ct_labels.nii.gz`."""
    suffix = volume_suffix(path)
    return path.with_name(f"{path.name[: -len(suffix)]}_labels{suffix}")


def save(generation: Generation, path: Path) -> None:
    record = generation.provenance
    write_result(generation.ct, record, path)
    print(f"{path}  (GENERATED, seed {record.seed})")
    if generation.layout is not None:
        write_layout(generation.layout, labels_path(path), record.note)
        print(f"{labels_path(path)}  ({', '.join(generation.layout.names.values())})")


def picture(generation: Generation, panel_px: int = 384) -> Image.Image:
    """The slice with most of the lesion, else the middle one, in three windows and its labels in colours.

    Of a CT that is a part of a body and no slab the coronal slice as well; of each what the body fills.
    """
    record, layout = generation.provenance, generation.layout
    hu, spacing_mm = to_lps(generation.ct)
    planes = [AXIAL, CORONAL] if hu.shape[2] * spacing_mm[2] >= PART_MM else [AXIAL]
    cuts = [Cut(plane, _telling(generation, plane)) for plane in planes]
    windows = windows_for(cuts[0].of(hu))
    panels = [cuts[0].panel(hu, spacing_mm, window) for window in windows]
    colours, tints = dict[str, int](), list[Array | None]([None] * len(cuts))
    if layout is not None:
        shown = [cut.of(to_lps(layout.labels)[0]) for cut in cuts]
        colours = colours_of(layout, shown)
        tints = [_tint(layout, colours, labels) for labels in shown]
    for cut, tint in zip(cuts, tints, strict=True):
        panels += [cut.panel(hu, spacing_mm, windows[0])] if cut.plane is CORONAL else []
        panels += [] if tint is None else [cut.panel(hu, spacing_mm, windows[0], tint)]
    title = f"{record.model}, seed {record.seed}, slice {cuts[0].index + 1}"
    columns = 2 if len(panels) == 4 else 3
    return sheet(panels, columns, title=title, panel_px=panel_px, legend=_legend(colours))


def _legend(colours: Mapping[str, int]) -> list[tuple[str, Colour]]:
    """Names in their colours; those in grey are counted."""
    named = [(name, TINTS[number]) for name, number in colours.items() if number != GREY_TINT]
    more = len(colours) - len(named)
    return [*named, (f"and {more} more", GREY)] if more else named


@dataclass(frozen=True)
class Cut:
    """A slice of what `to_lps` gives."""

    plane: Plane
    index: int

    def of(self, lps: Array) -> Array:
        return upright(lps.take(self.index, self.plane.normal), self.plane.normal)

    def panel(
        self, hu: Array, spacing_mm: tuple[float, ...], window: Window, tint: Array | None = None
    ) -> Panel:
        """hu: all of it; tint: of this slice, in numbers of TINTS."""
        shown, pixel_mm = self.of(hu), (spacing_mm[self.plane.rows], spacing_mm[0])
        box = body_box(shown, pixel_mm)
        caption = f"{self.plane.name}, {window if tint is None else 'labels'}"
        tint = None if tint is None else tint[box]
        return Panel(shown[box], pixel_mm, window, caption, badge="GENERATED", tint=tint)


def colours_of(layout: Layout, shown: Sequence[Array]) -> dict[str, int]:
    """The number in TINTS of each name in these slices, of the largest first; grey are those for which no
    colour is left. The body around organs has none."""
    counts: dict[str, int] = defaultdict(int)
    for number, name in layout.names.items():
        counts[name] += sum(np.count_nonzero((labels == number) & (labels != 0)) for labels in shown)
    there = sorted((name for name, count in counts.items() if count), key=lambda name: -counts[name])
    told = [name for name in there if name != BODY] or there
    return {name: COLOURS[rank] if rank < len(COLOURS) else GREY_TINT for rank, name in enumerate(told)}


def _tint(layout: Layout, colours: Mapping[str, int], labels: Array) -> Array:
    tint = np.zeros(labels.shape, np.uint8)
    for number, name in layout.names.items():
        tint[(labels == number) & (labels != 0)] = colours.get(name, 0)
    return tint


def _telling(generation: Generation, plane: Plane) -> int:
    """The slice with most of the lesion, else the middle one."""
    layout = generation.layout
    inside = None if layout is None else layout.mask(LESION)
    if layout is None or inside is None or not inside.any():
        return to_lps(generation.ct)[0].shape[plane.normal] // 2
    lesion, _ = to_lps(layout.labels.with_array(inside.astype(np.uint8)))
    across = tuple(axis for axis in range(3) if axis != plane.normal)
    return int(lesion.sum(axis=across, dtype=np.int64).argmax())


def body_box(hu: Array, spacing_mm: tuple[float, float]) -> tuple[slice, ...]:
    """Rows and columns of a slice that have tissue in them, and a little around; all where there is none."""
    tissue = hu[None] > TISSUE_HU
    if not tissue.any():
        return np.index_exp[:, :]
    return dilate(bounding_box(tissue), AROUND_MM, np.array((1.0, *spacing_mm)), tissue.shape)[1:]
