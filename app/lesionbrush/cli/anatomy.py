"""Anatomy maps for mDDPM: fit a shape model to CTs, sample maps from it, draw a sheet of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lesionbrush.cli.files import number_paths
from lesionbrush.cli.outputs import (
    SHAPES,
    VOLUME,
    Output,
    check_outputs,
    pictures,
    require_room,
    save_picture,
)
from lesionbrush.core.registry import models_dir
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.montage import Panel, Window, sheet
from lesionbrush.systems.mddpm.anatomy_maps.maps import (
    centred_grid,
    draw_valid,
    fit,
    map_of,
    map_volume,
    rasterise,
)
from lesionbrush.systems.mddpm.anatomy_maps.shapes import ShapeModel
from lesionbrush.systems.mddpm.anatomy_maps.validity import problems

WIDE = Window("wide", -300, 1600)
SHIPPED = Path("mddpm") / "anatomy_maps.npz"
DRAWN_ROWS, SHOWN_COMPONENTS, COLUMNS = 2, 3, 5


def add_arguments(parser: ArgumentParser) -> None:
    parsers = parser.add_subparsers(dest="action", required=True, metavar="fit | sample | sheet")
    fitting = parsers.add_parser(
        "fit", help="outlines of the slices of chest CTs, and their principal components"
    )
    fitting.add_argument("cts", type=Path, nargs="+", metavar="CT", help="training patients only")
    fitting.add_argument(
        "--layouts",
        type=Path,
        nargs="+",
        default=[],
        metavar="LAYOUT",
        help="label volumes with names, one for each CT in the same order: with heart, esophagus, cord, "
        "or what `annotate` found",
    )
    fitting.add_argument("-o", "--out", type=Path, required=True, metavar="NPZ")
    sampling = parsers.add_parser("sample", help="maps in HU; with --ct the map of that CT, changed")
    sampling.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a volume")
    sampling.add_argument("--ct", type=Path, help="map this CT's own slices, all moved alike")
    sampling.add_argument(
        "--layout", type=Path, help="of the CT, for shapes that were fitted to layouts as well"
    )
    sampling.add_argument("--count", type=int, default=1, help="maps; default: %(default)s")
    drawing = parsers.add_parser("sheet", help="a PNG of the mean, the first components, and draws")
    drawing.add_argument("-o", "--out", type=Path, required=True, metavar="PNG")
    for drawn in (sampling, drawing):
        drawn.add_argument(
            "--shapes", type=Path, metavar="NPZ", help="default: the shapes that come with mddpm"
        )
        drawn.add_argument("--within", type=float, default=1.5, help="standard deviations (%(default)s)")
        drawn.add_argument("--seed", type=int, default=0)


def run(options: Namespace) -> int:
    return {"fit": run_fit, "sample": run_sample, "sheet": run_sheet}[options.action](options)


def run_fit(options: Namespace) -> int:
    check_outputs([Output(options.out, SHAPES, new=True)], [*options.cts, *options.layouts])
    if options.layouts and len(options.layouts) != len(options.cts):
        raise InvalidRequest(
            f"{len(options.cts)} CTs and {len(options.layouts)} layouts: give one for each CT"
        )
    layouts = [read_layout(path) for path in options.layouts]
    model, slices = fit([read_volume(path) for path in tqdm(options.cts, desc="read", unit="CT")], layouts)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.out)
    print(f"{options.out}  ({slices} slices of {len(options.cts)} CTs, {len(model.deviations)} components)")
    print(f"of {', '.join(structure.name for structure in model.structures)}")
    print(f"outlines differ from the mean ones by {model.spread_mm:.1f} mm (root mean square)")
    return 0


def run_sample(options: Namespace) -> int:
    if options.count < 1:
        raise InvalidRequest(f"--count {options.count}: give the number of maps, 1 or more")
    paths = number_paths(options.out, options.count)
    wanted = [Output(path, VOLUME, new=True) for path in paths]
    check_outputs(wanted, [options.ct, options.shapes, options.layout])
    model, generator = shapes(options), np.random.default_rng(options.seed)
    ct = read_volume(options.ct) if options.ct else None
    layout = read_layout(options.layout) if options.layout else None
    if ct is None and layout is not None:
        raise InvalidRequest("--layout: name the CT that it is of as --ct")
    if ct is not None:
        require_room(paths, 2 * ct.array.size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if ct is None:
            drawn = draw_valid(model, generator, options.within)
            write_volume(map_volume(drawn.curves, model), path)
            print(f"{path}  ({drawn.refused} impossible draws refused)")
        else:
            volume, moved = map_of(ct, model, model.draw(generator, options.within), layout)
            write_volume(volume, path)
            print(f"{path}  (outlines of {moved} slices moved)")
    return 0


def run_sheet(options: Namespace) -> int:
    check_outputs(pictures(options.out), [options.shapes])
    model = shapes(options)
    save_picture(picture(model, np.random.default_rng(options.seed), options.within), options.out)
    print(options.out)
    return 0


def shapes(options: Namespace) -> ShapeModel:
    return ShapeModel.load(options.shapes or models_dir() / SHIPPED)


def picture(model: ShapeModel, generator: np.random.Generator, within: float) -> Image.Image:
    """A row per component, from -`within` to +`within` deviations, then rows of valid draws."""
    panels = [*_components(model, within), *_draws(model, generator, within)]
    title = f"anatomy maps within {within:g} standard deviations"
    return sheet(panels, COLUMNS, title=title, panel_px=176)


def _components(model: ShapeModel, within: float) -> Iterator[Panel]:
    for k in range(min(SHOWN_COMPONENTS, len(model.deviations))):
        for value in np.linspace(-within, within, COLUMNS):
            coefficients = np.zeros(len(model.deviations))
            coefficients[k] = value
            possible = not problems(model.curves(coefficients), model.structures)
            caption = f"no. {k + 1}, {value:+.1f} sd" + ("" if possible else ", refused")
            yield _panel(model, coefficients, caption)


def _draws(model: ShapeModel, generator: np.random.Generator, within: float) -> Iterator[Panel]:
    for _ in range(DRAWN_ROWS * COLUMNS):
        drawn = draw_valid(model, generator, within)
        yield _panel(model, drawn.coefficients, f"drawn, {drawn.refused} refused")


def _panel(model: ShapeModel, coefficients: np.ndarray, caption: str) -> Panel:
    grid = centred_grid()
    hu = rasterise(model.curves(coefficients), model.hu, grid)
    row_mm, column_mm = grid.spacing_mm
    return Panel(hu[::-1, ::-1], (row_mm, column_mm), WIDE, caption)
