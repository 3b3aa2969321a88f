"""A report of a chest CT, written from what is measured in it; no network reads it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from lesionbrush.anatomy.chest.masks import find_chest_masks
from lesionbrush.cli.outputs import Output, check_outputs
from lesionbrush.cli.outputs import write_report as write_text
from lesionbrush.core.volume import require_ct
from lesionbrush.files.io import read_volume
from lesionbrush.reports.measuring import measure_chest
from lesionbrush.reports.writing import write_report


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT", help="a file, or the folder of a DICOM series")
    parser.add_argument(
        "--lesion",
        type=Path,
        nargs="+",
        metavar="MASK",
        help="nodules, each with its own label or file, on the grid of the CT",
    )
    parser.add_argument("--lungs", type=Path, metavar="MASK", help="1 right, 2 left (default: found)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the measurements, for programs")
    parser.add_argument("--seed", type=int, default=0, help="of the wording alone (%(default)s)")


def run(options: Namespace) -> int:
    lesions = options.lesion or []
    check_outputs(
        [Output(options.json, new=True)] if options.json else [], [options.ct, options.lungs, *lesions]
    )
    ct, nodules = require_ct(read_volume(options.ct)), [read_volume(path) for path in lesions]
    for path, nodule in zip(lesions, nodules, strict=True):
        ct.require_same_grid(nodule, path.name)
    masks = find_chest_masks(ct, read_volume(options.lungs) if options.lungs else None)
    findings = measure_chest(ct, masks, nodules or None)
    print(write_report(findings, np.random.default_rng(options.seed)))
    print("Measured by thresholds and filters, read by nobody: no diagnosis.")
    for remark in findings.remarks:
        print(f"remark: {remark}")
    if options.json:
        write_text(findings.model_dump_json(indent=2), options.json)
        print(options.json)
    return 0
