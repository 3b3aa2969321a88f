"""The whole evaluation of a lesion model, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lesionbrush.core.provenance import now
from lesionbrush.core.registry import find_model
from lesionbrush.evaluation import control, critics, fidelity, removal, report, sampling, sheets, variety
from lesionbrush.evaluation.bench import FULL, QUICK, Bench, Plan
from lesionbrush.evaluation.results import Report, Section
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems import load_model

PARTS: dict[str, Callable[[Bench], Section]] = {
    "critics": critics.critics,
    "fidelity": fidelity.fidelity,
    "attributes": control.control,
    "diversity": variety.diversity,
    "memorisation": variety.memorisation,
    "distributions": variety.distributions,
    "sampling": sampling.sampling,
    "removal": removal.removal,
    "pictures": sheets.pictures,
}


@dataclass(frozen=True)
class Study:
    """What to evaluate. cases 0: as many nodules as the plan says; parts: names of `PARTS`."""

    model: str
    data: Path
    out: Path
    cases: int = 0
    quick: bool = False
    parts: Sequence[str] = tuple(PARTS)
    machine: str = ""

    @property
    def plan(self) -> Plan:
        plan = QUICK if self.quick else FULL
        return replace(plan, cases=self.cases) if self.cases else plan


def run_study(study: Study, say: Callable[[str], None] = lambda text: None) -> Report:
    """Measure, write report.json, report.html and the pictures into `study.out`, and return the report.

    FileNotFoundError when the data holds no held-out or no training nodules.
    """
    began = time.monotonic()
    model = load_model(find_model(study.model))
    bench = Bench(study.data, study.out, Maker(model, study.out / "cache"), study.plan)
    result = Report(
        model=model.card.name,
        weights_sha256=model.card.weights_sha256,
        trained=model.card.trained,
        created=now(),
        quick=study.quick,
        nodules=len(bench.nodules),
        patients=len(set(bench.patients)),
        seconds=0.0,
        machine=study.machine,
        sections=(),
    )
    for name in study.parts:
        say(f"{name} ...")
        start = time.monotonic()
        section = PARTS[name](bench)
        section = section.model_copy(update={"seconds": round(time.monotonic() - start, 1)})
        changes = {"sections": (*result.sections, section), "seconds": round(time.monotonic() - began, 1)}
        result = result.model_copy(update=changes)
        report.write(result, study.out)  # after every part: what was measured stays, whatever comes next
    return result
