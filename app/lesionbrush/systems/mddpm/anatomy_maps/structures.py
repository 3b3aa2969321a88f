"""The structures of an axial chest slice: body, lungs, what lies between them and spine, found by thresholds;
others where a layout names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image, disk, isotropic_closing, isotropic_opening

from lesionbrush.anatomy.lungs import LEFT, RIGHT, segment_lungs
from lesionbrush.core.inputs import Layout
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Volume
from lesionbrush.systems.mddpm.anatomy_maps.curves import ClosedCurve, SliceGrid, outline_of
from lesionbrush.transfer.names import OrganName

Mask = NDArray[np.bool_]


class Structure(NamedTuple):
    """What is outlined. controls: of its curve; hu: what it shows on a map made without a fitted model."""

    name: str
    controls: int
    hu: float


STRUCTURES = (
    Structure("body", 48, 0.0),
    Structure("right lung", 40, -850.0),
    Structure("left lung", 40, -850.0),
    Structure("mediastinum", 32, 40.0),
    Structure("spine", 24, 250.0),
)
"""From the outside in: on a map a later one covers an earlier one. The mediastinum holds the heart."""
NAMED = (
    Structure("heart", 32, 40.0),
    Structure("esophagus", 12, 30.0),
    Structure("spinal cord", 12, 40.0),
)
"""What no threshold finds: outlined where a layout has them, over those above."""
AIR_HU, BODY_HU, BONE_HU = -1000.0, -300.0, 150.0
AREAS_MM2: Mapping[str, tuple[float, float]] = {
    "right lung": (4000.0, np.inf),
    "left lung": (4000.0, np.inf),
    "mediastinum": (1500.0, 13_000.0),
    "spine": (300.0, np.inf),
}
"""In a slice that maps know: a larger mediastinum is no heart, but liver under the dome of a lung."""
SPINE_BESIDE_MM, BEHIND_SHARE = 35.0, 0.5
"""The spine is no farther from the middle, and in this part of the lungs' height, from the back."""
BONE_BLUR_MM, MARROW_MM = 0.7, 8.0
"""MARROW_MM: half the gap in the bone that is closed, for marrow is no denser than muscle."""
SOLID, LEAST_VESSEL_MM2 = 0.9, 120.0
TISSUE_NECK_MM = 5.0
"""What hangs on the mediastinum by less than twice this is chest wall."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One axial slice: hu (Y, X) and its grid, masks and curves in the order of STRUCTURES, then of NAMED.

    The origin of the grid is the middle between the lungs, so that slices of all patients lie on each other.
    """

    hu: np.ndarray
    grid: SliceGrid
    masks: tuple[Mask, ...]
    curves: tuple[ClosedCurve, ...]

    def medians_hu(self) -> NDArray[np.float64]:
        """(S,): of each structure without those that lie in it. NaN where nothing is left."""
        levels = np.full(len(self.masks), np.nan)
        covered = np.zeros(self.hu.shape, bool)
        for k in reversed(range(len(self.masks))):
            own = self.masks[k] & ~covered
            covered |= self.masks[k]
            levels[k] = np.median(self.hu[own]) if own.any() else np.nan
        return levels


def anatomies(
    ct: Volume, step_mm: float = 0.0, layout: Layout | None = None, named: Sequence[Structure] = ()
) -> Iterator[tuple[int, Anatomy | None]]:
    """(index, anatomy) of every axial slice from the feet up, or of one every `step_mm`.

    The index counts in the view of `roi.Orientation`; None for a slice that does not show all structures.
    named: those of the layout, on the grid of the CT, that are outlined as well. A layout that has all of
    STRUCTURES, as `run.py annotate` writes it, takes the place of the thresholds. Raises GeometryMismatch.
    """
    more, drawn = find_named(ct, layout, named), find_drawn(ct, layout)
    turned = Orientation.of(ct.affine)
    hu, spacing_mm = turned.view(ct.array), turned.spacing_mm(ct.spacing_mm)
    labels = turned.view(segment_lungs(ct).array) if drawn is None else np.empty(0)
    stride = max(1, round(step_mm / float(spacing_mm[0])))
    for z in range(0, len(hu), stride):
        own = {structure: largest(mask[z]) for structure, mask in more.items()}
        if drawn is None:
            yield z, anatomy_of(hu[z], labels[z], spacing_mm[1:], own)
        else:
            yield z, anatomy_drawn(hu[z], drawn[z], spacing_mm[1:], own)


def find_named(ct: Volume, layout: Layout | None, named: Sequence[Structure]) -> dict[Structure, Mask]:
    """(Z, Y, X) of each, by its name in the layout: of all its parts, as of a heart in chambers."""
    if layout is None:
        return {}
    ct.require_same_grid(layout.labels, "layout")
    turned, found = Orientation.of(ct.affine), {}
    for structure in named:
        numbers = [number for number, name in layout.names.items() if is_part_of(name, structure)]
        found[structure] = turned.view(np.isin(layout.labels.array, numbers))
    return found


def has_all(layout: Layout) -> bool:
    """Whether it names all of STRUCTURES, each as a whole."""
    return {structure.name for structure in STRUCTURES} <= set(layout.names.values())


def find_drawn(ct: Volume, layout: Layout | None) -> NDArray[np.uint8] | None:
    """(Z, Y, X): the places in STRUCTURES from 1 on, 0 elsewhere; None where the layout has not all."""
    if layout is None or not has_all(layout):
        return None
    ct.require_same_grid(layout.labels, "layout")
    drawn = np.zeros(ct.shape, np.uint8)
    for place, structure in enumerate(STRUCTURES, start=1):
        drawn[layout.mask(structure.name)] = place
    found: NDArray[np.uint8] = Orientation.of(ct.affine).view(drawn)
    return found


