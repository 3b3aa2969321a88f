"""Lobes and spicules, drawn into the mask that a model is to fill.

Readers' scores alone hardly move the border of a small network's lesion; the shape of its mask does. Arrays
are (z, y, x) on the ROI, places and lengths in mm along these axes; nothing grows beyond the edit region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.stats import norm

from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

CREASE_SHARE, ROOM_SHARE = 0.33, 1.2
"""From the crest of a lobe to the crease beside it, at most: shares of the lesion's radius and of the room
that there is around it, or the edit region would cut the lobes flat."""
LEAST_LOBES, MOST_LOBES = 4, 9
ROOT_RADIUS_MM, TIP_RADIUS_MM, ROOT_MM = 1.2, 0.3, 3.0
TILT = 0.3
AREA_PER_SPICULE_MM2, MOST_SPICULES = 12.0, 80
SOFT_MM, SHARP_MARGIN = 1.3, 0.75
"""Standard deviation of the blur of the worst margin, and the degree from which on none is blurred."""
PATCH_MM, LEAST_SOFT = 3.0, 0.4
"""A poor margin is poorer here and there: over so many mm, and nowhere better than this share of the worst.
"""
AROUND_DRAWN_MM = 2.0
"""Beyond the margin, so much around spicules and lobes is made anew; the rest of the lung there stays."""
CLEAR_MM = 0.5
"""What is drawn ends this far inside the edit region."""


@dataclass(frozen=True)
class Shape:
    """How much of each is drawn, 0 to 1. softness: of the border; 0 leaves it as it is."""

    lobulation: float = 0.0
    spiculation: float = 0.0
    softness: float = 0.0


def choose_shape(request: SynthesisRequest) -> Shape:
    """What is drawn into the mask for a request."""
    wish = request.attributes
    if wish.lesion == "none" or not request.draw_shape:
        return Shape()
    margin = SHARP_MARGIN if wish.margin is None else wish.margin
    softness = max(0.0, 1 - margin / SHARP_MARGIN)
    return Shape(wish.lobulation or 0.0, wish.spiculation or 0.0, softness)


@dataclass(frozen=True, eq=False)
class Body:
    """The lesion as it was painted. distance_mm: to its surface, negative inside; room_mm: to where what is
    drawn has to end."""

    coverage: np.ndarray
    distance_mm: np.ndarray
    room_mm: np.ndarray
    spacing_mm: float

    @classmethod
    def of(cls, coverage: np.ndarray, editable: np.ndarray, spacing_mm: float) -> Body:
        inside = coverage >= 0.5 * coverage.max()
        outside_mm, depth_mm, room_mm = (
            ndimage.distance_transform_edt(where, sampling=spacing_mm)
            for where in (~inside, inside, editable)
        )
        distance = np.where(inside, 0.5 * spacing_mm - depth_mm, outside_mm - 0.5 * spacing_mm)
        return cls(coverage.astype(np.float64), distance, room_mm - CLEAR_MM, spacing_mm)

    @property
    def radius_mm(self) -> float:
        return ball_radius_mm(self.coverage, self.spacing_mm)

    def cover(self, distance_mm: np.ndarray) -> np.ndarray:
        """Share of each voxel that lies below a signed distance of 0, were the surface flat there."""
        return np.clip(0.5 - distance_mm / self.spacing_mm, 0, 1)


@dataclass(frozen=True, eq=False)
class Drawn:
    """(Z, Y, X) float32, 0..1, or (B, Z, Y, X) of several.

    mask: coverage of the new outline; dense: where it is to be as dense as the lesion: all of a spicule, from
    its root deep inside, and what lobes add; strands: the spicules of these.
    """

    mask: np.ndarray
    dense: np.ndarray
    strands: np.ndarray

    @classmethod
    def plain(cls, coverage: np.ndarray) -> Drawn:
        """(Z, Y, X) coverage of an outline, and nothing more."""
        return cls(coverage, np.zeros_like(coverage), np.zeros_like(coverage))

    @classmethod
    def stack(cls, items: Sequence[Drawn]) -> Drawn:
        return cls(
            *(np.stack([getattr(item, name) for item in items]) for name in ("mask", "dense", "strands"))
        )

    def of(self, items: Sequence[int]) -> Drawn:
        chosen = list(items)
        return Drawn(self.mask[chosen], self.dense[chosen], self.strands[chosen])


def draw_shape(
    coverage: np.ndarray, editable: np.ndarray, spacing_mm: float, shape: Shape, rng: np.random.Generator
) -> Drawn:
    """The mask with lobes, spicules and a soft border; for strengths of 0 the very same array.

    coverage: (Z, Y, X) of the painted mask, 0..1; editable: bool, where the CT may change. Lobes and softness
    keep the volume, unless the edit region ends too soon for them; spicules add to it.
    """
    if shape == Shape() or not coverage.any():
        return Drawn.plain(coverage)
    body = Body.of(coverage, editable, spacing_mm)
    kept = np.clip(body.room_mm / spacing_mm, 0, 1)
    mask, strands = body.coverage, np.zeros_like(body.coverage)
    if shape.lobulation:
        mask = _lobulate(body, shape.lobulation, rng)
    if shape.softness:
        mask = _soften(mask, SOFT_MM * shape.softness / spacing_mm, PATCH_MM / spacing_mm, rng)
    if shape.spiculation:
        strands = np.minimum(_spicules(body, shape.spiculation, rng), kept)
    grown = np.maximum(body.coverage, np.minimum(mask, kept))
    mask = np.maximum(np.where(mask > body.coverage, grown, mask), strands)
    dense = np.maximum(strands, np.clip(mask - body.coverage, 0, 1))
    return Drawn(*(array.astype(np.float32) for array in (mask, dense, strands)))


def ball_radius_mm(coverage: np.ndarray, spacing_mm: float) -> float:
    """Of the ball of this volume. coverage: (Z, Y, X), 0..1."""
    return float((3 * coverage.sum() / (4 * np.pi)) ** (1 / 3) * spacing_mm)


def find_deepest(coverage: np.ndarray) -> np.ndarray:
    """(B, Z, Y, X) coverage where it is almost the highest of its lesion, 0 elsewhere."""
    highest = coverage.max(axis=(1, 2, 3), keepdims=True)
    return np.where(coverage >= 0.9 * highest, coverage, 0)


def move_outline(coverage: np.ndarray, spacing_mm: float, outwards_mm: float) -> np.ndarray:
    """(Z, Y, X) coverage of a mask whose surface lies `outwards_mm` further out, or in if negative."""
    if not outwards_mm or not coverage.any():
        return coverage
    body = Body.of(coverage, np.ones(coverage.shape, bool), spacing_mm)
    change = body.cover(body.distance_mm - outwards_mm) - body.cover(body.distance_mm)
    return np.clip(coverage + change, 0, 1).astype(np.float32)


def _lobulate(body: Body, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The surface moved out around random directions and in between them: bulges that meet in creases."""
    centre = np.array(ndimage.center_of_mass(body.coverage))
    offset = np.moveaxis(np.indices(body.coverage.shape), 0, -1) - centre
    directions = offset / np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-6)
    count = int(np.clip(round(LEAST_LOBES + body.radius_mm / 3), LEAST_LOBES, MOST_LOBES))
    nearest = (directions @ _spread_directions(count, rng).T).max(axis=-1)
    surface = np.abs(body.distance_mm) <= body.spacing_mm
    low, high = np.percentile(nearest[surface], [2, 98])
    depth_mm = min(
        CREASE_SHARE * body.radius_mm, ROOM_SHARE * max(float(np.median(body.room_mm[surface])), 0)
    )
    height_mm = strength * depth_mm * (nearest - high) / max(high - low, 1e-6)
    moved = body.distance_mm - height_mm
    return _swap(body, moved - _level(body, moved))


