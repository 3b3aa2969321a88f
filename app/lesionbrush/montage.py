"""Pictures of CT in radiological convention: patient's right on the left, front or head up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lesionbrush.core.boxes import bounding_box, cut
from lesionbrush.core.surroundings import PLAIN_AIR_HU, Place
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import EmptyMask, InvalidRequest

GAP_PX = 6
TEXT_PX = 13
LINE_PX = TEXT_PX + GAP_PX
Colour = tuple[int, int, int]
CYAN: Colour = (0, 255, 255)
ORANGE: Colour = (255, 160, 40)
WHITE: Colour = (235, 235, 235)
GREY: Colour = (150, 150, 150)
BLACK: Colour = (0, 0, 0)
TINTS = (
    *(BLACK, (235, 90, 80), (250, 200, 60), (90, 150, 250), (190, 110, 230), (90, 200, 120), GREY, GREY),
    *((240, 140, 190), (70, 210, 220), (200, 150, 90), (170, 220, 60), (150, 160, 250), (240, 130, 40)),
)
"""Of labels from 0; what comes after them begins again, with 1. 0 is not tinted."""
TINT_SHARE = 0.35
AERATED_HU = -300
"""Below it, and no plain air: lung."""
LUNG_SHARE = 0.3
"""Of what is no plain air: from here on a lesion is one of the lung, at the pleura too."""
OUTSIDE_HU = -2000  # what is not in the volume: black in every window


@dataclass(frozen=True)
class Window:
    """A display window: level_hu is mid-grey, width_hu the range from black to white."""

    name: str
    level_hu: float
    width_hu: float

    def to_grey(self, hu: Array) -> Array:
        """HU -> uint8, 0 at and below level - width / 2, 255 at and above level + width / 2."""
        fraction = (hu - self.level_hu) / self.width_hu + 0.5
        return np.rint(np.clip(fraction, 0, 1) * 255).astype(np.uint8)

    def __str__(self) -> str:
        return f"{self.name} {self.level_hu:g}/{self.width_hu:g}"


LUNG = Window("lung", -600, 1500)
SOFT = Window("soft tissue", 40, 400)
LIVER = Window("liver", 100, 200)
BONE = Window("bone", 400, 1800)


def windows_for(hu: Array) -> tuple[Window, Window, Window]:
    """The three windows a lesion is looked at in, the first first, by the HU of the tissue around it.

    hu: any shape. Lung begins with the lung window; all else has a soft tissue and a narrow window, where
    nothing is seen in that of the lung. Nothing but air counts as lung.
    """
    tissue = hu[hu >= PLAIN_AIR_HU]
    aerated = np.count_nonzero(tissue < AERATED_HU)
    return (LUNG, SOFT, BONE) if aerated >= LUNG_SHARE * tissue.size else (SOFT, LIVER, BONE)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet.

    hu: (rows, columns) as displayed; spacing_mm: between rows, between columns; caption: above the picture;
    outline: a mask of the shape of hu whose border is drawn; note, badge: lower and upper right corner;
    tint: labels of the shape of hu, in the colours of TINTS; marks: the same, opaque.
    """

    hu: Array
    spacing_mm: tuple[float, float]
    window: Window
    caption: str = ""
    outline: Array | None = None
    note: str = ""
    badge: str = ""
    tint: Array | None = None
    marks: Array | None = None

    def size_px(self, longest_px: int) -> tuple[int, int]:
        """Width and height with square millimetres, the longer side `longest_px`."""
        height_mm, width_mm = np.multiply(self.hu.shape, self.spacing_mm)
        scale = longest_px / max(height_mm, width_mm)
        return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def badge_of(volume: Volume) -> str:
    """What its file says of itself: GENERATED, SYNTHETIC, or nothing."""
    return next((word for word in ("GENERATED", "SYNTHETIC") if word in volume.note), "")


def montage(
    reference: Volume,
    mask: Volume,
    synthetic: Volume,
    *,
    title: str = "",
    field_mm: float | None = 96.0,
    panel_px: int = 320,
) -> Image.Image:
    """The panels of `compare` in three columns. Raises what that raises."""
    panels = compare(reference, mask, synthetic, field_mm=field_mm)
    return sheet(panels, 3, title=title, panel_px=panel_px)


