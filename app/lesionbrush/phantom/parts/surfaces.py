"""The large surfaces of the chest, as signed distances: skin, muscle, rib cage, lungs, diaphragm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import (
    Canvas,
    Path,
    capsule,
    ellipse,
    ellipsoid,
    smooth_min,
    smooth_step,
)

RIB_PITCH_MM = 24.5  # one vertebra and its disc
FIRST_RIB_Z = 10.0
AORTA: Path = (
    (-14, -26, 112, 14.5),
    (-17, -31, 145, 15),
    (-11, -27, 172, 14.5),
    (8, -20, 187, 13.5),
    (23, 1, 186, 13),
    (28, 20, 175, 12.5),
    (26, 30, 155, 12.5),
    (24, 33, 120, 12),
    (19, 33, 80, 11.5),
    (13, 29, 30, 11),
    (10, 27, -4, 10.5),
)
SUPERIOR_CAVA: Path = ((-25, -33, 212, 7.5), (-26, -26, 190, 8.5), (-27, -20, 150, 9), (-26, -16, 122, 10))
INFERIOR_CAVA: Path = ((-22, 8, -4, 12), (-22, 6, 40, 12.5), (-23, -2, 72, 13), (-22, -8, 92, 13))
PULMONARY_TRUNK: Path = (
    (12, -46, 116, 12),
    (15, -36, 138, 13.5),
    (17, -18, 153, 13),
    (26, 0, 160, 11),
    (38, 11, 156, 8.5),
)
RIGHT_PULMONARY_ARTERY: Path = ((16, -22, 150, 11.5), (0, -7, 152, 11), (-20, -4, 151, 10), (-39, 3, 147, 8))


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Signed distances in mm, (I, J, K) float32. dome: the diaphragm, with the abdomen inside."""

    skin: Array
    muscle: Array
    cavity: Array
    lung: Array
    dome: Array


def measure(canvas: Canvas, generator: np.random.Generator) -> Surfaces:
    """All of them, worked out on coarse nodes and interpolated."""
    nodes = canvas.coarse()
    cavity = chest_cavity(nodes) + wobble(nodes, generator)
    chest_wall = cavity - 21 + 60 * smooth_step(185, 225, nodes.grid[2])
    skin = smooth_min(torso(nodes) + wobble(nodes, generator), chest_wall, 16)
    dome = diaphragm(nodes)
    fields = skin, muscle_layer(nodes, cavity, skin), cavity, lungs(nodes, cavity, dome), dome
    return Surfaces(*(canvas.refine(field, nodes) for field in fields))


def spine_y(z: Array) -> Array:
    """Depth of the centres of the vertebral bodies: thoracic kyphosis."""
    return 43 - 24 * ((z - 105) / 140) ** 2


def front_y(z: Array) -> Array:
    """Depth of the inner face of the sternum."""
    return -79 + 32 * smooth_step(130, 250, z)


def azimuth(x: Array, y: Array) -> Array:
    """Angle around the chest: 0 at the spine, pi at the sternum, the same on both sides."""
    return np.arctan2(np.abs(x), y - 2)


def rib_level(z: Array, angle: Array) -> Array:
    """Whole numbers on the centre lines of the ribs, which fall from the spine and rise to the sternum."""
    fall = 84 * smooth_step(0.15, 2.9, angle) - 22 * smooth_step(2.5, 3.1, angle)
    return (z + fall - FIRST_RIB_Z) / RIB_PITCH_MM


def wobble(canvas: Canvas, generator: np.random.Generator) -> Array:
    """What makes one chest differ from the next: a few long waves, some 2 mm high."""
    waves, phases = generator.normal(0, 1 / 38, (6, 3)), generator.uniform(0, 2 * np.pi, 6)
    x, y, z = canvas.grid
    heights = [np.sin(a * x + b * y + c * z + p) for (a, b, c), p in zip(waves, phases, strict=True)]
    return 0.8 * np.sum(heights, axis=0)


def _to_distance(field: Array, nodes: Canvas) -> Array:
    slope = np.sqrt(sum(part**2 for part in np.gradient(field, *nodes.voxel_mm)))
    return field / np.maximum(slope, 0.35)


def torso(canvas: Canvas) -> Array:
    x, y, z = canvas.grid
    half_width = 154 + 6 * smooth_step(110, 200, z) - 6 * smooth_step(90, 0, z)
    front = -101 + 42 * smooth_step(150, 262, z)
    furrow = 5 * np.exp(-((x / 14) ** 2))
    back = 117 - 12 * smooth_step(170, 262, z) - 7 * smooth_step(60, 0, z) - furrow
    middle, half_depth = (front + back) / 2, (back - front) / 2
    power = 2.45
    ring = (np.abs(x) / half_width) ** power + (np.abs(y - middle) / half_depth) ** power
    return _to_distance((ring ** (1 / power) - 1) * half_depth, canvas)


