"""Every engine of this machine side by side, on the same requests: for `bench engines`."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from lesionbrush.cli.latency import lung_like, nodule
from lesionbrush.cli.machine import Machine, resident_mb, this_machine
from lesionbrush.cli.options import edit_from
from lesionbrush.cli.outputs import write_report
from lesionbrush.core.registry import find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.engines.choice import choose_engine, is_installed
from lesionbrush.engines.evaluator import Engine, make_engine
from lesionbrush.engines.pytorch import PyTorchEngine, autocast
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting

DIAMETERS_MM = (8.0, 14.0, 20.0)
SHAPE = (256, 256, 120)
EXACT = "pytorch-float32"


class AsItComes(PyTorchEngine):
    """Without our way around its slow convolutions."""

    def __str__(self) -> str:
        return "PyTorch as it comes"

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        with autocast(inputs[0].device, self.precision):
            said: torch.Tensor = self.network(*inputs)
        return said.float()


@dataclass(frozen=True)
class EngineTimes:
    """Seconds of sampling one variant: the first of its shape, and the median, least and most of the others.

    difference_hu: from PyTorch in float32 within the edit region, 99th percentile and most.
    memory_mb: what the process grew by at the first.
    """

    engine: str
    diameter_mm: float
    first_s: float
    sample_s: tuple[float, float, float]
    times_faster: float
    difference_hu: tuple[float, float]
    memory_mb: float


@dataclass
class EngineReport:
    """All that was measured in one run. times_faster: than PyTorch as it comes, in float32."""

    machine: Machine
    model: str
    repeats: int
    rows: list[EngineTimes] = field(default_factory=list)


def run(options: Namespace) -> int:
    """Prints and writes the comparison. InvalidRequest."""
    if options.repeats < 1:
        raise InvalidRequest(f"--repeats {options.repeats}: 1 is least")
    model = load_model(find_model(options.model), "cpu")
    if not isinstance(model, LesionInpainting):
        raise InvalidRequest(f"--model {options.model}: engines are compared on lesion_inpainting alone")
    report = EngineReport(this_machine(), options.model, options.repeats)
    print(f"{report.machine}\n{report.model}, medians of {report.repeats} (least to most)\n", flush=True)
    ct, engines = lung_like(SHAPE), list_engines(model.network)
    for diameter_mm in DIAMETERS_MM:
        case = _EngineCase(ct, nodule(ct, diameter_mm), edit_from(options), model)
        report.rows += case.compare(diameter_mm, engines, options.repeats)
    print("\n".join(lines(report)))
    if options.json:
        write_report(json.dumps(asdict(report), indent=1), options.json)
    return 0


def list_engines(network: torch.nn.Module) -> list[Engine]:
    """What the ratios are to, what the differences are to, and all others."""
    wishes = [EXACT, "pytorch-bfloat16"]
    wishes += ["openvino-float32", "openvino-bfloat16"] if is_installed() else []
    return [
        AsItComes(network, "float32"),
        *(make_engine(network, choose_engine(wanted=wish)) for wish in wishes),
    ]


@dataclass(frozen=True)
class _EngineCase:
    """One request, for every engine."""

    ct: Volume
    mask: Volume
    request: EditRequest
    model: LesionInpainting

    def compare(self, diameter_mm: float, engines: list[Engine], repeats: int) -> Iterator[EngineTimes]:
        """In turns, so that all share what else the machine does."""
        first: list[tuple[float, float]] = []
        made: list[list[Synthesis]] = [[] for _ in engines]
        for engine in engines:
            before = resident_mb(os.getpid())
            seconds = _seconds(self.ask(engine))
            first.append((seconds, resident_mb(os.getpid()) - before))
        for _ in tqdm(range(repeats), desc=f"{diameter_mm:g} mm", unit="round", leave=False):
            for engine, results in zip(engines, made, strict=True):
                results.append(self.ask(engine))
        medians = [float(np.median([_seconds(one) for one in results])) for results in made]
        for k, engine in enumerate(engines):
            taken = [_seconds(one) for one in made[k]]
            yield EngineTimes(
                engine=str(engine),
                diameter_mm=diameter_mm,
                first_s=first[k][0],
                sample_s=(medians[k], min(taken), max(taken)),
                times_faster=round(medians[0] / medians[k], 2),
                difference_hu=_difference_hu(made[1][0], made[k][0]),
                memory_mb=round(first[k][1], 1),
            )

    def ask(self, engine: Engine) -> Synthesis:
        self.model.evaluate.engines["cpu"] = engine
        return synthesize(self.ct, self.mask, self.request, self.model)[0]


HEADER = "engine                  nodule   first               sampling, s   times  HU p99  most    MB"


def lines(report: EngineReport) -> Iterator[str]:
    yield HEADER
    for row in report.rows:
        middle, least, most = row.sample_s
        spread = f"{middle:.3f} ({least:.3f} to {most:.3f})"
        p99, largest = row.difference_hu
        size = f"{row.diameter_mm:.0f} mm"
        yield (
            f"{row.engine:<22}{size:>8}{row.first_s:>8.2f}{spread:>26}{row.times_faster:>8.1f}{p99:>8.1f}"
            f"{largest:>6.0f}{row.memory_mb:>6.0f}"
        )


def _seconds(made: Synthesis) -> float:
    return made.provenance.seconds["sample"]


def _difference_hu(exact: Synthesis, made: Synthesis) -> tuple[float, float]:
    """Where either changed the CT: 99th percentile and most."""
    ct = exact.reference.array[exact.slices]
    apart = np.abs(exact.box.astype(np.int32) - made.box)[(exact.box != ct) | (made.box != ct)]
    return float(np.percentile(apart, 99)), float(apart.max())
