"""Do two checkouts answer the same requests with the same voxels?

    python tests/benchmarks/same_voxels.py OLD_CHECKOUT NEW_CHECKOUT [--only NAME ...] [--work FOLDER]

Both are asked through their own command line, with the Python that runs this. It is no test of the suite: the
last bits depend on the CPU and on versions, so only two checkouts on one machine can be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK
from phantom_files import made

NEVER_SAME = ("seconds", "created", "versions")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Case(NamedTuple):
    """A request. grid, suffix, mask: see `phantom_files.made`; params: steps=4 too; inputs: NAME=GRID."""

    name: str
    model: str
    grid: str
    suffix: str
    params: str = ""
    inputs: str = ""
    mask: str = "lesion"


A, OTHER = "attributes.", "pathology=thick pathology_mask=thick"
CASES = (
    Case("solid", "lung_lesion", "ras", ".nii.gz", "steps=6"),
    Case("part_solid", "lung_lesion", "lps", ".nrrd", f"{A}texture=part_solid {A}solid_share=0.3"),
    Case("ground_glass", "lung_lesion", "turned", ".mha", f"{A}texture=ground_glass"),
    Case("spiculated", "lung_lesion", "oblique", ".nii", f"{A}spiculation=0.9 {A}lobulation=0.7"),
    Case("popcorn", "lung_lesion", "thick", ".nii.gz", f"{A}calcification=popcorn"),
    Case("calcified", "lung_lesion", "lps", "dicom", f"{A}calcification=solid seed=7"),
    Case("wanted_hu", "lung_lesion", "lps", ".mha", f"{A}mean_hu=-40 {A}heterogeneity_hu=90 sampler=ddim"),
    Case("guided_box", "lung_lesion", "ras", ".nrrd", f"guidance_strength=2 {A}texture=null output=box"),
    Case("removal", "lung_lesion", "ras", ".mha", f"{A}lesion=none variants=2"),
    Case("removal_at_wall", "lung_lesion", "thick", ".nii", f"{A}lesion=none"),
    Case("two_lesions", "lung_lesion", "turned", ".nii", "variants=2 seed=3", mask="two_lesions"),
    Case("lung_ddpm", "lung_ddpm", "chest", ".nii.gz", "steps=2", "lungs=chest"),
    Case("lung_ddpm_lungs", "lung_ddpm", "chest", ".nrrd", "region=lungs sampler=ddpm steps=2"),
    Case("plus_blended", "lung_ddpm_plus", "oblique", ".mha"),
    Case("plus_inversion", "lung_ddpm_plus", "lps", "dicom", "start=inversion"),
    Case("pathology", "mddpm", "ras", ".nii.gz", "pathology.stop=0.3", OTHER),
    Case("anatomy", "mddpm", "lps", ".nii", "reference.factor=4 shared_bands=sum", "anatomy=lps"),
    Case("three_guides", "mddpm", "turned", ".nrrd", "reference.factor=4", f"anatomy=turned {OTHER}"),
    Case("pathology_3d", "mddpm_3d", "oblique", ".nii.gz", "variants=2", OTHER),
)


def start(checkout: Path, case: Case, work: Path, out: Path) -> subprocess.Popen[str]:
    """The command that answers a request, begun; it writes into the folder `out`."""
    suffix = ".nrrd" if case.suffix == "dicom" else case.suffix
    ct = made("pathology" if "lesion=none" in case.params else "ct", case.grid, case.suffix, work)
    command = [sys.executable, "-m", "lesionbrush.cli", "synthesize", "--device=cpu", f"--model={case.model}"]
    command += [str(ct), str(made(case.mask, case.grid, suffix, work)), f"--out={out}/made{suffix}"]
    steps = "" if "steps=" in case.params else "steps=4"
    command += [f"--param={one}" for one in f"{case.params} {steps}".split()]
    for name, grid in (one.split("=") for one in case.inputs.split()):
        command.append(f"--{name.replace('_', '-')}={made(name, grid, suffix, work)}")
    own = {name: value for name, value in os.environ.items() if not name.startswith("LESIONBRUSH_")}
    path = os.pathsep.join(map(str, (checkout / "app", checkout / "slicer_module" / "LesionBrush")))
    own |= {"PYTHONPATH": path, "PYTHONUTF8": "1", **dict.fromkeys(THREADS, "1")}
    return subprocess.Popen(command, cwd=work, env=own, encoding="utf-8", stdout=-1, stderr=-1)


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels, and all that the header says but for our own note."""
    image = SimpleITK.ReadImage(path)
    said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    said = {key: text for key, text in said.items() if "LesionBrush" not in text}
    grid = {"origin": image.GetOrigin(), "spacing": image.GetSpacing(), "axes": image.GetDirection()}
    return SimpleITK.GetArrayFromImage(image), said | grid