def chest_cavity(canvas: Canvas) -> Array:
    """Inner face of the rib cage: two round hemithoraces and the space between sternum and spine."""
    x, y, z = canvas.grid
    height = np.clip((z - 60) / 181, 0, 1.2)
    narrowing = np.clip(1 - height**2.6, 0, 1) ** (1 / 2.6) * (1 - 0.05 * smooth_step(60, 0, z))
    width, depth = 63 * narrowing + 1, 85 * (0.22 + 0.78 * narrowing)
    centre_x = 40 + 18 * narrowing
    centre_y = spine_y(z) + 47 * (0.4 + 0.6 * narrowing) - depth
    half = np.hypot((np.abs(x) - centre_x) / width, (y - centre_y) / depth)
    front, back = front_y(z) + 2, spine_y(z) - 17
    core = np.hypot(x / 55, (y - (front + back) / 2) / ((back - front) / 2))
    core_field = (core - 1) * 45 + 40 * smooth_step(225, 250, z)
    above_top = np.maximum(height - 1, 0) * 181
    return _to_distance(smooth_min((half - 1) * width, core_field, 18) + above_top, canvas)


def muscle_layer(canvas: Canvas, cavity: Array, skin: Array) -> Array:
    """Intercostals all round; pectorals in front, latissimus at the side, erector spinae at the back."""
    x, y, z = canvas.grid
    angle = azimuth(x, y)
    chest = 14 * np.exp(-(((angle - 2.4) / 0.34) ** 2)) * smooth_step(105, 150, z)
    flank = 17 * np.exp(-(((angle - 1.0) / 0.5) ** 2)) * (0.3 + 0.7 * smooth_step(60, 140, z))
    wall = cavity - (13 + chest + flank + 40 * smooth_step(185, 245, z))
    back = ellipse(np.abs(x) - 26, y - spine_y(z) - 44, (27, 19))
    fat_mm = 12 - 7 * smooth_step(190, 240, z)
    return np.maximum(smooth_min(wall, back, 8), skin + fat_mm)


def diaphragm(canvas: Canvas) -> Array:
    """Two domes, the right one higher over the liver."""
    right = ellipsoid(canvas, (-57, -12, -27), (79, 98, 106))
    left = ellipsoid(canvas, (57, -10, -32), (78, 96, 91))
    return smooth_min(right, left, 30)


def lungs(canvas: Canvas, cavity: Array, dome: Array) -> Array:
    """The rib cage above the diaphragm and beside the mediastinum; they bulge a little between the ribs."""
    x, y, z = canvas.grid
    on_rib = np.cos(2 * np.pi * rib_level(z, azimuth(x, y)))
    return -smooth_min(-(cavity + 2.5 + 0.9 * on_rib), smooth_min(mediastinum(canvas), dome, 8), 6)


def mediastinum(canvas: Canvas) -> Array:
    """Everything between the lungs: heart, spine, gullet, front septum, great vessels, thoracic inlet."""
    x, y, z = canvas.grid
    spine = ellipse(x, y - spine_y(z) - 4, (21, 20))
    gullet = np.hypot(x - 3, (y - spine_y(z) + 24) * 0.8) - 11
    septum = np.abs(x - 4) - 3.5 - 9 * smooth_step(-40, -76, y) + 30 * smooth_step(215, 240, z)
    vessels = ellipse(x + 2, y + 18, (34, 27)) + 40 * smooth_step(140, 105, z)
    inlet_width = 26 + 18 * smooth_step(195, 245, z)
    inlet = (np.hypot(x / inlet_width, (y + 22) / 30) - 1) * 28 + 30 * smooth_step(215, 180, z)
    solid = heart_in_fat(canvas)
    for part in (spine, gullet, np.maximum(septum, y + 10), vessels, inlet):
        solid = smooth_min(solid, part, 10)
    for path in (AORTA, SUPERIOR_CAVA, INFERIOR_CAVA, PULMONARY_TRUNK, RIGHT_PULMONARY_ARTERY):
        for a, b in pairwise(path):
            solid = smooth_min(solid, capsule(canvas, a[:3], b[:3], (a[3] + 2.5, b[3] + 2.5)), 5)
    return solid


def heart_in_fat(canvas: Canvas) -> Array:
    ventricles = capsule(canvas, (-8, -22, 92), (42, -42, 74), (42, 37))
    atria = capsule(canvas, (-8, -18, 96), (10, 2, 112), (44, 28))
    return smooth_min(ventricles, atria, 16)