def compare(
    reference: Volume,
    mask: Volume,
    synthetic: Volume,
    *,
    field_mm: float | None = 96.0,
    outlined: str = "mask",
    of_lung: bool = False,
) -> list[Panel]:
    """Reference, reference with the outline of the mask, and synthetic CT, row by row.

    Rows: the axial slice with most of the largest lesion in the three windows of the tissue around it, see
    `windows_for`, then the coronal one in the first of them. field_mm: side of the shown box around the
    lesion, None for whole slices; outlined: what the mask is called, which nobody may have painted; of_lung:
    it is lung that changed, whatever lies around it.

    Raises GeometryMismatch (grids differ), EmptyMask (no voxel) and InvalidRequest (field_mm not above 0).
    """
    reference.require_same_grid(mask, "mask")
    reference.require_same_grid(synthetic, "synthetic CT")
    lesion = _largest_lesion(mask)
    axial, coronal = (_plane_of_lesion(lesion, plane, field_mm) for plane in (AXIAL, CORONAL))
    hu_before, hu_after = (_statistics(volume, mask, outlined) for volume in (reference, synthetic))
    own, made = badge_of(reference), badge_of(synthetic) or "SYNTHETIC"
    windows = (LUNG, SOFT, BONE) if of_lung else windows_for(_surroundings_hu(reference, lesion))
    panels: list[Panel] = []
    for view, window in (*((axial, window) for window in windows), (coronal, windows[0])):
        before = view.panel(reference, window, hu_before)
        after = view.panel(synthetic, window, hu_after)
        outline = replace(before, outline=view.cut(mask, fill=0) > 0, note="")
        panels += [
            replace(before, caption=f"reference, {before.caption}", badge=own),
            replace(outline, caption=f"{outlined}, {before.caption}", badge=own),
            replace(after, caption=f"synthetic, {before.caption}", badge=made),
        ]
    return panels


def _surroundings_hu(reference: Volume, lesion: Volume) -> Array:
    box, spacing_mm = bounding_box(lesion.array), np.array(reference.spacing_mm)
    return Place.of(reference.array, lesion.array, box, spacing_mm).shown_hu


def _statistics(volume: Volume, mask: Volume, outlined: str) -> str:
    inside = volume.array[mask.array > 0]
    return f"{inside.mean():.0f} ± {inside.std():.0f} HU in the {outlined}"


def _largest_lesion(mask: Volume) -> Volume:
    """uint8 mask of its largest connected part."""
    boxes = ndimage.find_objects((mask.array > 0).astype(np.uint8))
    if not boxes:
        raise EmptyMask("the mask is empty: there is no lesion to show")
    parts, _ = ndimage.label(mask.array[boxes[0]])
    largest = np.bincount(parts.ravel(), minlength=2)[1:].argmax() + 1
    lesion = np.zeros(mask.shape, np.uint8)
    lesion[boxes[0]] = parts == largest
    return mask.with_array(lesion)


@dataclass(frozen=True)
class Plane:
    """normal: the axis of an (L, P, S) array across the plane; the picture's rows run along `rows`."""

    name: str
    normal: int
    rows: int
    head_up: bool


AXIAL = Plane("axial", normal=2, rows=1, head_up=False)
CORONAL = Plane("coronal", normal=1, rows=2, head_up=True)


def to_lps(volume: Volume) -> tuple[Array, tuple[float, float, float]]:
    """The array turned (a view) so that its axes run most nearly to the left, back and head; its spacing."""
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt("LPS"))
    spacing_mm = np.empty(3)
    spacing_mm[turn[:, 0].astype(int)] = volume.spacing_mm
    x, y, z = spacing_mm.tolist()
    return apply_orientation(volume.array, turn), (x, y, z)


def upright(plane: Array, normal: int) -> Array:
    """(rows, columns) as displayed, of a plane of `to_lps` across axis `normal`: front or head up, the
    patient's right or front on the left."""
    return plane.T if normal == 2 else plane.T[::-1]


