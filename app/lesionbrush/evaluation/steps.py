"""How few evaluations of the network are enough: the held-out nodules made anew with each number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.provenance import now
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.bench import FULL, Bench
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.comparison import Change, MadeNodules, compare, grain_error, hu_error
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.report import text
from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.statistics import median
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.files.durable import whole_files
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

FILE = "steps.json"
STEPS = (1, 2, 3, 4, 6, 8)
LEAST_NODULES = 30


class StepFigures(Typed):
    """What becomes of the nodules with so many steps. seconds: median of a request, on this machine."""

    steps: int
    seconds: float
    figures: dict[str, Change]

    @property
    def worse(self) -> list[str]:
        """Measures whose interval lies above 0."""
        return [name for name, change in self.figures.items() if change.sign > 0]


class StepTable(Typed):
    """Against `default` steps, on the same nodules with the same seeds."""

    model: str
    weights_sha256: str
    created: str
    nodules: int
    default: int
    rows: tuple[StepFigures, ...] = ()

    @property
    def fewest(self) -> int | None:
        """The smallest number from which on no measure is worse; None with too few nodules to say."""
        if self.nodules < LEAST_NODULES:
            return None
        fewest = self.default
        for row in sorted(self.rows, key=lambda row: -row.steps):
            if row.worse:
                break
            fewest = row.steps
        return fewest

    def lines(self) -> list[str]:
        table: list[tuple[str, ...]] = [("steps", "seconds", "measure", "with so many", "change")]
        for row in self.rows:
            for name, change in row.figures.items():
                said = text(change.otherwise), text(change.change)
                table.append((str(row.steps), f"{row.seconds:.2f}", name, *said))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        shown = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        worse = [f"{row.steps} steps: worse in {', '.join(row.worse) or 'nothing'}" for row in self.rows]
        enough = self.fewest or f"not to be said of fewer than {LEAST_NODULES} nodules"
        return [*shown, *worse, f"enough, of {self.nodules} nodules: {enough}"]


def measure_steps(
    model: str,
    data: Path,
    out: Path,
    steps: Sequence[int] = STEPS,
    cases: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> StepTable:
    """Each number of steps, and steps.json into `out`.

    InvalidRequest for a model of another system; FileNotFoundError when the data holds no held-out nodules.
    """
    ready = load_model(find_model(model))
    if not isinstance(ready, LesionInpainting):
        raise InvalidRequest(f"{model} is of {ready.card.system}: steps are measured of lesion_inpainting")
    bench = Bench(data, out, Maker(ready, out / "cache"), FULL)
    nodules = bench.spread(cases, bench.nodules) if 0 < cases < len(bench.nodules) else bench.nodules
    default = SynthesisRequest().steps
    found = StepTable(
        model=ready.card.name,
        weights_sha256=ready.card.weights_sha256,
        created=now(),
        nodules=len(nodules),
        default=default,
    )
    real = np.array([features(nodule.real) for nodule in tqdm(nodules, desc="real", unit="nodule")])
    base, _ = _make(bench.maker, nodules, default)
    for number in steps:
        say(f"{number} steps ...")
        made, seconds = _make(bench.maker, nodules, number)
        row = StepFigures(steps=number, seconds=seconds, figures=compare(nodules, real, base, made))
        found = found.model_copy(update={"rows": (*found.rows, row)})
        with whole_files(out / FILE) as (draft,):
            draft.write_text(found.model_dump_json(indent=1), encoding="utf-8")
    return found


def _make(maker: Maker, nodules: Sequence[Nodule], steps: int) -> tuple[MadeNodules, float]:
    """As the readers scored them, and the median of seconds."""
    found = [
        maker.make(nodule.case.crop, nodule.case.mask, request_of(nodule, steps))
        for nodule in tqdm(nodules, desc=f"{steps} steps", unit="lesion")
    ]
    made = [one.arrays[0] for one in found]
    pairs = list(zip(made, nodules, strict=True))
    columns = {
        "hu_error_readers_hu": np.array([hu_error(*pair) for pair in pairs]),
        "grain_error": np.array([grain_error(*pair) for pair in pairs]),
    }
    return MadeNodules.of(nodules, made, **columns), median(np.array([one.seconds for one in found]))


def request_of(nodule: Nodule, steps: int) -> SynthesisRequest:
    """Made anew in its own place: the mask has its lobes, and what is under it is the nodule itself."""
    return SynthesisRequest(attributes=nodule.readers, steps=steps, draw_shape=False, keep_vessels=False)
