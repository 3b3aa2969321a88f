"""A layout changed: organs enlarged, shrunk, moved, taken out, the whole deformed or mirrored.

What cannot be a patient is refused, with the organ and the value. `run.py synthesize --layout --new-layout`
makes the CT of it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from lesionbrush.cli.layout_sheet import picture
from lesionbrush.cli.options import json_table
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, require_room, save_picture
from lesionbrush.core.roi import Orientation
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout, tables_beside, write_layout
from lesionbrush.systems.semantic.body import find_body
from lesionbrush.systems.semantic.layout_edits.changes import LayoutWish, Move, change_layout
from lesionbrush.systems.semantic.layout_edits.checks import (
    LayoutLimits,
    OrganVolume,
    list_given,
    list_volumes,
    require_possible,
)
from lesionbrush.systems.semantic.layout_edits.tissues import with_tissues

LIMITS = LayoutLimits()


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("layout", type=Path, metavar="LAYOUT", help="a label volume with names")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the changed layout")
    parser.add_argument(
        "--names",
        type=json_table,
        metavar="JSON",
        help='what labels mean, {"1": "liver"} or a file with it; see docs/files.md',
    )
    parser.add_argument(
        "--ct", type=Path, help="the CT that it is of: nothing leaves its body, and the picture shows it"
    )
    parser.add_argument(
        "--tissues",
        action="store_true",
        help="with body, fat, muscle, bone and air of --ct where no organ is, for whole CTs",
    )
    parser.add_argument("--montage", type=Path, metavar="PNG", help="a picture of before and after")
    _add_wishes(parser)
    _add_limits(parser)


def _add_wishes(parser: ArgumentParser) -> None:
    """Done in the order of --mirror, --deform, --remove, --scale, --move, however they are given."""
    for name, value, about in (
        ("scale", "ORGAN=FACTOR", "times its volume, as liver=1.2"),
        (
            "move",
            "ORGAN=R,A,S",
            "mm to the patient's right, front and head, less than 0 to left, back and feet, as "
            '"left kidney=0,10,-5"',
        ),
        ("remove", "ORGAN", "body takes its place"),
    ):
        again = f"{about}; can be repeated"
        parser.add_argument(f"--{name}", action="append", default=[], metavar=value, help=again)
    parser.add_argument(
        "--deform", type=float, default=0.0, metavar="MM", help="all of it, smoothly, by so much at most"
    )
    parser.add_argument("--mirror", action="store_true", help="left and right change places, in names too")
    parser.add_argument("--seed", type=int, default=0, help="of the deformation (%(default)s)")


def _add_limits(parser: ArgumentParser) -> None:
    for name, value, about in (
        (
            "outside",
            LIMITS.outside,
            "of an organ that may lie outside body or volume, and is left out",
        ),
        ("give-way", LIMITS.give_way, "of an organ that may give way to another"),
        ("volume", LIMITS.volume, "by which a volume may miss what was asked"),
    ):
        parser.add_argument(
            f"--{name}", type=float, default=value, metavar="SHARE", help=f"the share {about} (%(default)s)"
        )


def run(options: Namespace) -> int:
    wish, limits = _wish_of(options), LayoutLimits(options.outside, options.give_way, options.volume)
    if options.tissues and options.ct is None:
        raise InvalidRequest("--tissues are those of a CT: name it as --ct")
    if not options.tissues:
        wish.require_some()
    wish.require_possible()
    beside = Output(tables_beside(options.out)[0], new=True)
    outputs = [Output(options.out, VOLUME, new=True), beside, *pictures(options.montage)]
    check_outputs(outputs, [options.layout, options.names, options.ct])
    layout = read_layout(options.layout, options.names, "as --names")
    layout.require_named("as --names")
    ct = _read_ct(options.ct, layout.labels)
    body = None if ct is None else body_of(ct)
    full = with_tissues(layout, ct) if options.tissues and ct is not None else layout
    changed = change_layout(full, wish, np.random.default_rng(options.seed), body)
    for sentence in list_given(changed):
        print(sentence)
    require_possible(changed, limits)
    require_room([options.out], changed.layout.labels.array.nbytes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table = write_layout(changed.layout, options.out, layout.labels.note)
    print("\n".join(_table(list_volumes(changed))))
    print(f"{options.out}\n{table}")
    if options.montage is not None:
        save_picture(picture(layout, changed.layout, ct), options.montage)
        print(options.montage)
    return 0


def body_of(ct: Volume) -> Array:
    """bool, as stored."""
    turned = Orientation.of(ct.affine)
    found = find_body(turned.view(ct.array), turned.spacing_mm(ct.spacing_mm))
    return np.asarray(turned.to_stored(found))


def _read_ct(path: Path | None, labels: Volume) -> Volume | None:
    if path is None:
        return None
    ct = require_ct(read_volume(path))
    ct.require_same_grid(labels, "layout")
    return ct


def _wish_of(options: Namespace) -> LayoutWish:
    scale = {name: _number(text, f"--scale {name}") for name, text in _pairs(options.scale, "--scale")}
    move = {name: _move(text, f"--move {name}") for name, text in _pairs(options.move, "--move")}
    return LayoutWish(scale, move, tuple(options.remove), options.deform, options.mirror)


def _pairs(given: list[str], option: str) -> list[tuple[str, str]]:
    pairs = [tuple(part.strip() for part in one.rpartition("=")[::2]) for one in given]
    for one, (name, text) in zip(given, pairs, strict=True):
        if not name or not text:
            raise InvalidRequest(f"{option} {one}: write ORGAN=VALUE")
        if [other for other, _ in pairs].count(name) > 1:
            raise InvalidRequest(f"{option}: {name} is given twice")
    return [(name, text) for name, text in pairs]


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"{what}: {text!r} is no number") from None


def _move(text: str, what: str) -> Move:
    parts = text.split(",")
    if len(parts) != 3:
        raise InvalidRequest(
            f"{what}: {text!r} is not three numbers of mm, to the patient's right, front and head, as 0,10,-5"
        )
    right, front, head = (_number(part, what) for part in parts)
    return right, front, head


def _table(volumes: list[OrganVolume]) -> list[str]:
    """Lines: name, volume before and after, and how much that is."""
    width = max([len(one.name) for one in volumes] + [5])
    lines = [f"{'organ':{width}}  before ml   after ml   times   asked"]
    for one in volumes:
        times = f"{one.after_ml / one.before_ml:7.2f}" if one.before_ml else "      -"
        asked = "      -" if one.asked is None else f"{one.asked:7.2f}"
        lines.append(f"{one.name:{width}} {one.before_ml:10.1f} {one.after_ml:10.1f} {times} {asked}")
    return lines
