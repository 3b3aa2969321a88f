"""The way of one lesion into an organ: what is drawn for a try, where it would fit, and the mask there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from lesionbrush.core.boxes import Box
from lesionbrush.core.volume import Array, Volume
from lesionbrush.transfer.fields import depths_in, distances_to
from lesionbrush.transfer.forms import Bend, LesionForm
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.places import (
    SHARE_APART,
    HostOrgan,
    Poking,
    Search,
    Spot,
    draw_places,
    spots_inside,
    spots_poking,
)
from lesionbrush.transfer.relation import Relation
from lesionbrush.transfer.results import Carried, Move

_MIRROR = np.diag((-1.0, 1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Pose:
    """turn: rotation (3, 3), for a lesion that pokes out not yet to the surface; mirror: (3, 3), before it;
    cloud_mm: (P, 3) of the bent form, neither scaled nor turned.
    """

    turn: Array
    mirror: Array
    bend: Bend
    cloud_mm: Array

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.mirror) < 0)


@dataclass(frozen=True, eq=False)
class CarryPlan:
    """What is the same for every try. middle_mm: the corresponding place, None where there is none."""

    form: LesionForm
    relation: Relation | None
    host: HostOrgan
    limits: CarryLimits
    opposite: bool
    organ_scale: float | None
    scale: float
    middle_mm: Array | None

    @classmethod
    def of(
        cls,
        form: LesionForm,
        relation: Relation | None,
        host: HostOrgan,
        limits: CarryLimits,
        opposite: bool,
    ) -> CarryPlan:
        if relation is None:
            return cls(form, None, host, limits, opposite, None, float(np.clip(1, *limits.scale)), None)
        own, other = relation.extent, host.extent
        organ_scale = float(np.cbrt(other.volume_mm3 / own.volume_mm3))
        scale = float(np.clip(organ_scale, *limits.scale))
        away = (form.centre_mm - own.centre_mm) / np.maximum(own.spread_mm, 1e-3) * other.spread_mm
        middle = other.centre_mm + (_MIRROR @ away if opposite else away)
        return cls(form, relation, host, limits, opposite, organ_scale, scale, middle)

    @property
    def poking(self) -> bool:
        return self.relation is not None and self.relation.pokes_out

    def draw_pose(self, generator: np.random.Generator) -> Pose:
        """The same numbers are drawn whatever the lesion is."""
        axis, share, coin = generator.normal(size=3), generator.uniform(), generator.uniform()
        angle = np.deg2rad(self.limits.rotation_deg) * share
        turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
        mirrored = self.opposite or (self.limits.mirror and coin < 0.5)
        bend = Bend.draw(self.form.radius_mm, self.limits.deform, generator)
        mirror = self._mirror() if mirrored else np.eye(3)
        return Pose(np.eye(3) if self.poking else turn, mirror, bend, self.form.points(bend))

    def _mirror(self) -> Array:
        """Left to right; of a lesion that pokes out on the same side, so that it still pokes out that way."""
        if self.opposite or self.relation is None or self.relation.outward is None:
            return _MIRROR
        outward = self.relation.outward
        across = np.cross(outward, np.eye(3)[np.abs(outward).argmin()])
        across /= np.linalg.norm(across)
        mirror: Array = np.eye(3) - 2 * np.outer(across, across)
        return mirror

    def find_spots(self, pose: Pose, search: Search, generator: np.random.Generator) -> list[Spot]:
        places = draw_places(self.host, self.middle_mm, self.limits.shift_mm, generator)
        cloud = pose.cloud_mm @ (self.scale * pose.turn @ pose.mirror).T
        if not self.poking:
            return spots_inside(self.host, cloud, places, pose.turn, self.limits, search)
        assert self.relation is not None
        assert self.relation.outward is not None
        outward = pose.mirror @ self.relation.outward
        poking = Poking(outward, self.relation.outside, self.form.reach_mm * self.scale)
        return spots_poking(self.host, cloud, places, poking, self.limits, search, generator)

    def settle(self, pose: Pose, spot: Spot) -> Carried | None:
        """The lesion drawn there, None if voxels say no to what points said yes to."""
        matrix = self.scale * spot.turn @ pose.mirror
        box, inside = self.form.draw(self.host.organ, spot.centre_mm, matrix, pose.bend)
        if not inside.any() or label(inside, np.ones((3, 3, 3)))[1] != 1:
            return None
        depth = depths_in(self.host.organ.array, box, self.limits.margin_mm, self.host.organ)[inside]
        away = distances_to(self.host.taken, box, self.limits.gap_mm, self.host.organ)[inside]
        outside = float(np.mean(depth == 0))
        if away.min() <= self.limits.gap_mm or not self._lies_well(depth, outside, box, inside):
            return None
        mask = np.zeros(self.host.organ.shape, np.uint8)
        mask[box] = inside
        move = self._move(pose, spot, inside, outside, float(depth.min()))
        return Carried(Volume(mask, self.host.organ.affine), move)

    def _lies_well(self, depth: Array, outside: float, box: Box, inside: Array) -> bool:
        if not self.poking:
            return bool(depth.min() > self.limits.margin_mm)
        assert self.relation is not None
        strange = (self.host.others[box] & inside).any()
        return abs(outside - self.relation.outside) <= SHARE_APART and not strange

    def _move(self, pose: Pose, spot: Spot, inside: Array, outside: float, depth_mm: float) -> Move:
        shift = None if self.middle_mm is None else _triple(spot.centre_mm - self.middle_mm)
        turn = np.arccos(np.clip((np.trace(spot.turn) - 1) / 2, -1, 1))
        return Move(
            scale=self.scale,
            organ_scale=self.organ_scale,
            turn_deg=float(np.rad2deg(turn)),
            mirrored=pose.mirrored,
            bent_mm=pose.bend.most_mm * self.scale,
            shift_mm=shift,
            centre_mm=_triple(spot.centre_mm),
            volume_before_ml=self.form.volume_mm3 / 1000,
            volume_ml=np.count_nonzero(inside) * self.host.organ.voxel_volume_mm3 / 1000,
            outside_before=0.0 if self.relation is None else self.relation.outside,
            outside=outside,
            depth_mm=min(depth_mm, self.limits.margin_mm),
        )


def _triple(values: Array) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
