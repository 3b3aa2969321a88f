"""The lungs of the phantom: tissue, fissures, vessels, airways. side: +1 is the patient's left, -1 right."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import Canvas, Path, draw_tube
from lesionbrush.phantom.parts.organs import AIR, BLOOD
from lesionbrush.phantom.parts.surfaces import Surfaces
from lesionbrush.phantom.parts.trees import beside, draw_tree, grow_tree

LUNG = -862.0
TRACHEA: Path = ((0, -15, 262, 8.5), (0, -3, 215, 8.5), (0, 6, 180, 8.5), (0, 8, 166, 8.5))
MAIN_BRONCHI: dict[float, Path] = {
    -1.0: ((0, 7, 169, 7.5), (-12, 9, 160, 7), (-26, 11, 152, 6), (-35, 12, 147, 5)),
    1.0: ((0, 7, 169, 7), (14, 9, 157, 6.2), (27, 11, 149, 5.5), (37, 13, 144, 5)),
}
AIRWAY_SUPPLIES = 40  # smaller airways have walls too thin to see


def draw_lung_tissue(canvas: Canvas, surfaces: Surfaces, texture: Array) -> None:
    """Aerated tissue, denser towards the back where it hangs on itself, with the fissures as faint lines."""
    x, y, z = canvas.grid
    tissue = LUNG + 0.28 * y + 13 * texture
    width = canvas.edge_mm
    for side in MAIN_BRONCHI:
        half = canvas.x * side > 0
        for distance in fissures(x[half], y, z, side):
            tissue[half] += np.maximum(1 - np.abs(distance) / width, 0) * (250 / width)
    canvas.paint(surfaces.lung, tissue)


def fissures(x: Array, y: Array, z: Array, side: float) -> list[Array]:
    """Signed distances, mm, positive above: oblique; right also horizontal, in front of the oblique one."""
    bow = 9 * np.cos(x / 38) + 6 * np.sin(y / 31 + side)
    oblique = (z - 118 - 1.02 * y - bow - 4 * side) / 1.43
    if side > 0:
        return [oblique]
    horizontal = z - 116 + 0.32 * y + 0.24 * x - bow - 5 * np.cos(y / 26)
    return [oblique, horizontal + np.where(oblique > 0, 0, 1e3)]


def lobes(points: Array, side: float) -> Array:
    """Lobe of each of the points (N, 3), mm: 0 lower, 1 middle, 2 upper."""
    distances = fissures(points[:, 0], points[:, 1], points[:, 2], side)
    below_all = distances[-1] < 0 if side < 0 else np.zeros(len(points), dtype=bool)
    return np.where(distances[0] < 0, 0, np.where(below_all, 1, 2))


def lung_tips(canvas: Canvas, lung: Array, pitch_mm: float, generator: np.random.Generator) -> Array:
    """Points (N, 3), mm, in both lungs: one in every cube of `pitch_mm`, clear of pleura and fissures."""
    cubes = np.stack(
        np.meshgrid(*(np.arange(a[0], a[-1], pitch_mm) for a in canvas.axes), indexing="ij"), axis=-1
    )
    points = cubes.reshape(-1, 3) + generator.uniform(-0.45, 0.45, (cubes.size // 3, 3)) * pitch_mm
    i, j, k = (
        np.clip(np.searchsorted(axis, column), 0, len(axis) - 1)
        for axis, column in zip(canvas.axes, points.T, strict=True)
    )
    x, y, z = points.T
    gap_mm = np.min([np.abs(d) for side in MAIN_BRONCHI for d in fissures(x, y, z, side)], axis=0)
    return points[(lung[i, j, k] < -2) & (gap_mm > 1.5)]


def draw_lung_trees(canvas: Canvas, lung: Array, generator: np.random.Generator) -> None:
    """Veins, and arteries with the airways beside them, from both hila to the pleura."""
    pitch_mm = max(8.6, 4.2 * canvas.edge_mm)
    tip_radius_mm = 0.082 * pitch_mm
    for side, bronchus in MAIN_BRONCHI.items():
        vein, artery = (
            grow_tree(np.array(hilum), tips, lobes(tips, side), generator)
            for hilum in ((40 * side, -2, 127), (40 * side, 6, 148))
            for tips in [_of_side(lung_tips(canvas, lung, pitch_mm, generator), side)]
        )
        radius_mm = artery.radius_mm(tip_radius_mm)
        draw_tree(canvas, vein, vein.radius_mm(0.95 * tip_radius_mm), BLOOD)
        draw_tree(canvas, artery, radius_mm, BLOOD)
        airway = beside(artery, 1.65 * radius_mm, np.array((0.2 * side, 0.75, -0.6))).trunk(AIRWAY_SUPPLIES)
        bore_mm = airway.radius_mm(0.6 * tip_radius_mm)
        draw_tree(canvas, airway, 1.1 * bore_mm + 0.45, 10.0)
        draw_tube(canvas, bronchus, 30.0, thicker_mm=1.4)
        draw_tree(canvas, airway, bore_mm, AIR)
        draw_tube(canvas, bronchus, AIR)


def _of_side(points: Array, side: float) -> Array:
    return points[points[:, 0] * side > 0]


def draw_trachea(canvas: Canvas) -> None:
    """Drawn last, so that the vessels around it do not fill it, down into both main bronchi."""
    draw_tube(canvas, TRACHEA, 45.0, thicker_mm=1.8)
    draw_tube(canvas, TRACHEA, AIR)
    for bronchus in MAIN_BRONCHI.values():
        draw_tube(canvas, bronchus[:2], AIR)
