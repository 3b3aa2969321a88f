"""Many annotated cases from one specification: plan them, make them, verify them, export them.

A specification is a YAML or JSON file (docs/cohorts.md, docs/examples/). `plan` says what it would come to
and draws some of its masks; `run` makes it with several processes, and goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from lesionbrush.cli.cohort_export import add_export_arguments, export
from lesionbrush.cli.cohort_node import add_node_arguments, run_node
from lesionbrush.cli.options import add_device_argument
from lesionbrush.cli.outputs import check_folder, check_outputs, pictures, save_picture
from lesionbrush.cohorts.balancing import ShareLine
from lesionbrush.cohorts.casting import CaseKind
from lesionbrush.cohorts.checking import check_specification
from lesionbrush.cohorts.folder import REPORT, CohortFolder
from lesionbrush.cohorts.phantoms import write_phantom
from lesionbrush.cohorts.planning import CohortPlan, picture, preview, time_one
from lesionbrush.cohorts.processes import usable_cores
from lesionbrush.cohorts.reading import read_specification, schema
from lesionbrush.cohorts.references import CohortReference, find_left_out, left_out_remark, references_of
from lesionbrush.cohorts.running import Workplace, run_cohort
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.cohorts.verifying import verify
from lesionbrush.errors import InvalidRequest

_MOST_TOLD = 20
_KINDS: dict[CaseKind, str] = {
    "lesions": "with lesions put in",
    "healthy": "healthy",
    "removal": "with their lesions taken out",
}
_MOST_WORKERS = 256


def add_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    plan = commands.add_parser("plan", help="counts, disk, hours, and ten planned masks as a picture")
    _add_specification(plan)
    plan.add_argument("--montage", type=Path, metavar="PNG", help="where to draw the masks")
    plan.add_argument("--no-timing", action="store_true", help="do not make a case to see how long it takes")
    _add_workers(plan)
    run_ = commands.add_parser("run", help="make all cases; the same command goes on where it stopped")
    _add_specification(run_)
    run_.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the cohort's folder")
    _add_workers(run_, several=True)
    resume = commands.add_parser("resume", help="go on with a cohort as it was begun")
    _add_cohort(resume)
    _add_workers(resume, several=True)
    add_node_arguments(commands.add_parser("node", help="let this machine make cases for `--ray`"))
    for name, about in (
        ("status", "how much of a cohort is made, and what could not be"),
        ("verify", "every file against its record: nothing missing, nothing half"),
    ):
        _add_cohort(commands.add_parser(name, help=about))
    add_export_arguments(commands.add_parser("export", help="a dataset: nnU-Net, MSD, MONAI, DICOM, BIDS"))
    _add_fetch(commands.add_parser("fetch", help="CT series of a DICOMweb archive, as folders"))
    phantoms = commands.add_parser("phantoms", help="write chests of formulas with labels, to try it out")
    phantoms.add_argument("folder", type=Path, metavar="DIR", help="where to")
    phantoms.add_argument("--count", type=int, default=4, metavar="N", help="how many (default: %(default)s)")
    commands.add_parser("schema", help="print the JSON schema of a specification")


def _add_specification(parser: ArgumentParser) -> None:
    parser.add_argument("specification", type=Path, metavar="SPEC", help="a .yaml or .json")


def _add_cohort(parser: ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, metavar="COHORT", help="the folder of `cohort run`")


def _add_workers(parser: ArgumentParser, several: bool = False) -> None:
    """several: also those of several machines."""
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="processes with one thread each (default: as many as there are CPU cores)",
    )  # fmt: skip
    add_device_argument(parser)
    if several:
        parser.add_argument(
            "--ray", default="", metavar="HOST:PORT",
            help="on the machines of a Ray cluster, as `cohort node` named it (default: on this one)",
        )  # fmt: skip


def run(options: Namespace) -> int:
    """1 where something is wrong or missing, else 0."""
    actions = {
        "plan": _plan,
        "run": _run,
        "resume": lambda given: _make(CohortFolder.open(given.cohort), given),
        "status": _status,
        "verify": _verify,
        "export": export,
        "fetch": _fetch,
        "node": run_node,
        "phantoms": _phantoms,
        "schema": lambda given: print(json.dumps(schema(), indent=1)) or 0,
    }
    return int(actions[options.what](options))


def _add_fetch(parser: ArgumentParser) -> None:
    parser.add_argument("address", metavar="URL", help="http(s)://host[:port]/dicom-web, without a password")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder a series")
    parser.add_argument(
        "--series", nargs="+", metavar="UID", help="these alone (default: all CT series of the archive)"
    )


def _fetch(options: Namespace) -> int:
    from lesionbrush.cli.cohort_fetch import fetch  # and what speaks to archives, where it is needed

    return fetch(options)


def _plan(options: Namespace) -> int:
    _require_workers(options)
    check_outputs(pictures(options.montage), [options.specification])
    specification = read_specification(options.specification)
    check_specification(specification)
    plan = preview(specification, _references_of(specification))
    if not options.no_timing:
        time_one(specification, plan, options.device)
    print("\n".join(_plan_lines(plan, options.workers or usable_cores())))
    drawn = picture(plan, f"{specification.name}: some of its {len(plan.cases)} cases, as planned")
    if options.montage and drawn is not None:
        save_picture(drawn, options.montage)
        print(options.montage)
    return 1 if plan.problems else 0


def _plan_lines(plan: CohortPlan, workers: int) -> Iterator[str]:
    splits = ", ".join(f"{count} {name}" for name, count in sorted(plan.splits.items()))
    yield f"{len(plan.cases)} cases ({splits}) of {len(plan.references)} CTs of {plan.patients} patients"
    kinds = Counter(case.kind for case in plan.cases)
    if len(kinds) > 1 or "lesions" not in kinds:
        yield ", ".join(f"{kinds[kind]} {words}" for kind, words in _KINDS.items() if kinds[kind])
    yield from map(_share_line, plan.shares)
    lesions = Counter(one.organ for case in plan.previewed for one in case.placed)
    listed = ", ".join(f"{count} in {organ}" for organ, count in sorted(lesions.items())) or "no lesion"
    yield f"{len(plan.previewed)} of them were planned in full: {listed}"
    if plan.previewed:
        yield f"disk: up to {plan.box_bytes / 1e6:.1f} MB for the boxes and masks, before compression"
    hours = plan.hours(workers)
    if hours is not None:
        each = f"{plan.seconds_each:.1f} s a case"
        yield f"time: about {_time(hours)} with {workers} workers ({each}, timed on one), reading CTs apart"
    for problem in plan.problems:
        yield f"{problem.case}: {problem.reason}"


def _share_line(line: ShareLine) -> str:
    said = f"share: {line.what}: {line.planned} of {line.wanted:.1f} asked for"
    return f"{said}: {line.why}" if line.why else said


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"


def _run(options: Namespace) -> int:
    check_folder(options.out)
    specification = read_specification(options.specification)
    check_specification(specification)
    references = _references_of(specification)
    return _make(CohortFolder.begin(options.out, specification, references), options)


def _references_of(specification: CohortSpecification) -> list[CohortReference]:
    if left_out := find_left_out(specification.references):
        print(left_out_remark(left_out), file=sys.stderr)
    return references_of(specification)


def _make(folder: CohortFolder, options: Namespace) -> int:
    _require_workers(options)
    pending = len(folder.pending())
    if pending < len(folder.cases):
        print(f"{len(folder.cases) - pending} of {len(folder.cases)} cases are there already")
    problems = 0
    with tqdm(total=pending, desc="cohort", unit="case", disable=not pending) as bar:
        for news in run_cohort(folder, Workplace(options.workers, options.device, options.ray)):
            if news.problem is not None:
                problems += 1
                tqdm.write(f"{news.case or news.reference}: {news.problem.reason}", file=sys.stderr)
            bar.update(1 if news.case else 0)
    states = folder.write_report()
    print(f"{folder.path / REPORT}  ({_states(states)})")
    return 1 if problems else 0


def _status(options: Namespace) -> int:
    folder = CohortFolder.open(options.cohort)
    states = folder.write_report()
    print(f"{folder.specification.name}: {_states(states)}, of {len(folder.cases)} cases")
    seconds = [record.seconds for record in folder.records()]
    if seconds and states["pending"]:
        left = states["pending"] * sum(seconds) / len(seconds) / 3600
        print(f"left: about {_time(left)} of one worker")
    for problem in folder.problems():
        print(f"{problem.case or problem.reference}: {problem.reason}")
    return 0 if states["done"] == len(folder.cases) else 1


def _states(states: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no case"


def _verify(options: Namespace) -> int:
    folder = CohortFolder.open(options.cohort)
    verdict = verify(folder)
    for sentence in verdict.wrong:
        print(sentence)
    for case, reason in list(verdict.missing.items())[:_MOST_TOLD]:
        print(f"{case} is missing: {reason}")
    if len(verdict.missing) > _MOST_TOLD:
        print(f"... and {len(verdict.missing) - _MOST_TOLD} more are missing")
    print(f"{verdict.whole} of {len(folder.cases)} cases are whole")
    return 0 if verdict.complete else 1


def _phantoms(options: Namespace) -> int:
    check_folder(options.folder)
    for seed in range(1, options.count + 1):
        print(write_phantom(options.folder, seed))
    return 0


def _require_workers(options: Namespace) -> None:
    if options.workers is not None and not 1 <= options.workers <= _MOST_WORKERS:
        raise InvalidRequest(f"--workers {options.workers}: give a number from 1 to {_MOST_WORKERS}")
