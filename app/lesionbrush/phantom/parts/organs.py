"""Body wall, abdomen, mediastinum of the phantom, one function each; HU as after a contrast agent."""

from __future__ import annotations

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import (
    Canvas,
    Path,
    capsule,
    draw_capsule,
    draw_tube,
    ellipse,
    ellipsoid,
    smooth_min,
)
from lesionbrush.phantom.parts.surfaces import (
    AORTA,
    INFERIOR_CAVA,
    PULMONARY_TRUNK,
    RIGHT_PULMONARY_ARTERY,
    SUPERIOR_CAVA,
    Surfaces,
    spine_y,
)

AIR, FAT, MUSCLE, LIVER, BLOOD = -1000.0, -102.0, 58.0, 108.0, 165.0
NECK_VESSELS: tuple[Path, ...] = (
    ((-8, -27, 184, 7), (-14, -22, 205, 6), (-24, -20, 225, 5), (-28, -22, 260, 4.5)),
    ((6, -20, 192, 4.5), (13, -17, 215, 4), (20, -18, 260, 4)),
    ((22, -6, 192, 5.5), (27, 0, 214, 5), (34, -8, 232, 5), (80, -26, 240, 4.5)),
    ((-25, -33, 211, 7.5), (-34, -40, 224, 7), (-40, -40, 260, 6)),
    ((-25, -33, 211, 7), (0, -41, 206, 7), (26, -43, 216, 7), (42, -38, 228, 6.5), (90, -34, 240, 5)),
)
LEFT_ATRIUM_INLETS: tuple[Path, ...] = (
    ((-14, 10, 112, 7), (-30, 4, 122, 6), (-39, -4, 127, 5)),
    ((18, 10, 114, 7), (32, 4, 122, 6), (40, -2, 127, 5)),
)


def draw_table(canvas: Canvas) -> None:
    """A curved carbon-fibre shell around foam."""
    x, y, _ = canvas.grid
    top = y - 121 + (x / 60) ** 2 * 1.6
    board = np.maximum(np.maximum(-top, top - 22), np.abs(x) - 158)
    canvas.paint(board, -380.0)
    canvas.paint(board + 1.6, -940.0)


def draw_body(canvas: Canvas, surfaces: Surfaces, texture: Array) -> None:
    """Skin, subcutaneous fat, muscles with fat in and between them; mediastinal fat in the chest cavity."""
    canvas.paint(surfaces.skin, 20.0)
    canvas.paint(surfaces.skin + 2.2, FAT + 9 * texture)
    canvas.paint(surfaces.muscle, MUSCLE - 70 * np.clip(texture - 1.2, 0, 1.5))
    for depth_mm in (12.5, 24.0):
        plane = np.abs(surfaces.cavity - depth_mm - 2.2 * texture) - 0.75
        canvas.paint(np.maximum(plane, surfaces.muscle + 1), FAT + 10)
    canvas.paint(surfaces.cavity, FAT + 8 + 7 * texture)


def draw_abdomen(canvas: Canvas, surfaces: Surfaces, texture: Array) -> Array:
    """Diaphragm; liver with its veins under the right dome, stomach and spleen under the left one.

    Returns where the liver and its veins are, bool (I, J, K).
    """
    box = canvas.box((-140, -100, -10), (140, 110, 95))
    view, dome, texture = canvas.view(box), surfaces.dome[box], texture[box]
    x, y, z = view.grid
    inside = np.maximum(dome + 1, surfaces.cavity[box] + 3)
    view.paint(np.maximum(inside, np.abs(dome + 2) - 1.6), MUSCLE)
    left_edge = x - 28 + 0.5 * (y + 40) + 0.2 * (z - 40)
    liver = np.maximum(inside + 2.5, np.maximum(left_edge, y - 62 + 0.1 * x))
    view.paint(liver, LIVER + 4 * texture)
    for end in ((-70, 20, 52), (-50, -40, 48), (-95, 0, 40)):
        draw_capsule(view, (-24, 0, 66), end, (5, 2), 150.0)
    view.paint(np.maximum(inside + 3, ellipsoid(view, (88, 42, 14), (30, 34, 44))), 118.0)
    stomach = np.maximum(inside + 3, ellipsoid(view, (56, -14, 12), (42, 40, 44)))
    view.paint(stomach, 62.0)
    view.paint(np.maximum(stomach + 4, -(y + 22)), 30 + 8 * texture)
    view.paint(np.maximum(stomach + 4, y + 22), AIR)
    found = np.zeros(canvas.hu.shape, bool)
    found[box] = (liver < 0) & (stomach > 0)
    return found