def is_part_of(name: str, structure: Structure) -> bool:
    return set(OrganName.of(structure.name).organ) <= set(OrganName.of(name).organ)


def anatomy_of(
    hu: np.ndarray, lungs: np.ndarray, spacing_mm: np.ndarray, named: Mapping[Structure, Mask] | None = None
) -> Anatomy | None:
    """The structures of one (Y, X) slice, its lungs labelled as by `segment_lungs`; named: more of them."""
    right, left = (largest(ndimage.binary_fill_holes(lungs == side)) for side in (RIGHT, LEFT))
    if not are_known({"right lung": right, "left lung": left}, spacing_mm):
        return None
    body = largest(ndimage.binary_fill_holes((hu > BODY_HU) | right | left))
    spine = find_spine(hu, right | left, spacing_mm)
    mediastinum = find_mediastinum(body, right | left, spine, spacing_mm)
    return _assemble(hu, (body, right, left, mediastinum, spine), spacing_mm, named or {})


def anatomy_drawn(
    hu: np.ndarray, drawn: np.ndarray, spacing_mm: np.ndarray, named: Mapping[Structure, Mask]
) -> Anatomy | None:
    """The same of a slice in which structures are drawn already; see `find_drawn`."""
    body = largest(ndimage.binary_fill_holes(drawn > 0))
    parts = (largest(ndimage.binary_fill_holes(drawn == place)) for place in range(2, len(STRUCTURES) + 1))
    return _assemble(hu, (body, *parts), spacing_mm, named)


def _assemble(
    hu: np.ndarray, masks: tuple[Mask, ...], spacing_mm: np.ndarray, named: Mapping[Structure, Mask]
) -> Anatomy | None:
    """masks: of STRUCTURES. None where one is too small to be itself."""
    if not are_known({one.name: mask for one, mask in zip(STRUCTURES, masks, strict=True)}, spacing_mm):
        return None
    ends = np.argwhere(masks[1] | masks[2])
    middle = (ends.min(axis=0) + ends.max(axis=0)) / 2
    grid = SliceGrid((hu.shape[0], hu.shape[1]), np.asarray(spacing_mm), -middle * spacing_mm)
    shown = (*masks, *named.values())
    curves = trace_outlines(shown, grid, (*STRUCTURES, *named))
    return None if curves is None else Anatomy(hu, grid, shown, curves)


def are_known(masks: Mapping[str, Mask], spacing_mm: np.ndarray) -> bool:
    """Whether structures of one slice, by name, are as large as those of maps."""
    pixel_mm2 = float(np.prod(spacing_mm))
    limits = ((mask.sum() * pixel_mm2, AREAS_MM2.get(name, (0.0, np.inf))) for name, mask in masks.items())
    return all(least <= area <= most for area, (least, most) in limits)


def trace_outlines(
    masks: tuple[Mask, ...], grid: SliceGrid, structures: Sequence[Structure]
) -> tuple[ClosedCurve, ...] | None:
    """The curves of all masks; None when one has no outline."""
    outlines = [outline_of(mask, grid) for mask in masks]
    return (
        tuple(
            ClosedCurve.through(outline, structure.controls)
            for outline, structure in zip(outlines, structures, strict=True)
            if outline is not None
        )
        if all(outline is not None for outline in outlines)
        else None
    )


def find_spine(hu: np.ndarray, lungs: Mask, spacing_mm: np.ndarray) -> Mask:
    """The largest bone behind the middle of the lungs and near the line between them."""
    rows, columns = np.nonzero(lungs)
    beside_mm = np.abs(np.arange(hu.shape[1]) - (columns.min() + columns.max()) / 2) * spacing_mm[1]
    behind = np.arange(hu.shape[0]) < rows.min() + BEHIND_SHARE * np.ptp(rows)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), BONE_BLUR_MM / np.asarray(spacing_mm))
    bone = (smooth > BONE_HU) & ~lungs & behind[:, None] & (beside_mm < SPINE_BESIDE_MM)[None, :]
    bone = without_vessels(isotropic_opening(bone, 1.0 / float(np.mean(spacing_mm))), spacing_mm)
    radius = MARROW_MM / float(np.mean(spacing_mm))
    width = int(radius) + 1
    closed = isotropic_closing(np.pad(bone, width), radius)[width:-width, width:-width]
    return largest(ndimage.binary_fill_holes(closed & ~lungs))


def without_vessels(bright: Mask, spacing_mm: np.ndarray) -> Mask:
    """Without round, solid parts: an aorta full of contrast medium. Bone has marrow, arches and spines."""
    labels, _ = ndimage.label(bright)
    vessels = [
        part.label
        for part in regionprops(labels)
        if part.solidity > SOLID and part.area * np.prod(spacing_mm) > LEAST_VESSEL_MM2
    ]
    return bright & ~np.isin(labels, vessels)


def find_mediastinum(body: Mask, lungs: Mask, spine: Mask, spacing_mm: np.ndarray) -> Mask:
    """Tissue between the lungs and before the spine: heart and large vessels, with the fat around them."""
    between = convex_hull_image(lungs) & body & ~lungs
    if spine.any():
        front = np.nonzero(spine)[0].max()
        between &= (np.arange(len(body)) > front - 5)[:, None] & ~ndimage.binary_dilation(spine, disk(3))
    radius = TISSUE_NECK_MM / float(np.mean(spacing_mm))
    return largest(isotropic_opening(between, radius))


def largest(mask: np.ndarray) -> Mask:
    """The largest connected part."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    part: Mask = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return part
