"""Anatomies as images in HU: drawn from a model, or a CT's own, with its outlines moved if one likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve, SliceGrid
from lesionbrush.systems.mddpm.anatomy_maps.shapes import ShapeModel
from lesionbrush.systems.mddpm.anatomy_maps.structures import (
    AIR_HU,
    NAMED,
    STRUCTURES,
    Anatomy,
    Structure,
    anatomies,
    has_all,
    is_part_of,
)
from lesionbrush.systems.mddpm.anatomy_maps.validity import problems

MOST_TRIES = 200
FITTING_STEP_MM = 3.0
MAP_MM, MAP_PIXELS = 1.5, 256


@dataclass(frozen=True, eq=False)
class ValidDraw:
    """A valid draw: its curves, and how many draws were refused before it."""

    curves: tuple[ClosedCurve, ...]
    coefficients: NDArray[np.float64]
    refused: int


def fit(cts: Sequence[Volume], layouts: Sequence[Layout] = ()) -> tuple[ShapeModel, int]:
    """A shape model of all slices of the CTs that show all structures, and how many those are.

    layouts: one for each CT, on its grid, or none: what all of them name of NAMED is in the model as well.
    Raises InvalidRequest, GeometryMismatch.
    """
    named = _common_names(layouts) if layouts else ()
    structures, found = (*STRUCTURES, *named), list[Anatomy]()
    beside: Sequence[Layout | None] = layouts or [None] * len(cts)
    for ct, layout in zip(cts, beside, strict=True):
        slices = anatomies(require_ct(ct), FITTING_STEP_MM, layout, named)
        shown = [anatomy for _, anatomy in slices if anatomy is not None]
        found += [anatomy for anatomy in shown if not problems(anatomy.curves, structures)]
    levels = np.array([anatomy.medians_hu() for anatomy in found])
    hu = np.nanmedian(levels, axis=0) if len(found) else np.empty(0)
    shapes = [anatomy.curves for anatomy in found]
    return ShapeModel.fit(shapes, hu, structures=structures), len(found)


def _common_names(layouts: Sequence[Layout]) -> tuple[Structure, ...]:
    """InvalidRequest when the layouts have none of NAMED in common, nor all of STRUCTURES."""
    found = tuple(
        structure
        for structure in NAMED
        if all(any(is_part_of(name, structure) for name in layout.names.values()) for layout in layouts)
    )
    if not found and not all(has_all(layout) for layout in layouts):
        known = ", ".join(structure.name for structure in NAMED)
        raise InvalidRequest(f"no structure of {known} is named by all of the layouts: leave them out")
    return found


def draw_valid(model: ShapeModel, generator: np.random.Generator, within: float) -> ValidDraw:
    """Draw until the anatomy is possible. InvalidRequest, with the last reason, when it never is."""
    reasons: list[str] = []
    for refused in range(MOST_TRIES):
        coefficients = model.draw(generator, within)
        curves = model.curves(coefficients)
        reasons = problems(curves, model.structures)
        if not reasons:
            return ValidDraw(curves, coefficients, refused)
    raise InvalidRequest(
        f"none of {MOST_TRIES} anatomies within {within:g} standard deviations is possible "
        f"({'; '.join(reasons)}); stay closer to the mean"
    )


def rasterise(
    curves: Sequence[ClosedCurve],
    hu: Sequence[float] | np.ndarray,
    grid: SliceGrid,
    outside: float = AIR_HU,
) -> np.ndarray:
    """(Y, X) float32: each structure's level inside its curve, later ones over earlier ones."""
    picture = np.full(grid.shape, outside, np.float32)
    for curve, level in zip(curves, hu, strict=True):
        picture[curve.mask(grid)] = level
    return picture


def centred_grid(pixels: int = MAP_PIXELS, spacing_mm: float = MAP_MM) -> SliceGrid:
    """A square around the middle between the lungs."""
    origin = -(pixels - 1) / 2 * spacing_mm
    return SliceGrid((pixels, pixels), np.full(2, spacing_mm), np.full(2, origin))


def map_volume(curves: Sequence[ClosedCurve], model: ShapeModel) -> Volume:
    """A drawn anatomy as a volume of one axial slice, in int16 HU."""
    grid = centred_grid()
    picture = np.rint(rasterise(curves, model.hu, grid)).astype(np.int16)
    affine = np.diag([grid.spacing_mm[1], grid.spacing_mm[0], 1.0, 1.0])
    affine[:2, 3] = grid.origin_mm[::-1]
    return Volume(np.ascontiguousarray(picture.T[:, :, None]), affine)


def map_of(
    ct: Volume,
    model: ShapeModel,
    coefficients: np.ndarray | None = None,
    layout: Layout | None = None,
) -> tuple[Volume, int]:
    """The CT's own anatomy map on its grid, and in how many of its slices it was possible to move it.

    coefficients: by how many standard deviations all outlines are changed, alike in every slice, so that the
    map stays one body. A slice that does not show all structures, or whose moved outlines are impossible,
    takes its map from the nearest that does. layout: of this CT, for a model of structures that one named.
    InvalidRequest when there is none.
    """
    ct, named = require_ct(ct), model.structures[len(STRUCTURES) :]
    if named and layout is None:
        names = ", ".join(structure.name for structure in named)
        raise InvalidRequest(f"these shapes have {names}, which no threshold finds: send a layout of the CT")
    change = np.zeros(len(model.deviations)) if coefficients is None else coefficients
    turned = Orientation.of(ct.affine)
    out = np.empty(turned.view(ct.array).shape, np.int16)
    done: list[int] = []
    for z, anatomy in anatomies(ct, layout=layout, named=named):
        curves = None if anatomy is None else model.move(anatomy.curves, change)
        if anatomy is not None and curves is not None and not problems(curves, model.structures):
            out[z] = np.rint(rasterise(curves, model.hu, anatomy.grid))
            done.append(z)
    if not done:
        names = ", ".join(structure.name for structure in model.structures)
        raise InvalidRequest(f"no slice of this CT shows all of {names} together")
    _spread(out, done)
    return ct.with_array(turned.to_stored(out)), len(done)


def _spread(out: np.ndarray, done: list[int]) -> None:
    """Fill the slices between and beyond those that are done with the nearest of them."""
    nearest = np.abs(np.arange(len(out))[:, None] - np.array(done)).argmin(axis=1)
    out[:] = out[np.array(done)[nearest]]


__all__ = ["ValidDraw", "centred_grid", "draw_valid", "fit", "map_of", "map_volume", "rasterise"]
