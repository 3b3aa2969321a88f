"""Draw the reference, the mask and the synthetic CT side by side in the lung, soft-tissue and bone window."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.cli.outputs import check_outputs, pictures, save_picture
from lesionbrush.core.volume import mask_on_grid, require_ct
from lesionbrush.files.io import read_volume
from lesionbrush.montage import montage


def add_arguments(parser: ArgumentParser) -> None:
    for name in ("reference", "mask", "synthetic"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--label", type=int, help="which label of the mask is the lesion")
    parser.add_argument("--field-mm", type=float, default=96.0, help="side of the box shown (96)")
    parser.add_argument("--whole", action="store_true", help="show whole slices")
    parser.add_argument("--title", default="")


def run(options: Namespace) -> int:
    check_outputs(pictures(options.out), [options.reference, options.mask, options.synthetic])
    reference, synthetic = (require_ct(read_volume(path)) for path in (options.reference, options.synthetic))
    mask = mask_on_grid(read_volume(options.mask), reference, options.label)
    field_mm = None if options.whole else options.field_mm
    save_picture(montage(reference, mask, synthetic, title=options.title, field_mm=field_mm), options.out)
    print(options.out)
    return 0
