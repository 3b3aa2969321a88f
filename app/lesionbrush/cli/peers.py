"""Published networks beside our models, on this machine: for `bench peers`.

The published weights are not ours to pass on, and time does not depend on them: random ones are measured. A
whole procedure is its number of evaluations times one of them; nothing but the evaluation is counted, which
favours the published side.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from lesionbrush.cli.latency import CaseFiles, InProcess
from lesionbrush.cli.machine import Machine, this_machine
from lesionbrush.cli.options import require_edit
from lesionbrush.cli.outputs import write_report
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.lung_mse import LungMSE, lung_mse
from lesionbrush.systems import load_model, parse_request
from lesionbrush.systems.lung_ddpm.network import LUNG_DDPM, LUNG_DDPM_PLUS
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig
from lesionbrush.systems.running import in_channels_last, pick_device

GOAL = 1000.0
DEFAULT, OTHERS = "lung_lesion", ("lung_ddpm_plus",)
WHOLE = "request to box"


@dataclass(frozen=True)
class Subject:
    """A published network on one box. evaluations: of the whole published procedure there."""

    title: str
    config: MedUNetConfig
    side: int
    evaluations: int | None


SUBJECTS = (
    Subject("Lung-DDPM", LUNG_DDPM, 128, 250),
    Subject("Lung-DDPM", LUNG_DDPM, 64, None),
    Subject("Lung-DDPM+", LUNG_DDPM_PLUS, 64, 101),
)
"""Lung-DDPM+ evaluates 50 times to invert, 50 to sample, and once for nothing."""


@dataclass(frozen=True)
class Timed:
    """Seconds of one evaluation; procedure_s: of all of them, extrapolated."""

    title: str
    side: int
    precision: str
    evaluation_s: float
    procedure_s: float | None


@dataclass
class Peers:
    """All that was measured in one run. lesion_s: seconds of a whole request to each of our models."""

    machine: Machine
    networks: list[Timed] = field(default_factory=list)
    lesion_s: dict[str, float] = field(default_factory=dict)
    mse: LungMSE | None = None

    @property
    def ratios(self) -> dict[str, float]:
        """How many times a published procedure takes what our default model takes, by name and precision."""
        ours = self.lesion_s[DEFAULT]
        return {
            f"{one.title}, {one.precision}": round(one.procedure_s / ours, 1)
            for one in self.networks
            if one.procedure_s is not None
        }


def add_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("peers")
    group.add_argument(
        "--data", type=Path, metavar="DIR", help="with LIDC-IDRI-0314 in chest_ct: the error in its lungs too"
    )


def run(options: Namespace) -> int:
    if options.repeats < 1:
        raise InvalidRequest(f"--repeats {options.repeats}: 1 is least")
    device = pick_device("cpu" if options.cpu else None)
    report = Peers(this_machine())
    print(report.machine, flush=True)
    with TemporaryDirectory(prefix="lesionbrush-bench-") as folder:
        i, j, k = options.shape
        files = CaseFiles.write(Path(folder), (i, j, k))
        for name in (DEFAULT, *OTHERS):
            model = load_model(find_model(name), str(device))
            core = InProcess(model, require_edit(parse_request({}, model.card.system), name))
            medians = core.every_phase(files, options.repeats).medians()
            report.lesion_s[name] = medians[WHOLE]
    for subject in tqdm(SUBJECTS, desc="published networks", unit="network"):
        for precision in ("fp32", "bf16"):
            report.networks.append(time_evaluation(subject, precision, device, options.repeats))
    if options.data:
        report.mse = lung_mse(options.data, load_model(find_model("lung_ddpm"), str(device)))
    print("\n".join(lines(report)))
    if options.json:
        everything = {**asdict(report), "ratios": report.ratios}
        write_report(json.dumps(everything, indent=1), options.json)
    return 0


@torch.inference_mode()
def time_evaluation(subject: Subject, precision: str, device: torch.device, repeats: int) -> Timed:
    """Median seconds of one evaluation on one box; one before it, on a smaller box, is not counted."""
    network = MedUNet(subject.config).to(device).eval()
    if precision == "bf16":
        network = in_channels_last(network)
    time_step = torch.full((1,), 100, device=device)
    seconds = []
    for side in (2 * subject.config.multiple, *[subject.side] * repeats):
        box = torch.randn((1, subject.config.in_channels, *[side] * 3), device=device)
        began = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            network(box, time_step)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    one = float(np.median(seconds[1:]))
    whole = None if subject.evaluations is None else one * subject.evaluations
    return Timed(subject.title, subject.side, precision, one, whole)


def lines(report: Peers) -> Iterator[str]:
    yield f"{'published network, random weights':<44}{'s a step':>10}{'s in all, extrapolated':>26}"
    for one in report.networks:
        whole = "" if one.procedure_s is None else f"{one.procedure_s:.0f}"
        yield f"{f'{one.title} at {one.side}³, {one.precision}':<44}{one.evaluation_s:>10.2f}{whole:>26}"
    yield f"\n{'our models, one lesion, as asked by default':<44}{'s':>10}"
    for name, seconds in report.lesion_s.items():
        yield f"{name:<44}{seconds:>10.2f}"
    yield ""
    for what, ratio in report.ratios.items():
        goal = f"; goal: {GOAL:.0f} or more" if what.startswith("Lung-DDPM,") else ""
        yield f"{what} as published over {DEFAULT}: {ratio:.0f} times{goal}"
    if report.mse is not None:
        yield from report.mse.lines()