def _soften(mask: np.ndarray, sigma: float, patch: float, rng: np.random.Generator) -> np.ndarray:
    """The mask with a blurred border, more here and less there. sigma, patch: in voxels."""
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), patch)
    share = LEAST_SOFT + (1 - LEAST_SOFT) * norm.cdf(noise / max(float(noise.std()), 1e-9))
    blurred: np.ndarray = mask + share * (ndimage.gaussian_filter(mask, sigma) - mask)
    return blurred


def _level(body: Body, moved_mm: np.ndarray) -> float:
    """How far to move a surface so that the volume is as it was; by bisection."""
    wanted, low, high = body.cover(body.distance_mm).sum(), -20.0, 20.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if body.cover(moved_mm - middle).sum() < wanted else (low, middle)
    return (low + high) / 2


def _swap(body: Body, distance_mm: np.ndarray) -> np.ndarray:
    """The coverage of the new surface; where it lies where it lay, the painted coverage itself."""
    old, new = body.cover(body.distance_mm), body.cover(distance_mm)
    moved = np.clip(np.abs(distance_mm - body.distance_mm) / body.spacing_mm, 0, 1)
    return np.clip(new + (1 - moved) * (body.coverage - old), 0, 1)


def _spicules(body: Body, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Coverage of thin strands that taper from the surface towards the edit border."""
    places = np.moveaxis(np.indices(body.coverage.shape), 0, -1) * body.spacing_mm
    out = np.zeros_like(body.coverage)
    for root, tip in _axes(body, strength, rng):
        box = tuple(
            slice(max(0, int((min(a, b) - 3) / body.spacing_mm)), int((max(a, b) + 3) / body.spacing_mm) + 2)
            for a, b in zip(root, tip, strict=True)
        )
        out[box] = np.maximum(out[box], _cone(body, places[box], (root, tip), strength))
    return out


def _axes(body: Body, strength: float, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(root, tip) of each spicule in mm, from random places of the surface about along its normal."""
    smooth = ndimage.gaussian_filter(body.distance_mm, 1.0)
    normals = np.stack(np.gradient(smooth), -1)
    surface = np.argwhere((np.abs(body.distance_mm) <= 0.6 * body.spacing_mm) & (body.room_mm > 1.0))
    area_mm2 = 4 * np.pi * body.radius_mm**2
    count = min(MOST_SPICULES, max(6, round(area_mm2 / AREA_PER_SPICULE_MM2)))
    for place in surface[rng.permutation(len(surface))[: round(count * (0.4 + 0.6 * strength))]]:
        normal = normals[tuple(place)]
        way = normal / max(float(np.linalg.norm(normal)), 1e-6) + TILT * rng.normal(size=3)
        way /= np.linalg.norm(way)
        length_mm = body.room_mm[tuple(place)] * strength * rng.uniform(0.7, 1.0)
        start = place * body.spacing_mm
        yield start - ROOT_MM * way, start + length_mm * way


def _cone(body: Body, places: np.ndarray, ends: tuple[np.ndarray, np.ndarray], strength: float) -> np.ndarray:
    """Coverage of a strand from root to tip whose radius falls evenly; thinner than a voxel, it fades."""
    root, tip = ends
    axis = tip - root
    length = float(np.linalg.norm(axis))
    along = np.clip((places - root) @ (axis / length) / length, 0, 1)
    apart: np.ndarray = np.linalg.norm(places - root - along[..., None] * axis, axis=-1)
    thick_mm = ROOT_RADIUS_MM * (0.6 + 0.4 * strength)
    radius_mm = thick_mm + along * (TIP_RADIUS_MM - thick_mm)
    filled = np.minimum(1, np.pi * radius_mm**2 / body.spacing_mm**2)
    return body.cover(apart - np.maximum(radius_mm, 0.5 * body.spacing_mm)) * filled


def _spread_directions(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) unit vectors, about evenly over the sphere (a Fibonacci lattice), turned and jittered."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    lattice = np.stack((np.cos(polar), np.sin(polar) * np.sin(turn), np.sin(polar) * np.cos(turn)), -1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    jittered = lattice @ rotation + 0.25 * rng.normal(size=(count, 3))
    return jittered / np.linalg.norm(jittered, axis=-1, keepdims=True)
