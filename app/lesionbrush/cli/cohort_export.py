"""`run.py cohort export`: its options, and what it prints."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tqdm import tqdm

from lesionbrush.cli.outputs import check_folder, check_outputs, reports
from lesionbrush.cohorts.export.dataset import ExportOptions, export_dataset
from lesionbrush.cohorts.export.layouts import FORMS
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.errors import InvalidRequest

_EXPORTS = "exports"


def add_export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, metavar="COHORT", help="the folder of `cohort run`")
    parser.add_argument("--format", choices=FORMS, required=True, help="whose trainer reads it")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder that is new")
    parser.add_argument("--boxes", action="store_true", help="only the boxes that changed, not whole CTs")
    parser.add_argument(
        "--mapping", type=Path, metavar="CSV",
        help="which patient each name is, readable by you alone (default: exports/ in the cohort)",
    )  # fmt: skip


def export(options: Namespace) -> int:
    folder = CohortFolder.open(options.cohort)
    mapping = options.mapping or folder.path / _EXPORTS / f"{options.out.name}.mapping.csv"
    check_folder(options.out, new=True)
    if folder.folder_of("").resolve() in options.out.resolve().parents:
        raise InvalidRequest(
            f"{options.out}: that is where the cohort keeps its cases: choose another folder"
        )
    _require_new(mapping)
    check_outputs(reports(mapping))
    asked = ExportOptions(options.format, options.out, mapping, whole=not options.boxes)
    with tqdm(desc="export", unit="image") as bar:

        def on_case(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        cases = export_dataset(folder, asked, on_case)
    print(f"{options.out}  ({len(cases)} images; which patient each is: {mapping})")
    return 0


def _require_new(mapping: Path) -> None:
    """InvalidRequest where it may be all that says who is who in another export."""
    if mapping.exists():
        raise InvalidRequest(
            f"{mapping.name} is there already, of another export: name a new file with --mapping, or call "
            "this export otherwise"
        )
