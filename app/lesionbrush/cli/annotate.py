"""Structures of chest CTs that nobody annotated, by a network that saw synthetic pairs alone (mDDPM, step 3).

`annotate find` writes label volumes, which `anatomy fit --layouts` takes; `annotate learn` trains another
network on slices that mDDPM makes along drawn maps; `annotate measure` holds it against what thresholds find.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, require_room, save_picture
from lesionbrush.core.inputs import Layout
from lesionbrush.core.registry import find_model, models_dir
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import tables_beside, write_layout
from lesionbrush.montage import SOFT, Panel, badge_of, sheet, to_lps
from lesionbrush.systems import load_model
from lesionbrush.systems.mddpm.annotating.annotate import annotate
from lesionbrush.systems.mddpm.annotating.network import Annotator, train_annotator
from lesionbrush.systems.mddpm.annotating.pairs import Pairs, draw_pairs
from lesionbrush.systems.mddpm.evaluation.annotations import compare, mean_dice
from lesionbrush.systems.mddpm.whole import MDDPMWhole

SHIPPED = Path("mddpm") / "annotator.safetensors"
PAIRS, STEPS, SHOWN = 300, 1500, 4


def add_arguments(parser: ArgumentParser) -> None:
    parsers = parser.add_subparsers(dest="action", required=True, metavar="find | learn | measure")
    finding = parsers.add_parser("find", help="body, lungs, mediastinum and spine of chest CTs")
    finding.add_argument("cts", type=Path, nargs="+", metavar="CT")
    finding.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="a label volume for each CT"
    )
    finding.add_argument("--montage", type=Path, metavar="PNG", help="slices of the first CT")
    learning = parsers.add_parser("learn", help="from slices that mddpm_whole makes along drawn maps")
    learning.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="*.safetensors")
    learning.add_argument(
        "--pairs", type=Path, metavar="NPZ", help="made here when it is not there (default: beside FILE)"
    )
    learning.add_argument("--count", type=int, default=PAIRS, help="pairs; default: %(default)s")
    learning.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    learning.add_argument("--seed", type=int, default=0)
    learning.add_argument("--model", default="mddpm_whole", help="default: %(default)s")
    measuring = parsers.add_parser("measure", help="against what thresholds find, CT by CT")
    measuring.add_argument("cts", type=Path, nargs="+", metavar="CT")
    for using in (finding, measuring):
        using.add_argument("--by", type=Path, metavar="FILE", help="default: the one that comes with mddpm")


def run(options: Namespace) -> int:
    return {"find": run_find, "learn": run_learn, "measure": run_measure}[options.action](options)


def run_find(options: Namespace) -> int:
    paths = [options.out / f"{_stem(ct)}_anatomy.nii.gz" for ct in options.cts]
    tables = [Output(tables_beside(path)[0], new=True) for path in paths]
    volumes = [Output(path, VOLUME, new=True) for path in paths]
    check_outputs([*volumes, *tables, *pictures(options.montage)], [*options.cts, options.by])
    annotator = _annotator(options)
    for number, (ct_path, path) in enumerate(zip(options.cts, paths, strict=True)):
        ct = require_ct(read_volume(ct_path))
        require_room([path], ct.array.size)
        found = _annotate(ct, annotator, ct_path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_layout(found, path, ct.note)
        print(path)
        print(_summary(found))
        if options.montage and number == 0:
            save_picture(picture(ct, found), options.montage)
            print(options.montage)
    print("Found by a network that was trained on synthetic slices alone, read by nobody: look at them.")
    return 0


def run_learn(options: Namespace) -> int:
    pairs_path = options.pairs or options.out.with_name(f"{options.out.stem}_pairs.npz")
    check_outputs([Output(options.out, (".safetensors",), new=True)], [])
    for name in ("count", "steps"):
        if getattr(options, name) < 1:
            raise InvalidRequest(f"--{name} {getattr(options, name)}: give 1 or more")
    model = load_model(find_model(options.model))
    if not isinstance(model, MDDPMWhole):
        raise InvalidRequest(f"--model {options.model}: it makes no slices along maps; mddpm_whole does")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if pairs_path.is_file():
        pairs = Pairs.load(pairs_path)
        print(f"{pairs_path}: {len(pairs.hu)} pairs, made before")
    else:
        pairs = draw_pairs(model, options.count, options.seed)
        pairs.save(pairs_path)
        print(f"{pairs_path}: {len(pairs.hu)} pairs")
    with tqdm(total=options.steps, desc="annotator", unit="step") as bar:

        def told(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        network = train_annotator(pairs, options.steps, options.seed, told)
    facts = {
        "model": model.card.name,
        "weights_sha256": model.card.weights_sha256,
        "pairs": str(len(pairs.hu)),
        "steps": str(options.steps),
        "seed": str(options.seed),
    }
    Annotator(network, pairs.names, facts).save(options.out)
    print(options.out)
    return 0


def run_measure(options: Namespace) -> int:
    check_outputs([], [*options.cts, options.by])
    annotator, found = _annotator(options), []
    for path in options.cts:
        ct = require_ct(read_volume(path))
        found.append(compare(_stem(path), ct, _annotate(ct, annotator, path.name)))
        print(found[-1].line())
    for name in annotator.names:
        estimate = mean_dice(found, name)
        if estimate.value is not None:
            interval = f"{estimate.low:.2f} to {estimate.high:.2f}"
            print(f"Dice of {name}: {estimate.value:.2f} ({interval}, N = {estimate.n} CTs)")
    return 0


def _annotator(options: Namespace) -> Annotator:
    return Annotator.load(options.by or models_dir() / SHIPPED)


def _annotate(ct: Volume, annotator: Annotator, name: str) -> Layout:
    with tqdm(desc=name, unit="slice") as bar:
        return annotate(ct, annotator, bar.update)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".nrrd").removesuffix(".mha")


def _summary(found: Layout) -> str:
    ml = np.bincount(found.labels.array.ravel(), minlength=256) * found.labels.voxel_volume_mm3 / 1000
    said = ", ".join(f"{name} {ml[number]:.0f} ml" for number, name in found.names.items())
    return said or "nothing: no slice shows lungs"


def picture(ct: Volume, found: Layout) -> Image.Image:
    """Axial slices through the lungs, plain and with what was found tinted."""
    hu, (x_mm, y_mm, _) = to_lps(ct)
    tint, panels = to_lps(found.labels)[0], list[Panel]()
    there = np.flatnonzero(tint.any(axis=(0, 1)))
    for share in np.linspace(0.15, 0.85, SHOWN) if len(there) else ():
        z = int(there[round(share * (len(there) - 1))])
        pixel_mm = (y_mm, x_mm)
        panels.append(Panel(hu[:, :, z].T, pixel_mm, SOFT, f"axial {z + 1}", badge=badge_of(ct)))
        panels.append(Panel(hu[:, :, z].T, pixel_mm, SOFT, "what was found", tint=tint[:, :, z].T))
    if not panels:
        raise InvalidRequest("nothing was found: there is no slice to be drawn")
    return sheet(panels, 4, title=", ".join(found.names.values()), panel_px=256)
