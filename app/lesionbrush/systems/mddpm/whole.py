"""mDDPM as published (Krishna et al. 2025, Secs. 3 and 4): whole axial slices, or a slab, with labels.

The unconditional network of single slices is guided by an anatomy map, by any other CT for texture and by any
lesion (Algorithm 1), each with its own factor n and stop a; what is where is known from the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.lungs import segment_lungs
from lesionbrush.core.boxes import bounding_box, middle
from lesionbrush.core.generate import LESION, Frame, Made
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel
from lesionbrush.core.roi import Kernel, Orientation, RoiGrid, keys_cubic, to_roi, triangle
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest, NoLungs
from lesionbrush.systems.mddpm.guidance_images import fade_rim
from lesionbrush.systems.mddpm.hooks import Followed, OtherLesion
from lesionbrush.systems.mddpm.maps import AnatomyMap, draw_map, load_shapes, read_map, sample_map
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest, WholeRequest
from lesionbrush.systems.mddpm.slices import MDDPM
from lesionbrush.systems.mddpm.whole_hooks import HOOKS

NO_GUIDE = Guide(factor=0)
AIRY_HU = -500.0
FINE_MM, FREE_SHARE = 32.0, 0.5
"""A CT that is followed in finer structure than that, over more of the levels, is recognised in it."""
FROM_WALL_MM = 4.0
"""A lesion whose place is drawn lies at least so much farther from the edge of the lungs than its radius."""


@dataclass(frozen=True, eq=False)
class WholeScene:
    """What one variant follows, on (Z, Y, X) slices; texture and lesion: None if they were not sent."""

    anatomy: AnatomyMap
    texture_hu: np.ndarray | None
    lesion_hu: np.ndarray | None
    coverage: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Placement:
    """Another CT on the slices: its place `from_mm`, in its (Z, Y, X) view, comes to lie at `to_voxel`."""

    spacing_mm: np.ndarray
    from_mm: np.ndarray
    to_voxel: np.ndarray
    slice_mm: float

    def on(self, grid: RoiGrid, view: np.ndarray, kernel: Kernel = keys_cubic) -> np.ndarray:
        """(Z, Y, X) float32."""
        flatter = np.array([self.slice_mm / grid.spacing_mm, 1, 1])  # a ROI has cubes for voxels
        z, y, x = self.from_mm / flatter - self.to_voxel * grid.spacing_mm
        placed = replace(grid, origin_mm=(float(z), float(y), float(x)))
        return to_roi(view, self.spacing_mm / flatter, placed, kernel)


class MDDPMWhole:
    """The network of `mddpm`, ready to make whole slices."""

    hooks = HOOKS

    def __init__(self, slices: MDDPM) -> None:
        self.card, self.slices, self.shapes = slices.card, slices, load_shapes()
        self.network = slices.network

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MDDPMWhole:
        """Read weights and shapes. WeightsError, DamagedFile."""
        return cls(MDDPM.load(installed, device))

    def generate(
        self,
        frame: Frame,
        request: WholeRequest,
        inputs: Inputs,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Made:
        """One slab for every seed; see `core.generate.VolumeModel`. InvalidRequest, NoLungs."""
        require_guides(request, inputs)
        turned, grid = Orientation.of(frame.affine), grid_of(frame, request)
        made, layouts, remarks, device = [], [], [], ""
        scenes = [self.scene(frame, grid, request, inputs, seed) for seed in seeds]
        for k, (seed, scene) in enumerate(zip(seeds, scenes, strict=True)):

            def told(done: int, total: int, before: int = k) -> None:
                on_step(before * total + done, total * len(seeds))

            show = on_estimate if k == 0 else None
            sampled = self.slices.sample(
                rois_of(scene, grid), guide_slices(request, scene), [seed], told, show
            )
            made.append(turned.to_stored(sampled.hu[0, 0]))
            layouts.append(layout_of(scene, frame))
            remarks.append(remarks_of(scene, request, sampled.hu[0, 0]))
            device = sampled.device
        return Made(np.stack(made), device, layouts, remarks)

    def scene(
        self, frame: Frame, grid: RoiGrid, request: WholeRequest, inputs: Inputs, seed: int
    ) -> WholeScene:
        """What a seed follows. InvalidRequest where the lesion has no place."""
        anatomy = self._map(frame, grid, request, inputs, seed)
        texture = inputs.volume("texture")
        texture_hu = None if texture is None else align(texture, anatomy, grid, request.slice_mm)
        ct, mask = inputs.volume("pathology"), inputs.volume("pathology_mask")
        if ct is None or mask is None:
            return WholeScene(anatomy, texture_hu, None, None)
        lesion = OtherLesion.of(ct, mask)
        centre = place_of(lesion, anatomy, grid, request, seed)
        at = Placement(lesion.spacing_mm, lesion.centre_mm, centre, request.slice_mm)
        return WholeScene(anatomy, texture_hu, at.on(grid, lesion.hu), at.on(grid, lesion.inside, triangle))

    def _map(
        self, frame: Frame, grid: RoiGrid, request: WholeRequest, inputs: Inputs, seed: int
    ) -> AnatomyMap:
        anatomy, layout = inputs.volume("anatomy"), inputs.layout("layout")
        if layout is not None:
            return draw_map(layout, frame)
        if anatomy is not None:
            return read_map(require_ct(anatomy), frame, self.shapes)
        return sample_map(self.shapes, grid, request.slice_mm, request.map_within, seed)


def require_guides(request: WholeRequest, inputs: Inputs) -> None:
    """InvalidRequest when nothing is followed, and for a guide whose image was not sent."""
    sent = set(inputs.names())
    for name in ("texture", "pathology"):
        guide: Guide = getattr(request, name)
        if name not in sent and guide != WholeRequest.model_fields[name].default:
            raise InvalidRequest(f"{name}: there is nothing to follow; send the volume {name!r} as well")
    if "texture" in sent and not request.texture.factor:
        raise InvalidRequest(
            "texture was sent and texture.factor is 0: give a factor, say 4, or leave it out"
        )
    if not request.anatomy.factor:
        raise InvalidRequest(
            "anatomy.factor 0: whole slices follow a map, or what is where would not be known"
        )
    for name in ("anatomy", "texture", "pathology"):
        factor = getattr(request, name).factor
        if factor and request.side % factor:
            raise InvalidRequest(f"{name}.factor: {factor} does not divide the side of {request.side} voxels")


def grid_of(frame: Frame, request: WholeRequest) -> RoiGrid:
    """The slices as a ROI; its spacing is that in the slices."""
    turned = Orientation.of(frame.affine)
    z, y, x = (frame.shape[axis] for axis in turned.order)
    return RoiGrid((z, y, x), request.spacing_mm, (0.0, 0.0, 0.0))


def rois_of(scene: WholeScene, grid: RoiGrid) -> RoiBatch:
    """All of it is to be made. Texture acts in the body, and the guide of a lesion in the lesion: elsewhere
    it would hold the result to the bare levels of a map.
    """
    everywhere = np.ones((1, *grid.shape), bool)
    whole = scene.anatomy.hu if scene.texture_hu is None else scene.texture_hu
    lesion = None if scene.lesion_hu is None else scene.lesion_hu[None]
    coverage = None if scene.coverage is None else scene.coverage[None]
    where = {"reference": (scene.anatomy.labels > 0)[None].astype(np.float32)}
    if coverage is not None:
        where["pathology"] = fade_rim(coverage, grid.spacing_mm)
    followed = Followed(scene.anatomy.hu[None], lesion, coverage, where)
    mask = everywhere.astype(np.float32) if coverage is None else coverage
    return RoiBatch(
        whole[None].astype(np.float32), mask, everywhere, everywhere, None, grid.spacing_mm, own=followed
    )


def guide_slices(request: WholeRequest, scene: WholeScene) -> MDDPMRequest:
    """The same guides for slices; the texture is what stands in the place of a CT."""
    return MDDPMRequest(
        steps=request.steps,
        anatomy=request.anatomy,
        reference=NO_GUIDE if scene.texture_hu is None else request.texture,
        pathology=request.pathology,
        shared_bands=request.shared_bands,
    )


def layout_of(scene: WholeScene, frame: Frame) -> Layout:
    """What is where: the map's structures, and the lesion over them."""
    labels, names = scene.anatomy.labels.copy(), dict(scene.anatomy.names)
    if scene.coverage is not None:
        number = max(names, default=0) + 1
        names[number] = LESION
        labels[scene.coverage >= 0.5 * scene.coverage.max()] = number
    stored = Orientation.of(frame.affine).to_stored(labels)
    return Layout(Volume(np.asfortranarray(stored), frame.affine), names)


