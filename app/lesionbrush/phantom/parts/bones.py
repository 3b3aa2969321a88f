"""The skeleton of the chest phantom, one function each."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import Canvas, Path, draw_tube, ellipse, smooth_step
from lesionbrush.phantom.parts.surfaces import RIB_PITCH_MM, Surfaces, azimuth, front_y, rib_level, spine_y

MARROW, CORTEX, CARTILAGE = 170.0, 950.0, 95.0


def draw_ribs(canvas: Canvas, surfaces: Surfaces, texture: Array, generator: np.random.Generator) -> None:
    """Ribs from the spine down and round to their cartilages, found in the shell around the chest cavity."""
    shell = np.nonzero((surfaces.cavity > 1) & (surfaces.cavity < 15))
    x, y, z = (axis[index] for axis, index in zip(canvas.axes, shell, strict=True))
    out_mm, angle, grain = surfaces.cavity[shell], azimuth(x, y), texture[shell]
    level = rib_level(z + 1.5 * np.sign(x), angle)
    number = np.clip(np.round(level), -2, 9).astype(int)
    up_mm = (level - number) * RIB_PITCH_MM + generator.uniform(-1.2, 1.2, 12)[number + 2]
    rib = np.maximum(ellipse(up_mm, out_mm - 7, (6.6, 3.6)), 19 - np.abs(x))
    beyond_end_mm = (angle - 2.62) * 90
    strip = Canvas(canvas.hu[shell], *canvas.axes, canvas.voxel_mm)
    strip.paint(np.maximum(rib + 0.8, -beyond_end_mm), CARTILAGE + 120 * np.clip(grain - 1, 0, 2))
    strip.paint(np.maximum(rib, beyond_end_mm), CORTEX)
    strip.paint(np.maximum(rib + 1.5, beyond_end_mm + 2), MARROW + 60 * grain)
    canvas.hu[shell] = strip.hu


def draw_spine(canvas: Canvas, texture: Array) -> None:
    """Discs, vertebral bodies with end plates, and the arches behind them."""
    box = canvas.box((-48, -10, -10), (48, 125, 300))
    view, texture = canvas.view(box), texture[box]
    x, y, z = view.grid
    depth = y - spine_y(z)
    level = (z - 22) / RIB_PITCH_MM
    height = (level - np.round(level)) * RIB_PITCH_MM
    waist = 2.2 * (1 - (height / 10) ** 2)
    column = (np.hypot(x / (17.5 - waist), (depth + 1) / (14.5 - waist)) - 1) * 15
    canal = ellipse(x, depth - 24, (10, 13))
    disc = np.maximum(column, -canal)
    view.paint(disc, 82.0)
    for bone, shell_mm in ((np.maximum(disc, np.abs(height) - 10.2), 1.0), (_arch(x, depth, height), 1.3)):
        view.paint(bone, 620.0)
        view.paint(bone + shell_mm, MARROW + 25 * texture)


def _arch(x: Array, depth: Array, height: Array) -> Array:
    """Pedicles, laminae, processes. depth, height: mm behind and above the centre of the body."""
    ring = np.abs(ellipse(x, depth - 23, (12.5, 11.5))) - 2.6
    pedicles = np.maximum(np.maximum(ring, np.abs(height - 4) - 6.5), 14 - depth)
    laminae = np.maximum(np.maximum(ring, np.abs(height + 0.6 * (depth - 30)) - 9), 22 - depth)
    downward = np.abs(height + 0.75 * (depth - 34) - 4) - 6.5
    spinous = np.maximum(np.maximum(np.abs(x) - 2.6, downward), np.maximum(34 - depth, depth - 62))
    backward = depth - 22 - 0.45 * (np.abs(x) - 12)
    transverse = np.hypot(height - 5 + 0.1 * np.abs(x), 0.9 * backward) - 4.6
    transverse = np.maximum(transverse, np.maximum(11 - np.abs(x), np.abs(x) - 33))
    return np.minimum(np.minimum(pedicles, laminae), np.minimum(spinous, transverse))


def draw_sternum(canvas: Canvas, texture: Array) -> None:
    """Manubrium, body and xiphoid in one plate that follows the front of the chest."""
    box = canvas.box((-45, -110, 50), (45, -30, 240))
    view, texture = canvas.view(box), texture[box]
    x, y, z = view.grid
    body = 6 + 11 * smooth_step(62, 110, z) - 5 * smooth_step(120, 170, z)
    half_width = body + 17 * smooth_step(172, 200, z)
    plate = np.hypot(np.maximum(np.abs(x) - half_width + 4.5, 0), y - front_y(z) + 6) - 4.8
    bone = np.maximum(plate, np.abs(z - 138) - 74)
    view.paint(bone, 520.0)
    view.paint(bone + 1.1, MARROW - 60 + 40 * texture)
    view.paint(np.maximum(bone, np.abs(z - 174) - 1.5), CARTILAGE)


def draw_shoulders(canvas: Canvas, surfaces: Surfaces) -> None:
    """Shoulder blades with their spines, heads of the humeri with the arms raised, collar bones."""
    draw_shoulder_blades(canvas, surfaces)
    for side in (-1.0, 1.0):
        draw_limb_bone(canvas, side, ((84, 62, 196, 4.5), (104, 44, 212, 6), (118, 26, 224, 9)))
        draw_limb_bone(canvas, side, ((52, 78, 196, 2.4), (84, 76, 208, 3.4), (122, 44, 238, 5)))
        draw_limb_bone(canvas, side, ((132, 8, 226, 19), (140, 2, 246, 16), (146, -4, 280, 12)))
        collar_bone: Path = ((20, -54, 208, 8), (48, -56, 219, 6), (86, -30, 236, 5.5), (120, 0, 246, 6))
        draw_limb_bone(canvas, side, collar_bone)


def draw_shoulder_blades(canvas: Canvas, surfaces: Surfaces) -> None:
    """A plate between the muscles of the back that widens upwards."""
    box = canvas.box((-170, -30, 100), (170, 130, 230))
    view, cavity = canvas.view(box), surfaces.cavity[box]
    x, y, z = view.grid
    angle = azimuth(x, y)
    outward = 15 + 9 * np.clip(angle - 0.6, 0, 0.8) + 5 * smooth_step(190, 225, z)
    border = np.maximum(0.55 - angle, angle - (0.72 + 0.55 * smooth_step(100, 205, z))) * 100
    blade = np.maximum(np.abs(cavity - outward) - 1.9, border)
    blade = np.maximum(blade, np.maximum(104 - z, z - 226))
    view.paint(blade, 760.0)
    view.paint(blade + 1.3, MARROW + 100)


def draw_limb_bone(canvas: Canvas, side: float, path: Path) -> None:
    """A tube of cortex around marrow; `path` is given for the left side (+1)."""
    sided: Path = tuple((side * x, y, z, radius) for x, y, z, radius in path)
    draw_tube(canvas, sided, CORTEX - 150)
    draw_tube(canvas, sided, MARROW - 60, thicker_mm=-1.7)
