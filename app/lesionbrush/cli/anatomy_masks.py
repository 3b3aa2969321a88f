"""Lobes, airways and vessels of a chest CT, as label volumes with names.

Into a folder: lobes, airways and vessels as a file each. Into a file: one label volume, in which vessels and
airways lie over the lobes.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from LesionBrushLib.client import SUFFIXES
from PIL import Image

from lesionbrush.anatomy.chest.masks import ChestMasks, find_chest_masks
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, require_room, save_picture
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import tables_beside, write_layout
from lesionbrush.montage import LUNG, Panel, badge_of, sheet, to_lps, upright

PARTS = ("lobes", "airways", "vessels")
PLACES = (
    ("axial", 2, (0.3, 0.45, 0.6, 0.75)),
    ("coronal", 1, (0.3, 0.5)),
    ("sagittal", 0, (0.15, 0.3, 0.7, 0.85)),
)
AIRWAYS_TINT, VESSELS_TINT = 2, 1
PANEL_PX = 256


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT", help="a file, or the folder of a DICOM series")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER_OR_FILE",
        help="a folder for three volumes, or a file for one",
    )
    parser.add_argument("--lungs", type=Path, metavar="MASK", help="1 right, 2 left (default: found)")
    parser.add_argument("--montage", type=Path, metavar="PNG", help="slices in three planes")


def run(options: Namespace) -> int:
    one = options.out.name.lower().endswith(SUFFIXES)
    paths = [options.out] if one else [options.out / f"{name}.nii.gz" for name in PARTS]
    tables = [Output(tables_beside(path)[0], new=True) for path in paths]
    volumes = [Output(path, VOLUME, new=True) for path in paths]
    check_outputs([*volumes, *tables, *pictures(options.montage)], [options.ct, options.lungs])
    ct = require_ct(read_volume(options.ct))
    require_room(paths, ct.array.size)
    masks = find_chest_masks(ct, read_volume(options.lungs) if options.lungs else None)
    layouts = [masks.as_one()] if one else [masks.lobes, masks.airways, masks.vessels]
    for path, layout in zip(paths, layouts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_layout(layout, path, ct.note)
        print(path)
    print("\n".join(f"{name}: {ml:.0f} ml" for name, ml in list_ml(masks)))
    for remark in masks.remarks:
        print(f"remark: {remark}")
    if options.montage:
        save_picture(picture(ct, masks), options.montage)
        print(options.montage)
    return 0


def list_ml(masks: ChestMasks) -> Iterator[tuple[str, float]]:
    """Names and volumes, each structure as a whole."""
    for layout in (masks.lobes, masks.airways, masks.vessels):
        ml = np.bincount(layout.labels.array.ravel(), minlength=256) * layout.labels.voxel_volume_mm3 / 1000
        yield from ((name, float(ml[label])) for label, name in layout.names.items())


def picture(ct: Volume, masks: ChestMasks) -> Image.Image:
    """Slices through the lungs, each plain and with lobes tinted, airways yellow and vessels red."""
    hu, spacing_mm = to_lps(ct)
    lobes, airways, vessels = (_turned(one) for one in (masks.lobes, masks.airways, masks.vessels))
    marks = np.where(vessels > 0, VESSELS_TINT, np.where(airways > 0, AIRWAYS_TINT, 0)).astype(np.uint8)
    box = bounding_box(lobes)
    panels: list[Panel] = []
    for name, normal, shares in PLACES:
        rows, columns = [axis for axis in (2, 1, 0) if axis != normal]
        for share in shares:
            index = round(box[normal].start + share * (box[normal].stop - 1 - box[normal].start))
            shown, tint, mark = (upright(array.take(index, normal), normal) for array in (hu, lobes, marks))
            pixel_mm = (spacing_mm[rows], spacing_mm[columns])
            panels += [
                Panel(shown, pixel_mm, LUNG, f"{name} {index + 1}", badge=badge_of(ct)),
                Panel(shown, pixel_mm, LUNG, "lobes, airways, vessels", tint=tint, marks=mark),
            ]
    return sheet(panels, 4, title="lobes tinted, airways yellow, vessels red", panel_px=PANEL_PX)


def _turned(layout: Layout) -> Array:
    return to_lps(layout.labels)[0]