def flat(record: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """('request.steps', 4), ...; remarks in no order."""
    if isinstance(record, dict):
        for key, value in record.items():
            yield from flat(value, f"{name}.{key}" if name else key)
    elif name.partition(".")[0] not in NEVER_SAME:
        yield name, sorted(record) if name == "remarks" else record


def told_apart(was: dict[str, Any], now: dict[str, Any], one_sided: set[str]) -> Iterator[str]:
    """The fields that differ; `one_sided` gets those that only one has."""
    one_sided |= {f"old {key}" for key in was.keys() - now} | {f"new {key}" for key in now.keys() - was}
    for key in sorted(was.keys() & now):
        if was[key] != now[key]:
            yield f"{key}: {was[key]}, now {now[key]}"


def differences(old: Path, new: Path, one_sided: set[str]) -> Iterator[str]:
    """What two folders of results differ in."""
    names, names_now = (sorted(path.name for path in folder.iterdir()) for folder in (old, new))
    if names != names_now:
        yield f"files: {names}, now {names_now}"
    for name in sorted({*names} & {*names_now}):
        if name.endswith(".json"):
            was, now = (dict(flat(json.loads((side / name).read_text("utf-8")))) for side in (old, new))
        else:
            (hu, was), (hu_now, now) = read(old / name), read(new / name)
            if (hu.dtype, hu.shape) != (hu_now.dtype, hu_now.shape):
                yield f"{name}: {hu.dtype} {hu.shape}, now {hu_now.dtype} {hu_now.shape}"
            elif (apart := np.abs(hu.astype(int) - hu_now)).any():
                yield f"{name}: {np.count_nonzero(apart)} of {apart.size} voxels, by up to {apart.max()} HU"
        yield from told_apart(was, now, one_sided)


def compared(checkouts: list[Path], case: Case, work: Path, one_sided: set[str]) -> list[str]:
    """What the answers to one request differ in. Both checkouts work at once."""
    sides = "old", "new"
    outs = [work / side / case.name for side in sides]
    runs = [start(checkout, case, work, out) for checkout, out in zip(checkouts, outs, strict=True)]
    said = [run.communicate()[1].strip().rpartition("\n")[2] for run in runs]
    ends = zip(sides, runs, said, strict=True)
    refused = [f"{side}: {text}" for side, run, text in ends if run.returncode]
    return refused or list(differences(*outs, one_sided))


def main() -> int:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="CHECKOUT", help="the old one, the new one")
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help="some of the requests")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="new, to keep inputs and results in")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or case.name in options.only]
    checkouts, one_sided, failed = [path.resolve() for path in options.checkouts], set[str](), 0
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary, "work")).resolve()
        work.mkdir(parents=True)
        for case in chosen:
            found = compared(checkouts, case, work, one_sided)
            failed += bool(found)
            print(f"{case.name:16} {case.model:15} {'; '.join(found) or 'same'}", flush=True)
    alone = ", ".join(sorted(one_sided)) or "none"
    print(f"{len(chosen) - failed} of {len(chosen)} the same; fields of one side only: {alone}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
