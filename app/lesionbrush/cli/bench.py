"""Time a request on a large CT, compare engines, put a server under load, time published networks."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from LesionBrushLib.client import JobClient, Order, Upload

from lesionbrush.cli import engines, load, peers
from lesionbrush.cli.latency import IMAGE_ID, CaseFiles, InProcess, Memory, OverHttp, OverJobs, Samples, Shape
from lesionbrush.cli.local_server import asking, local_server
from lesionbrush.cli.machine import Machine, this_machine
from lesionbrush.cli.options import add_model_argument, add_request_arguments, edit_from
from lesionbrush.cli.outputs import check_outputs, reports, write_report
from lesionbrush.core.registry import find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

SHORT_SLICES, LONG_SLICES = 100, 800
LEAST_MEMORY_REQUESTS = 4


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=("latency", "engines", "load", "peers"))
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(512, 512, 300), metavar=("I", "J", "K"), help="512 512 300"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--server", action="store_true", help="the same over HTTP, with the CT on the server")
    parser.add_argument("--scaling", action="store_true", help=f"{LONG_SLICES} and {SHORT_SLICES} slices")
    parser.add_argument(
        "--memory", type=int, nargs="?", const=20, metavar="N", help="RAM after each of N requests"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    load.add_arguments(parser)
    peers.add_arguments(parser)
    add_model_argument(parser)
    add_request_arguments(parser)


@dataclass
class BenchReport:
    """All that was measured in one run."""

    machine: Machine
    model: str
    shape: Shape
    repeats: int
    request: EditRequest
    tables: list[Samples] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    scaling_ratio: float | None = None

    def as_json(self) -> str:
        everything = asdict(self)
        everything["request"] = self.request.model_dump(mode="json")
        everything["medians"] = {table.title: table.medians() for table in self.tables}
        everything["slope_mb_per_request"] = {memory.title: memory.slope_mb for memory in self.memory}
        return json.dumps(everything, indent=1)


def run(options: Namespace) -> int:
    check_outputs(reports(options.json))
    if options.what == "load":
        return load.run(options)
    if options.what == "engines":
        return engines.run(options)
    if options.what == "peers":
        return peers.run(options)
    report = _empty_report(options)
    print(f"{report.machine}\n{_subject(report)}\n", flush=True)
    model = load_model(find_model(options.model), "cpu" if options.cpu else None)
    core = InProcess(model, report.request)
    with TemporaryDirectory(prefix="lesionbrush-bench-") as folder:
        files = CaseFiles.write(Path(folder), report.shape)
        report.tables.append(core.every_phase(files, options.repeats))
        if options.memory:
            ask = partial(core.ask, files)
            report.memory.append(Memory.after_each("of this process", options.memory, os.getpid(), ask))
        if options.server:
            _measure_server(options, files, report)
    if options.scaling:
        _measure_scaling(core, options.repeats, report)
    print("\n".join(_lines(report)))
    if options.json:
        write_report(report.as_json(), options.json)
    return 0


def _empty_report(options: Namespace) -> BenchReport:
    request = edit_from(options)
    i, j, k = options.shape
    if min(i, j, k) < 32 or options.repeats < 1:
        raise InvalidRequest(
            f"{i} x {j} x {k}, {options.repeats} times: 32 voxels an axis and 1 repeat are least"
        )
    if options.memory is not None and options.memory < LEAST_MEMORY_REQUESTS:
        raise InvalidRequest(f"--memory {options.memory}: a slope needs {LEAST_MEMORY_REQUESTS} or more")
    if request.variants > 1 or request.output != "volume":
        raise InvalidRequest("the benchmark asks for one variant, and chooses the output itself")
    return BenchReport(this_machine(), options.model, (i, j, k), options.repeats, request)


def _measure_server(options: Namespace, files: CaseFiles, report: BenchReport) -> None:
    with ExitStack() as stack:
        studies = Path(stack.enter_context(TemporaryDirectory(prefix="lesionbrush-bench-")))
        start = Samples("a server that was just started")
        with start.measure("start of the server, until it answers"):
            started = local_server(studies, files.nii.with_name("server.log"), gpu=not options.cpu)
            client, process = stack.enter_context(started)
        stack.enter_context(asking())
        with start.measure("store the CT"):
            client.put_image(files.nii, IMAGE_ID)
        order = Order(report.model, Upload.of(files.mask), IMAGE_ID, report.request.model_dump(mode="json"))
        jobs = OverJobs(JobClient(client.url), order)
        with start.measure("first request, submit to box"):
            jobs.ask(Samples(""))
        server = OverHttp(client, report.model, report.request)
        report.tables += [start, server.every_phase(files, report.repeats), jobs.every_phase(report.repeats)]
        if options.memory:
            ask = partial(server.ask, files)
            report.memory.append(Memory.after_each("of the server", options.memory, process, ask))


def _measure_scaling(core: InProcess, repeats: int, report: BenchReport) -> None:
    i, j, _ = report.shape
    short, long = core.scaling([(i, j, SHORT_SLICES), (i, j, LONG_SLICES)], repeats)
    report.tables += [short, long]
    ratios = [table.medians()["all but reading and sending"] for table in (long, short)]
    report.scaling_ratio = round(ratios[0] / ratios[1], 3)


def _subject(report: BenchReport) -> str:
    request = report.request
    size = " x ".join(map(str, report.shape))
    sampler = f" of {request.sampler_used}" if isinstance(request, SynthesisRequest) else ""
    steps = f"{request.steps} steps{sampler}"
    return f"{report.model}, {steps}, {size} int16 voxels, medians of {report.repeats}"


def _lines(report: BenchReport) -> Iterator[str]:
    for table in report.tables:
        yield f"{table.title:<52}seconds"
        yield from (f"  {phase:<48}{seconds:9.3f}" for phase, seconds in table.medians().items())
    if report.scaling_ratio is not None:
        what = f"{LONG_SLICES} over {SHORT_SLICES} slices, all but reading and sending"
        yield f"{what}: {report.scaling_ratio:.2f} times"
    for memory in report.memory:
        yield from _memory_lines(memory)


def _memory_lines(memory: Memory) -> Sequence[str]:
    values = ", ".join(f"{mb:.0f}" for mb in memory.resident_mb)
    return (
        f"memory {memory.title}, MB after each of {len(memory.resident_mb)} requests: {values}",
        f"  {memory.slope_mb:+.2f} MB per request over the second half",
    )