@dataclass(frozen=True)
class View:
    """A slice and the part of it that is shown. centre: row, column in voxels; size: None for all of it."""

    plane: Plane
    index: int
    centre: tuple[float, float]
    size: tuple[int, int] | None

    def cut(self, volume: Volume, fill: float = OUTSIDE_HU) -> Array:
        """(rows, columns) as displayed; `fill` where the part reaches beyond the volume."""
        picture = _slice(to_lps(volume)[0], self.plane, self.index)
        return picture if self.size is None else _crop(picture, self.centre, self.size, fill)

    def panel(self, volume: Volume, window: Window, note: str) -> Panel:
        caption = f"{self.plane.name}, {window}"
        return Panel(self.cut(volume), _spacing(volume, self.plane), window, caption, note=note)


def lesion_view(mask: Volume, field_mm: float | None, plane: Plane = AXIAL) -> View:
    """The slice of a plane with most of the largest lesion of a mask; field_mm as in `montage`."""
    return _plane_of_lesion(_largest_lesion(mask), plane, field_mm)


def _plane_of_lesion(lesion: Volume, plane: Plane, field_mm: float | None) -> View:
    """The slice with most of the lesion, and a box of `field_mm` (more if the lesion is larger) around it."""
    array, _ = to_lps(lesion)
    in_plane = tuple(axis for axis in range(3) if axis != plane.normal)
    index = int(array.sum(axis=in_plane, dtype=np.int64).argmax())
    occupied = np.nonzero(_slice(array, plane, index))
    centre = tuple((axis.min() + axis.max()) / 2 for axis in occupied)
    if field_mm is None:
        return View(plane, index, centre, None)
    if not field_mm > 0:
        raise InvalidRequest(
            f"a field of {field_mm:g} mm shows nothing; give a number above 0, or None for all"
        )
    spacing_mm = _spacing(lesion, plane)
    extent_mm = max(float(np.ptp(axis) + 1) * mm for axis, mm in zip(occupied, spacing_mm, strict=True))
    side_mm = max(field_mm, 1.25 * extent_mm)
    rows, columns = (max(1, round(side_mm / mm)) for mm in spacing_mm)
    return View(plane, index, centre, (rows, columns))


def _spacing(volume: Volume, plane: Plane) -> tuple[float, float]:
    spacing_mm = to_lps(volume)[1]
    return spacing_mm[plane.rows], spacing_mm[0]


def _slice(lps: Array, plane: Plane, index: int) -> Array:
    picture = lps.take(index, axis=plane.normal).T
    return picture[::-1] if plane.head_up else picture


def _crop(picture: Array, centre: tuple[float, float], size: tuple[int, int], fill: float) -> Array:
    starts = [round(middle - (length - 1) / 2) for middle, length in zip(centre, size, strict=True)]
    return cut(picture, starts, size, fill)


