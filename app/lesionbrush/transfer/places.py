"""Places in an organ where a lesion would fit, looked for with a cloud of points. Positions are RAS mm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from lesionbrush.core.volume import Array, Volume
from lesionbrush.transfer.fields import Extent, MmField, depth_field, distance_field
from lesionbrush.transfer.limits import CarryLimits

SHARE_APART = 0.1
"""How far the share outside may stray from what it is in the lesion's own organ."""
_DRAWN, _LOOKED_AT = 6000, 400
_NEARLY_BACK = -0.99


@dataclass(frozen=True, eq=False)
class MeasuredOrgan:
    """What lesions do not change. organ: not 0 in it; others: bool, other organs, on its grid."""

    organ: Volume
    others: Array

    @cached_property
    def extent(self) -> Extent:
        return Extent.of(self.organ)

    @cached_property
    def depth(self) -> MmField:
        return depth_field(self.organ)


@dataclass(frozen=True, eq=False)
class HostOrgan:
    """Where lesions are to go. taken: bool, other lesions, on the grid of the organ."""

    measured: MeasuredOrgan
    taken: Array

    @classmethod
    def of(cls, organ: Volume, taken: Array | None = None, others: Array | None = None) -> HostOrgan:
        """organ, taken, others: not 0 inside."""
        nothing = np.zeros(organ.shape, bool)
        measured = MeasuredOrgan(organ, nothing if others is None else others > 0)
        return cls(measured, nothing if taken is None else taken > 0)

    @property
    def organ(self) -> Volume:
        return self.measured.organ

    @property
    def others(self) -> Array:
        return self.measured.others

    @property
    def extent(self) -> Extent:
        return self.measured.extent

    @property
    def depth(self) -> MmField:
        return self.measured.depth

    @cached_property
    def away(self) -> MmField:
        """From other lesions, in mm."""
        return distance_field(self.taken, self.organ, self.organ.array)

    def is_free(self, points_mm: Array, gap_mm: float) -> Array:
        """(N,) bool: whether all of points (N, P, 3) are further than that from other lesions."""
        if not self.taken.any():
            return np.ones(len(points_mm), bool)
        free: Array = self.away.at(points_mm).min(axis=1) > gap_mm
        return free

    def holds(self, points_mm: Array) -> Array:
        """(...) bool: whether points (..., 3) lie in the volume and in no other organ."""
        to_index = np.linalg.inv(self.organ.affine)
        index = np.rint(points_mm @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        inside: Array = ((index >= 0) & (index < self.organ.shape)).all(axis=-1)
        i, j, k = np.moveaxis(np.where(inside[..., None], index, 0), -1, 0)
        return inside & ~self.others[i, j, k]


@dataclass(frozen=True, eq=False)
class Spot:
    """A place, (3,), and how the lesion lies there: `turn` (3, 3) is a rotation."""

    centre_mm: Array
    turn: Array


@dataclass
class Search:
    """What was seen while no place was found. taken: would fit but for other lesions or organs; margin_mm:
    the best one; apart: how far the nearest share outside was from the one wanted.
    """

    looked_at: int = 0
    taken: int = 0
    margin_mm: float = -np.inf
    apart: float = np.inf


def draw_places(
    host: HostOrgan, middle_mm: Array | None, shift_mm: float, generator: np.random.Generator
) -> Array:
    """(N, 3) points within `shift_mm` of the middle, or anywhere in and around the organ where it is None.

    They are drawn in the patient, not among voxels: another grid of the same organ gives the same ones.
    """
    low, high = host.extent.low_mm, host.extent.high_mm
    unit = generator.uniform(size=(_DRAWN, 3))
    if middle_mm is None:
        return low + unit * (high - low)
    low, high = np.maximum(low, middle_mm - shift_mm), np.minimum(high, middle_mm + shift_mm)
    if (low > high).any():
        return np.zeros((0, 3))
    points = low + unit * (high - low)
    return points[np.linalg.norm(points - middle_mm, axis=1) <= shift_mm + 1e-9]


def spots_inside(
    host: HostOrgan, cloud_mm: Array, places: Array, turn: Array, limits: CarryLimits, search: Search
) -> list[Spot]:
    """Where the cloud, (P, 3) from its centre and already turned, lies in the organ with its margin."""
    places = places[host.depth.at(places) > 0][:_LOOKED_AT]
    points = places[:, None] + cloud_mm
    margin = host.depth.at(points).min(axis=1)
    free = host.is_free(points, limits.gap_mm)
    fits = margin > limits.margin_mm
    search.looked_at += len(places)
    search.taken += int((fits & ~free).sum())
    search.margin_mm = max(search.margin_mm, margin.max(initial=-np.inf))
    return [Spot(place, turn) for place in places[fits & free]]


@dataclass(frozen=True, eq=False)
class Poking:
    """A lesion that pokes out. outward: (3,) of length 1, before any turn; outside: the share beyond the
    surface; reach_mm: of its furthest point from its middle.
    """

    outward: Array
    outside: float
    reach_mm: float


def spots_poking(  # noqa: PLR0913, as many as for a lesion inside
    host: HostOrgan,
    cloud_mm: Array,
    places: Array,
    poking: Poking,
    limits: CarryLimits,
    search: Search,
    generator: np.random.Generator,
) -> list[Spot]:
    """Where the cloud, not yet turned, pokes out as far as it did, once it is turned to the surface there."""
    places = places[np.abs(host.depth.at(places)) < poking.reach_mm]
    facing = host.depth.blurred(poking.reach_mm / 2).fall_at(places)
    angle = np.arccos(np.clip(facing @ poking.outward, -1, 1))
    alike = np.flatnonzero(angle <= min(np.deg2rad(limits.rotation_deg), np.arccos(_NEARLY_BACK)) + 1e-9)
    alike = alike[:_LOOKED_AT]
    rest = np.deg2rad(limits.rotation_deg) - angle[alike]
    spin = np.maximum(rest, 0) * generator.uniform(-1, 1, len(alike))
    places, facing = places[alike], facing[alike]
    turns = Rotation.from_rotvec(facing * spin[:, None]).as_matrix() @ _onto(poking.outward, facing)
    points = places[:, None] + np.einsum("nij,pj->npi", turns, cloud_mm)
    beyond = host.depth.at(points) <= 0
    apart = np.abs(beyond.mean(axis=1) - poking.outside)
    free = host.is_free(points, limits.gap_mm) & host.holds(points).all(axis=1)
    fits = apart <= SHARE_APART
    search.looked_at += len(places)
    search.taken += int((fits & ~free).sum())
    search.apart = min(search.apart, apart.min(initial=np.inf))
    return [Spot(place, turn) for place, turn in zip(places[fits & free], turns[fits & free], strict=True)]


def _onto(outward: Array, facing: Array) -> Array:
    """(N, 3, 3): the shortest rotations of `outward`, (3,), onto `facing`, (N, 3); all of length 1."""
    cosine = facing @ outward
    axis = np.cross(outward, facing)
    x, y, z = axis.T
    nothing = np.zeros_like(x)
    cross = np.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], axis=-1).reshape(-1, 3, 3)
    turns: Array = np.eye(3) + cross + cross @ cross / (1 + cosine)[:, None, None]
    return turns
