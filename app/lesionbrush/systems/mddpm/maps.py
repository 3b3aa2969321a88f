"""Anatomy maps for whole slices: sent in HU, drawn as a layout, or sampled; with what is where. Torch-free.

Arrays are (Z, Y, X) on the slices that are made, axes to superior, anterior, right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.core.generate import Frame
from lesionbrush.core.inputs import Layout
from lesionbrush.core.registry import models_dir
from lesionbrush.core.roi import Orientation, RoiGrid
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.mddpm.anatomy_maps.curves import SliceGrid
from lesionbrush.systems.mddpm.anatomy_maps.maps import draw_valid, rasterise
from lesionbrush.systems.mddpm.anatomy_maps.shapes import ShapeModel
from lesionbrush.systems.mddpm.anatomy_maps.structures import AIR_HU
from lesionbrush.systems.mddpm.anatomy_maps.validity import problems

SHAPES = "mddpm", "anatomy_maps.npz"
DRIFT = 0.3
"""Standard deviations that the outlines of a sampled slab move by, from its lowest slice to its highest."""
USUAL_HU = (
    (r"lung|lobe", -850.0),
    (r"trachea|bronch|airway|^air$", -1000.0),
    (r"fat|adipose", -100.0),
    (r"spine|vertebra|rib|bone|sternum|scapula|clavicula|humerus|costal", 250.0),
    (r"heart|mediastinum|aorta|vein|artery|atrium|ventricle|vena|pulmonary|esophagus|oesophagus", 40.0),
    (r"liver|spleen|kidney|stomach|pancreas|muscle|autochthon|spinal|lesion|nodule|tumou?r", 50.0),
    (r"body|skin|tissue|thorax", 0.0),
)
"""What a structure of a layout shows on its map, by its name."""


@dataclass(frozen=True, eq=False)
class AnatomyMap:
    """hu: float32; labels: uint8, 0 for nothing; names: of the labels."""

    hu: np.ndarray
    labels: np.ndarray
    names: dict[int, str]

    @property
    def lungs(self) -> np.ndarray:
        """bool: where a structure's name speaks of lung."""
        wanted = [number for number, name in self.names.items() if re.search("lung|lobe", name, re.I)]
        inside: np.ndarray = np.isin(self.labels, wanted)
        return inside


def load_shapes() -> ShapeModel:
    """The shape model that comes with mDDPM. DamagedFile without it."""
    return ShapeModel.load(models_dir().joinpath(*SHAPES))


def names_of(shapes: ShapeModel) -> dict[int, str]:
    """Of the labels on its maps."""
    return {number: structure.name for number, structure in enumerate(shapes.structures, start=1)}


def sample_map(shapes: ShapeModel, grid: RoiGrid, slice_mm: float, within: float, seed: int) -> AnatomyMap:
    """A new anatomy of so many slices, whose outlines move a little from the lowest slice to the highest.

    InvalidRequest when no possible one is found.
    """
    rng = np.random.default_rng((seed, 1))
    first = draw_valid(shapes, rng, within).coefficients
    change = DRIFT * rng.standard_normal(len(first)) * min(1.0, slice_mm * grid.shape[0] / 64)
    flat, names = _plane(grid), names_of(shapes)
    hu, labels = [], []
    for share in np.linspace(-0.5, 0.5, grid.shape[0]) if grid.shape[0] > 1 else (0.0,):
        curves = shapes.curves(first + share * change)
        if problems(curves, shapes.structures):  # it takes the outlines of the middle, which are possible
            curves = shapes.curves(first)
        hu.append(rasterise(curves, shapes.hu, flat))
        labels.append(rasterise(curves, list(names), flat, outside=0))
    return AnatomyMap(np.stack(hu), np.stack(labels).astype(np.uint8), names)


def read_map(anatomy: Volume, frame: Frame, shapes: ShapeModel) -> AnatomyMap:
    """A map in HU that was sent; what is where follows from the levels that maps have."""
    hu = on_frame(anatomy, frame, AIR_HU).astype(np.float32)
    levels = np.array([AIR_HU, *shapes.hu])
    nearest = np.abs(hu[..., None] - levels).argmin(axis=-1).astype(np.uint8)
    names = [structure.name for structure in shapes.structures]
    right, left = names.index("right lung") + 1, names.index("left lung") + 1
    lungs = np.isin(nearest, (right, left))
    if lungs.any():
        middle = (np.nonzero(lungs)[2].min() + np.nonzero(lungs)[2].max()) / 2
        nearest[lungs] = np.where(np.nonzero(lungs)[2] > middle, right, left)
    outside = nearest == 0
    nearest[outside & ~_open_air(outside)] = right if lungs.any() else 0
    return AnatomyMap(hu, nearest, names_of(shapes))


def draw_map(layout: Layout, frame: Frame) -> AnatomyMap:
    """The map of a layout: each structure at its usual HU, air where nothing is.

    InvalidRequest names the structures without one.
    """
    labels = on_frame(layout.labels, frame, 0)
    present = sorted(set(np.unique(labels).tolist()) - {0})
    if not present:
        raise InvalidRequest("layout: nothing of it lies in the slices that would be made")
    names = {number: layout.names[number] for number in present}
    unknown = [name for name in names.values() if usual_hu(name) is None]
    if unknown:
        raise InvalidRequest(
            f"layout: what {', '.join(unknown)} shows on a CT is not known; leave it out, or send a map in "
            "HU as anatomy. Known are lungs, airways, fat, bones, heart and vessels, organs, muscles, body"
        )
    renumbered, hu = np.zeros(labels.shape, np.uint8), np.full(labels.shape, AIR_HU, np.float32)
    for number, (old, name) in enumerate(names.items(), start=1):
        renumbered[labels == old] = number
        hu[labels == old] = usual_hu(name)
    return AnatomyMap(hu, renumbered, dict(enumerate(names.values(), start=1)))


def usual_hu(name: str) -> float | None:
    """What a structure of this name shows, None for one that is not known."""
    plain = name.replace("_", " ")
    return next((hu for words, hu in USUAL_HU if re.search(words, plain, re.I)), None)


def on_frame(volume: Volume, frame: Frame, outside: float) -> np.ndarray:
    """(Z, Y, X): the nearest voxels of a volume of any grid; a single slice stands for every slice."""
    to_voxels = np.linalg.inv(volume.affine) @ frame.affine
    if 1 in volume.shape:
        to_voxels[volume.shape.index(1)] = 0
    found = ndimage.affine_transform(
        volume.array, to_voxels[:3, :3], to_voxels[:3, 3], frame.shape, order=0, mode="constant", cval=outside
    )
    return Orientation.of(frame.affine).view(found)


def _plane(grid: RoiGrid) -> SliceGrid:
    """The pixels of a slice, with the middle of the slice as origin."""
    _, rows, columns = grid.shape
    spacing = np.full(2, grid.spacing_mm)
    return SliceGrid((rows, columns), spacing, -(np.array([rows, columns]) - 1) / 2 * spacing)


def _open_air(outside: np.ndarray) -> np.ndarray:
    """bool: the air that reaches a side of its slice, slice by slice."""
    labels, _ = ndimage.label(outside, structure=_IN_SLICES)
    border = np.zeros_like(outside)
    border[:, [0, -1]] = border[:, :, [0, -1]] = True
    open_: np.ndarray = np.isin(labels, np.unique(labels[border & outside]))
    return open_


_IN_SLICES = np.zeros((3, 3, 3), bool)
_IN_SLICES[1] = ndimage.generate_binary_structure(2, 1)