def draw_heart(canvas: Canvas) -> None:
    """Muscle of the left ventricle, then the cavities: left and right ventricle, right and left atrium."""
    view = canvas.view(canvas.box((-70, -90, 30), (100, 40, 150)))
    wall = capsule(view, (14, -24, 92), (46, -44, 72), (39, 29))
    view.paint(wall, 98.0)
    view.paint(capsule(view, (26, -22, 90), (50, -40, 74), (22, 14)), BLOOD)
    inflow = capsule(view, (-6, -36, 84), (32, -58, 72), (25, 13))
    outflow = capsule(view, (-4, -44, 92), (12, -50, 116), (18, 13))
    right_ventricle = smooth_min(inflow, outflow, 10)
    view.paint(right_ventricle - 3, 95.0)
    view.paint(np.maximum(right_ventricle, -4 - wall), BLOOD - 8)
    view.paint(capsule(view, (-26, -16, 84), (-24, -16, 106), (21, 19)), BLOOD - 12)
    view.paint(capsule(view, (-10, 6, 110), (14, 6, 111), (15, 16)), BLOOD + 5)


def draw_great_vessels(canvas: Canvas) -> None:
    """Pulmonary arteries up to the hila, veins into the left atrium, caval veins, aorta."""
    for path in (PULMONARY_TRUNK, RIGHT_PULMONARY_ARTERY, *LEFT_ATRIUM_INLETS, INFERIOR_CAVA):
        draw_tube(canvas, path, BLOOD)
    for path in (AORTA, SUPERIOR_CAVA):
        draw_tube(canvas, path, 70.0, thicker_mm=1.0)
        draw_tube(canvas, path, BLOOD + 8)


def draw_neck_vessels(canvas: Canvas) -> None:
    """Brachiocephalic, carotid and subclavian vessels; drawn before the lungs, whose tops they groove."""
    for path in NECK_VESSELS:
        draw_tube(canvas, path, BLOOD + 8)


def draw_gullet(canvas: Canvas) -> None:
    """Oesophagus in front of the spine, with a little air in its middle third."""
    z = np.array((-10.0, 40, 90, 140, 190, 262))
    points = zip(2 + 6 * np.sin(z / 70), spine_y(z) - 23, z, np.full(6, 7.0), strict=True)
    path: Path = tuple((float(x), float(y), float(level), float(r)) for x, y, level, r in points)
    draw_tube(canvas, path, 52.0)
    draw_tube(canvas, path[2:5], -500.0, thicker_mm=-5.6)


def draw_lymph_nodes(canvas: Canvas, generator: np.random.Generator) -> None:
    """A handful of small ones in the mediastinal fat."""
    for centre in generator.uniform((-24, -46, 150), (24, 8, 205), (14, 3)):
        draw_capsule(canvas, centre, centre + generator.normal(0, 2, 3), (2.6, 2.2), 60.0)


def draw_spinal_canal(canvas: Canvas) -> None:
    """Epidural fat, fluid, cord."""
    view = canvas.view(canvas.box((-15, 0, -10), (15, 90, 300)))
    x, y, z = view.grid
    depth = y - spine_y(z) - 23
    view.paint(ellipse(x, depth, (9.2, 8.2)), -20.0)
    view.paint(ellipse(x, depth, (8, 7)), 12.0)
    view.paint(ellipse(x, depth, (4.6, 3.8)), 45.0)