def sheet(
    panels: Sequence[Panel],
    columns: int,
    *,
    title: str = "",
    panel_px: int = 256,
    legend: Sequence[tuple[str, Colour]] = (),
) -> Image.Image:
    """Panels row by row in a grid, each fitted into `panel_px` x `panel_px` with square millimetres. RGB.

    legend: words and their colours, below all.
    """
    if columns < 1 or not panels:
        raise InvalidRequest(f"{len(panels)} panels in {columns} columns make no sheet; both must be above 0")
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    caption_px = TEXT_PX + GAP_PX if any(panel.caption for panel in panels) else 0
    heights = [caption_px + max(panel.size_px(panel_px)[1] for panel in row) + GAP_PX for row in rows]
    top = GAP_PX + (TEXT_PX + 2 * GAP_PX if title else 0)
    width = GAP_PX + columns * (panel_px + GAP_PX)
    lines = _wrap(legend, width - GAP_PX)
    bottom = top + sum(heights)
    picture = Image.new("RGB", (width, bottom + len(lines) * LINE_PX))
    draw = ImageDraw.Draw(picture)
    draw.text((GAP_PX, GAP_PX), title, WHITE, font=_font())
    for panel, (column, y) in zip(panels, _cells(heights, columns, top), strict=False):
        x = GAP_PX + column * (panel_px + GAP_PX)
        draw.text((x, y), panel.caption, GREY, font=_font())
        drawn = draw_panel(panel, panel_px)
        picture.paste(drawn, (x + (panel_px - drawn.width) // 2, y + caption_px))
    for row, line in enumerate(lines):
        for x, word, colour in line:
            draw.text((x, bottom + row * LINE_PX), word, colour, font=_font())
    return picture


def _wrap(legend: Sequence[tuple[str, Colour]], width_px: int) -> list[list[tuple[int, str, Colour]]]:
    """Lines of words, each with where it begins."""
    lines: list[list[tuple[int, str, Colour]]] = []
    x = width_px
    for word, colour in legend:
        long_px = round(_font().getlength(word))
        if x + long_px > width_px:
            lines.append([])
            x = GAP_PX
        lines[-1].append((x, word, colour))
        x += long_px + 3 * GAP_PX
    return lines


def _cells(heights: Sequence[int], columns: int, top: int) -> Iterator[tuple[int, int]]:
    """Column number and upper edge, row by row."""
    for height in heights:
        yield from ((column, top) for column in range(columns))
        top += height


def draw_panel(panel: Panel, longest_px: int) -> Image.Image:
    """The picture of one panel: bicubic in HU, windowed, with outline, scale bar and corner texts. RGB."""
    size = panel.size_px(longest_px)
    rgb = np.repeat(panel.window.to_grey(_resize(panel.hu, size))[:, :, None], 3, axis=2)
    for labels, share in ((panel.tint, TINT_SHARE), (panel.marks, 1.0)):
        rgb = rgb if labels is None else _tinted(rgb, labels, size, share)
    if panel.outline is not None:
        shown = Image.fromarray(panel.outline.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        rgb[_border(np.asarray(shown) > 0)] = CYAN
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    _scale_bar(draw, picture, px_per_mm=size[0] / (panel.hu.shape[1] * panel.spacing_mm[1]))
    _text(draw, (size[0] - 5, size[1] - 7), panel.note, WHITE, "rs")
    _text(draw, (size[0] - 5, 5), panel.badge, ORANGE, "rt")
    return picture


def _resize(hu: Array, size: tuple[int, int]) -> Array:
    """Bicubic, and black outside the volume. Tissue there goes on as it is at the border while it is resized:
    beside -2000 HU it would be drawn too bright."""
    outside = hu <= OUTSIDE_HU
    if outside.any() and not outside.all():
        hu = hu[tuple(ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True))]
    resized = np.array(Image.fromarray(hu.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    black = Image.fromarray(outside.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    resized[np.asarray(black) > 0] = OUTSIDE_HU
    return resized


def _tinted(rgb: Array, labels: Array, size: tuple[int, int], share: float) -> Array:
    shown = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    colours = np.array(TINTS)[np.where(shown > 0, 1 + (shown - 1) % (len(TINTS) - 1), 0)]
    mixed: Array = np.where(shown[..., None] > 0, (1 - share) * rgb + share * colours, rgb).astype(np.uint8)
    return mixed


def _border(mask: Array) -> Array:
    """The pixels of the mask that touch a pixel outside it."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def _scale_bar(draw: ImageDraw.ImageDraw, picture: Image.Image, px_per_mm: float) -> None:
    """A bar of the longest round number of mm within a quarter of the width, lower left."""
    lengths = [mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm * px_per_mm <= picture.width / 4]
    if not lengths:
        return
    y = picture.height - 6
    length_px = round(lengths[-1] * px_per_mm)
    draw.rectangle((4, y - 1, 5 + length_px, y + 1), BLACK)
    draw.line([(5, y), (4 + length_px, y)], WHITE)
    _text(draw, (5, y - 4), f"{lengths[-1]} mm", WHITE, "ls")


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: Colour, anchor: str) -> None:
    """With a dark rim, so that it can be read on white tissue."""
    draw.text(at, text, colour, font=_font(), anchor=anchor, stroke_width=2, stroke_fill=BLACK)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=TEXT_PX)
