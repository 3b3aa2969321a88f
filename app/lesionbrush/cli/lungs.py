"""Find both lungs of a chest CT: a mask with 1 in the patient's right lung and 2 in the left."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from PIL import Image

from lesionbrush.anatomy.lungs import LEFT, RIGHT, Lungs, find_lungs
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, require_room, save_picture
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.montage import LUNG, Panel, sheet, to_lps, upright

AXIAL_SLICES, OTHER_SLICES = 8, 4


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT", help="a file, or the folder of a DICOM series")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the mask, a new file")
    parser.add_argument("--montage", type=Path, metavar="PNG", help="slices in three planes with the outline")


def run(options: Namespace) -> int:
    check_outputs([Output(options.out, VOLUME, new=True), *pictures(options.montage)], [options.ct])
    ct = require_ct(read_volume(options.ct))
    require_room([options.out], ct.array.size)
    lungs = find_lungs(ct)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_volume(lungs.labels, options.out)
    print(f"{options.out}  (right {lungs.right_ml:.0f} ml, left {lungs.left_ml:.0f} ml)")
    for remark in lungs.remarks:
        print(f"remark: {remark}")
    if options.montage:
        save_picture(picture(ct, lungs), options.montage)
        print(options.montage)
    return 0


def picture(ct: Volume, lungs: Lungs, panel_px: int = 256) -> Image.Image:
    """Slices through the lungs, outlined, in three planes: axial, then coronal, then sagittal rows."""
    hu, spacing_mm = to_lps(ct)
    labels, _ = to_lps(lungs.labels)
    box = bounding_box(labels)
    panels: list[Panel] = []
    for name, normal, count in (
        ("axial", 2, AXIAL_SLICES),
        ("coronal", 1, OTHER_SLICES),
        ("sagittal", 0, OTHER_SLICES),
    ):
        rows, columns = [axis for axis in (2, 1, 0) if axis != normal]
        places = np.linspace(box[normal].start, box[normal].stop - 1, count + 2)[1:-1].round().astype(int)
        for index in places:
            shown, outline = (upright(array.take(index, normal), normal) for array in (hu, labels))
            caption = f"{name} {index + 1}, {LUNG}"
            pixel_mm = (spacing_mm[rows], spacing_mm[columns])
            panels.append(Panel(shown, pixel_mm, LUNG, caption, _with_border_between(outline)))
    title = f"right lung {lungs.right_ml:.0f} ml, left lung {lungs.left_ml:.0f} ml"
    return sheet(panels, OTHER_SLICES, title=title, panel_px=panel_px)


def _with_border_between(labels: Array) -> Array:
    """Both lungs as one mask, open where they touch, so that their border is outlined too."""
    right, left = labels == RIGHT, labels == LEFT
    beside = np.zeros_like(right)
    for axis in (0, 1):
        beside |= np.roll(right, 1, axis) | np.roll(right, -1, axis)
    return right | (left & ~beside)
