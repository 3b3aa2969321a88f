"""How fast a cohort is made, and whether all of it is there after a kill.

    python tests/benchmarks/cohort_workers.py rate FOLDER [--cases 24] [--ray HOST:PORT] [--json FILE]
    python tests/benchmarks/cohort_workers.py whole FOLDER [--cases 200] [--ray HOST:PORT]

`rate`: cases an hour by one worker, by two, and by `run.py synthesize` one after the other, and what a case
costs beside its model. `whole`: one specification, two workers, killed in the middle, resumed, verified,
exported for nnU-Net v2. Both on phantoms, by the commands themselves; FOLDER has to be new. --ray: by
the nodes there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from lesionbrush.cli.machine import this_machine
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.records import MASK, CaseRecord
from lesionbrush.cohorts.verifying import verify
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume

CHESTS, MODEL, QUALITY = 2, "lung_lesion", "fast"


def specification(cases: int) -> dict[str, object]:
    return {
        "name": "bench",
        "seed": 11,
        "references": [{"folder": "chests", "labels": "{name}_organs.nii.gz", "license": "formulas"}],
        "cases": {"total": cases},
        "findings": [{"diameter_mm": {"uniform": [6, 12]}, "place": {"inside": "lung"}}],
        "models": {"lung": {"name": MODEL, "parameters": {"quality": QUALITY}}},
        "splits": {"train": 0.5, "val": 0.5},
    }


@dataclass(frozen=True)
class Rate:
    """Seconds. wall: of the whole command; case: of one, on average, from places to measures; model: of its
    synthesis alone.
    """

    workers: int
    cases: int
    wall: float
    case: float
    model: float

    @property
    def an_hour(self) -> float:
        return 3600 * self.cases / self.wall

    @property
    def beside_model(self) -> float:
        """Of a worker, for each case: places, measures, files, its part of starting and of reading CTs."""
        return self.workers * self.wall / self.cases - self.model

    def __str__(self) -> str:
        return (
            f"{self.workers} workers: {self.an_hour:.0f} cases an hour ({self.cases} in {self.wall:.1f} s); "
            f"a case {self.case:.2f} s, of which synthesis {self.model:.2f} s; "
            f"of a worker's time beside synthesis {self.beside_model:.2f} s a case"
        )


def call(*arguments: object) -> float:
    """Seconds of a command of ours. Raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(command(*arguments), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def command(*arguments: object) -> Sequence[str]:
    return [sys.executable, "-m", "lesionbrush.cli", *map(str, arguments)]


def prepare(work: Path, cases: int) -> Path:
    call("cohort", "phantoms", work / "chests", "--count", CHESTS)
    path = work / "bench.json"
    path.write_text(json.dumps(specification(cases)))
    return path


def rate(options: Namespace) -> int:
    asked = prepare(options.folder, options.cases)
    print(this_machine(), flush=True)
    rates = [time_workers(asked, options, workers) for workers in (1, 2)]
    for one in rates:
        print(one, flush=True)
    alone = one_by_one(CohortFolder.open(options.folder / "by-1"), options.folder, min(options.cases, 6))
    each = float(np.mean(alone))
    print(f"one by one: {3600 / each:.0f} cases an hour ({each:.1f} s each, {len(alone)} of them)")
    one, two = (measured.an_hour for measured in rates)
    print(f"2 workers: {two / one:.2f} times 1 worker, {two * each / 3600:.1f} times one by one")
    if options.json:
        said = {"rates": [asdict(measured) for measured in rates], "one_by_one_s": alone}
        options.json.write_text(json.dumps({"machine": asdict(this_machine()), **said}, indent=1) + "\n")
    return 0


def time_workers(asked: Path, options: Namespace, workers: int) -> Rate:
    out = options.folder / f"by-{workers}"
    wall = call("cohort", "run", asked, "-o", out, "--workers", workers, *where(options))
    records = list(CohortFolder.open(out).records())
    case = float(np.mean([one.seconds for one in records]))
    model = float(np.mean([sum(one.provenance.seconds.values()) for one in records if one.provenance]))
    return Rate(workers, len(records), wall, case, model)


def where(options: Namespace) -> Sequence[str]:
    return ("--device", "cpu", *(("--ray", options.ray) if options.ray else ()))


def one_by_one(folder: CohortFolder, work: Path, count: int) -> list[float]:
    """Seconds of `synthesize` with the mask and the seed of some cases, with as many threads as it likes."""
    seconds = []
    for record in list(folder.records())[:count]:
        ct = folder.reference(record.reference).path
        mask = work / f"{record.id}_mask.nii.gz"
        write_volume(whole_mask(folder, record, read_volume(ct)), mask)
        out = ("-o", work / f"{record.id}.nii.gz", "--model", MODEL, "--device", "cpu")
        seed = record.lesions[0].request["seed"]
        seconds.append(call("synthesize", ct, mask, *out, "--seed", seed, "--param", f"quality={QUALITY}"))
    return seconds


def whole_mask(folder: CohortFolder, record: CaseRecord, ct: Volume) -> Volume:
    array = np.zeros(ct.shape, np.uint8)
    array[record.box] = read_volume(folder.folder_of(record.id) / MASK).array
    return ct.with_array(array)


def whole(options: Namespace) -> int:
    began = time.perf_counter()
    asked, out = prepare(options.folder, options.cases), options.folder / "cohort"
    made = kill_after(options.cases // 3, asked, out, options)
    print(f"killed after {made} of {options.cases} cases", flush=True)
    wrong = verify(CohortFolder.open(out)).wrong
    print(f"of those that were there, {len(wrong)} were not whole", flush=True)
    call("cohort", "resume", out, "--workers", 2, *where(options))
    call("cohort", "verify", out)
    dataset = options.folder / "Dataset501_Bench"
    call("cohort", "export", out, "--format", "nnunet", "-o", dataset, "--boxes")
    images, masks = (len(list((dataset / name).glob("*.nii.gz"))) for name in ("imagesTr", "labelsTr"))
    print(f"verified; exported {images} images and {masks} masks; {time.perf_counter() - began:.0f} s in all")
    return 0 if not wrong and images == masks == options.cases else 1


def kill_after(cases: int, asked: Path, out: Path, options: Namespace) -> int:
    """The whole process group, as a power cut does. How many cases were there."""
    line = command("cohort", "run", asked, "-o", out, "--workers", 2, *where(options))
    process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL)
    while len(list(out.glob("cases/*/case.json"))) < cases:
        if process.poll() is not None:
            raise SystemExit(f"it ended by itself, with {process.returncode}")
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(list(out.glob("cases/*/case.json")))


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("rate", "whole"))
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--cases", type=int, metavar="N", help="default: 24 for rate, 200 for whole")
    parser.add_argument("--ray", metavar="HOST:PORT", help="a cluster; default: processes of this machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what `rate` measured")
    options = parser.parse_args()
    options.cases = options.cases or {"rate": 24, "whole": 200}[options.what]
    options.folder.mkdir(parents=True)
    return (rate if options.what == "rate" else whole)(options)


if __name__ == "__main__":
    sys.exit(main())