def remarks_of(scene: WholeScene, request: WholeRequest, hu: np.ndarray) -> tuple[str, ...]:
    """hu: (Z, Y, X), what came out: how far its labels can be believed, and whose anatomy it shows."""
    said = []
    if not scene.anatomy.lungs.any():
        said.append("The map has no lungs in these slices; the network was trained on slices of lungs alone.")
    else:
        dice = lung_dice(scene.anatomy, hu)
        said.append(f"Lungs of the map and of the result overlap by Dice {dice:.2f}; labels are of the map.")
    fine_mm = request.texture.factor * request.spacing_mm
    if scene.texture_hu is not None and 0 < fine_mm < FINE_MM and request.texture.stop < FREE_SHARE:
        said.append(
            f"The texture CT is followed down to {fine_mm:.0f} mm: the result shows its patient's anatomy, "
            "and labels of the map may not fit it."
        )
    return tuple(said)


def lung_dice(anatomy: AnatomyMap, hu: np.ndarray) -> float:
    """Of the map's lungs and what is as dark as lung within its body."""
    airy = (hu < AIRY_HU) & (anatomy.labels > 0)
    both = np.count_nonzero(airy & anatomy.lungs)
    return 2 * both / max(np.count_nonzero(airy) + np.count_nonzero(anatomy.lungs), 1)


