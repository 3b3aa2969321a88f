"""A chest CT made of formulas, for the demo and the tests; and places for a lesion in any chest CT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import EmptyMask, InvalidRequest
from lesionbrush.phantom.parts import bones, organs
from lesionbrush.phantom.parts import lungs as lung_parts
from lesionbrush.phantom.parts.canvas import Canvas
from lesionbrush.phantom.parts.scanner import scan, tissue_texture
from lesionbrush.phantom.parts.surfaces import measure

FIELD_MM = (332.8, 332.8, 256.0)
LUNG_HU = -400
AIRWAY_HU = -970
COARSE_MM = 2.0
BORDER_MM = 3.0

LesionShape = Literal["round", "lobulated", "spiculated"]
# height of the bumps as a fraction of the radius, and how many waves of them fit around
BUMPS: dict[LesionShape, tuple[float, float]] = {
    "round": (0.04, 2.0),
    "lobulated": (0.13, 3.0),
    "spiculated": (0.13, 8.0),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """volume: int16 HU; lungs, liver: uint8, 1 in them and their vessels. (I, J, K) run left, back, up."""

    volume: Volume
    lungs: Volume
    liver: Volume


def chest_phantom(
    seed: int = 0,
    shape: tuple[int, int, int] = (256, 256, 128),
    spacing_mm: tuple[float, float, float] = (1.3, 1.3, 2.0),
) -> Phantom:
    """A whole chest, stretched to fill the field of view (shape x spacing_mm); by default it is an adult's.

    Equal arguments give equal voxels. Raises InvalidRequest when an axis has fewer than 16 voxels.
    """
    if min(shape) < 16:
        raise InvalidRequest(f"a chest phantom needs 16 voxels along each axis, not {shape}")
    generator = np.random.default_rng(seed)
    canvas = Canvas.blank(_adult_axes(shape), organs.AIR)
    lungs, liver = _draw_chest(canvas, generator)
    affine = np.diag((-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0))
    affine[:3, 3] = (np.array(shape) - 1) / 2 * spacing_mm * np.array((1, 1, -1))
    volume = Volume(scan(canvas, generator), affine)
    return Phantom(volume, *(volume.with_array(organ.astype(np.uint8)) for organ in (lungs, liver)))


def _adult_axes(shape: tuple[int, int, int]) -> tuple[Array, Array, Array]:
    x, y, z = ((np.arange(n) + 0.5) / n * field for n, field in zip(shape, FIELD_MM, strict=True))
    return x - FIELD_MM[0] / 2, y - FIELD_MM[1] / 2 + 5, z


def _draw_chest(canvas: Canvas, generator: np.random.Generator) -> tuple[Array, Array]:
    """Everything, what is drawn later on top. Returns where lungs and liver are, bool (I, J, K)."""
    texture = tissue_texture(canvas, generator)
    surfaces = measure(canvas, generator)
    organs.draw_table(canvas)
    organs.draw_body(canvas, surfaces, texture)
    liver = organs.draw_abdomen(canvas, surfaces, texture)
    beneath = canvas.hu.copy()
    bones.draw_ribs(canvas, surfaces, texture, generator)
    bones.draw_spine(canvas, texture)
    organs.draw_spinal_canal(canvas)
    bones.draw_sternum(canvas, texture)
    bones.draw_shoulders(canvas, surfaces)
    organs.draw_gullet(canvas)
    organs.draw_lymph_nodes(canvas, generator)
    organs.draw_neck_vessels(canvas)
    organs.draw_heart(canvas)
    lung_parts.draw_lung_tissue(canvas, surfaces, texture)
    lung_parts.draw_lung_trees(canvas, surfaces.lung, generator)
    organs.draw_great_vessels(canvas)
    lung_parts.draw_trachea(canvas)
    return surfaces.lung < 0, liver & (np.abs(canvas.hu - beneath) < 1)


def lung_mask(volume: Volume) -> Volume:
    """Aerated lungs of a chest CT by threshold, uint8 0/1 on its grid. No ground truth: it misses solid lung.

    The two largest parts of the air below -400 HU that do not reach the sides of the volume, with vessels up
    to 8 mm closed, worked out on voxels some 2 mm apart. Raises EmptyMask when there is no such air.
    """
    step = _strides(volume)
    air = volume.array[tuple(slice(None, None, n) for n in step)] < LUNG_HU
    parts_of_air, _ = ndimage.label(air)
    size_voxels = np.bincount(parts_of_air.ravel())
    size_voxels[[0, *_find_touching(parts_of_air, volume.affine)]] = 0
    if not size_voxels.any():
        raise EmptyMask(
            f"no lungs found: no air below {LUNG_HU} HU is enclosed by the body; paint a mask instead"
        )
    largest = np.argsort(size_voxels)[-2:]
    largest = largest[size_voxels[largest] > 0.1 * size_voxels.max()]
    spacing_mm = np.array(volume.spacing_mm) * step
    lungs = _close(np.isin(parts_of_air, largest), spacing_mm, radius_mm=4.0)
    smooth = ndimage.affine_transform(
        lungs.astype(np.float32),
        np.diag(1 / np.array(step)),
        output_shape=volume.shape,
        order=1,
        mode="nearest",
    )
    return volume.with_array((smooth > 0.5).astype(np.uint8))


def _strides(volume: Volume) -> tuple[int, int, int]:
    i, j, k = (max(1, round(COARSE_MM / mm)) for mm in volume.spacing_mm)
    return i, j, k


def _find_touching(labels: Array, affine: Array) -> Array:
    """Labels on the faces in front of, behind and beside the patient; lungs may reach the other two."""
    upward = int(np.argmax(np.abs(affine[2, :3])))
    faces = [labels.take(end, axis) for axis in range(3) if axis != upward for end in (0, -1)]
    return np.unique(np.concatenate([face.ravel() for face in faces]))


def _close(mask: Array, spacing_mm: Array, radius_mm: float) -> Array:
    """Binary closing with a ball, the mask continued beyond the edges of the array; enclosed holes filled."""
    margin = [int(np.ceil(radius_mm / mm)) for mm in spacing_mm]
    padded = np.pad(mask, [(n, n) for n in margin], mode="edge")
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= radius_mm
    shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    inner = tuple(slice(n, -n) for n in margin)
    return ndimage.binary_fill_holes((shrunk | padded)[inner])


def propose_lesion(
    volume: Volume,
    organ: Volume,
    diameter_mm: float,
    generator: np.random.Generator,
    shape: LesionShape = "lobulated",
) -> Volume:
    """A lesion mask inside an organ, uint8 0/1 on its grid, with the volume of a ball of `diameter_mm`.

    organ: not 0 in it, say in both lungs. The lesion keeps 3 mm from its border, and has no large vessel or
    airway at its centre.

    Raises GeometryMismatch (other grids), EmptyMask (no organ) and InvalidRequest (no room, unknown shape).
    """
    volume.require_same_grid(organ, "mask of the organ")
    if shape not in BUMPS:
        raise InvalidRequest(f"unknown lesion shape {shape!r}; choose one of {', '.join(BUMPS)}")
    if not diameter_mm > 0:
        raise InvalidRequest(f"a lesion cannot have a diameter of {diameter_mm:g} mm; give one above 0")
    blob = Blob.random(diameter_mm / 2, *BUMPS[shape], generator)
    centre = _free_place(volume, organ, blob.reach_mm + BORDER_MM, generator)
    offsets_mm = [
        (np.arange(n) - at) * mm for n, at, mm in zip(volume.shape, centre, volume.spacing_mm, strict=True)
    ]
    box = tuple(slice(*np.searchsorted(o, (-blob.reach_mm, blob.reach_mm))) for o in offsets_mm)
    near_mm = np.meshgrid(*(o[part] for o, part in zip(offsets_mm, box, strict=True)), indexing="ij")
    mask = np.zeros(volume.shape, np.uint8)
    mask[box] = blob.contains(np.stack(near_mm, axis=-1))
    return volume.with_array(mask)


@dataclass(frozen=True, eq=False)
class Blob:
    """A ball whose radius varies with direction: radius_mm * exp(height * waves on the unit sphere).

    reach_mm: of its furthest point from the centre.
    """

    radius_mm: float
    reach_mm: float
    waves: Array
    phases: Array
    height: float

    @classmethod
    def random(cls, radius_mm: float, height: float, bumps: float, generator: np.random.Generator) -> Blob:
        """With the volume of a ball of `radius_mm`. height: of its bumps, as a share of that radius.

        bumps: how many fit around.
        """
        waves, phases = generator.normal(0, bumps, (8, 3)), generator.uniform(0, 2 * np.pi, 8)
        directions = generator.normal(0, 1, (4000, 3))
        radii = cls(1.0, 1.0, waves, phases, height).radii(directions)
        same_volume = radius_mm / np.cbrt((radii**3).mean())
        return cls(float(same_volume), float(same_volume * radii.max() * 1.02), waves, phases, height)

    def radii(self, offsets: Array) -> Array:
        """Distance of the surface from the centre along the directions (..., 3)."""
        directions = offsets / np.maximum(np.linalg.norm(offsets, axis=-1, keepdims=True), 1e-6)
        bumps = np.sin(directions @ self.waves.T + self.phases).sum(axis=-1) / np.sqrt(len(self.phases) / 2)
        return self.radius_mm * np.exp(self.height * bumps)

    def contains(self, offsets_mm: Array) -> Array:
        """(...) bool: whether points (..., 3) from its centre lie in it."""
        return np.linalg.norm(offsets_mm, axis=-1) <= self.radii(offsets_mm)


def _free_place(volume: Volume, organ: Volume, clearance_mm: float, generator: np.random.Generator) -> Array:
    """Index (3,) of a voxel this far from the organ's border, among the darker third that is no airway."""
    step = _strides(volume)
    thin = tuple(slice(None, None, n) for n in step)
    inside = np.pad(organ.array[thin] > 0, 1)
    spacing_mm = np.array(volume.spacing_mm) * step
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    if not depth_mm.any():
        raise EmptyMask("the mask of the organ is empty: there is nothing to put a lesion into")
    places = np.argwhere(depth_mm >= clearance_mm)
    if not len(places):
        raise InvalidRequest(
            f"the lesion does not fit: it needs {clearance_mm:.0f} mm of its organ on all sides, "
            f"which has at most {depth_mm.max():.0f} mm; ask for a smaller diameter"
        )
    around = [max(1, round(clearance_mm / mm)) for mm in spacing_mm]
    local_hu = ndimage.uniform_filter(volume.array[thin].astype(np.float32), around)[tuple(places.T)]
    local_hu[local_hu < AIRWAY_HU] = np.inf
    darker = np.argsort(local_hu, kind="stable")[: max(1, len(places) // 3)]
    return places[generator.choice(darker)] * step