def place_of(
    lesion: OtherLesion, anatomy: AnatomyMap, grid: RoiGrid, request: WholeRequest, seed: int
) -> np.ndarray:
    """(3,) voxels z, y, x: where the lesion's centre goes. InvalidRequest when it fits nowhere."""
    middle = (np.array(grid.shape) - 1) / 2
    if request.lesion_right_mm is not None and request.lesion_front_mm is not None:
        right, front = request.lesion_right_mm / grid.spacing_mm, request.lesion_front_mm / grid.spacing_mm
        centre = middle + np.array([0, front, right])
        if (centre < 0).any() or (centre > np.array(grid.shape) - 1).any():
            raise InvalidRequest(
                f"lesion_right_mm {request.lesion_right_mm:g}, lesion_front_mm {request.lesion_front_mm:g}: "
                f"the slice ends {middle[2] * grid.spacing_mm:.0f} mm from its middle"
            )
        return centre
    depth_mm = ndimage.distance_transform_edt(anatomy.lungs[int(middle[0])], sampling=grid.spacing_mm)
    places = np.argwhere(depth_mm > lesion.radius_mm + FROM_WALL_MM)
    if not len(places):
        raise InvalidRequest(
            f"a lesion of {2 * lesion.radius_mm:.0f} mm has no place within the lungs of this map: give one, "
            "as lesion_right_mm and lesion_front_mm, or send a smaller lesion"
        )
    y, x = places[np.random.default_rng((seed, 2)).integers(len(places))]
    return np.array([middle[0], y, x])


def align(texture: Volume, anatomy: AnatomyMap, grid: RoiGrid, slice_mm: float) -> np.ndarray:
    """(Z, Y, X) float32 HU: another CT's slices, the middle between its lungs on that of the map's.

    Its largest slice of lungs becomes the middle slice. NoLungs when it has none.
    """
    ct = require_ct(texture)
    turned = Orientation.of(ct.affine)
    try:
        lungs = turned.view(segment_lungs(ct).array) > 0
    except NoLungs as error:
        raise NoLungs(f"texture: {error}") from error
    z = int(lungs.sum(axis=(1, 2)).argmax())
    spacing_mm = turned.spacing_mm(ct.spacing_mm)
    theirs = middle(bounding_box(lungs[z : z + 1])) + np.array([z, 0, 0])
    ours = middle(bounding_box(anatomy.lungs)) if anatomy.lungs.any() else (np.array(grid.shape) - 1) / 2
    ours[0] = (grid.shape[0] - 1) / 2
    return Placement(spacing_mm, theirs * spacing_mm, ours, slice_mm).on(grid, turned.view(ct.array))
