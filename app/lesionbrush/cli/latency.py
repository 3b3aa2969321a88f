"""Where the time of a request goes: measurements for `bench latency`, in this process and over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from LesionBrushLib.client import Client, JobClient, JobFailed, Order
from tqdm import trange

from lesionbrush.cli.machine import resident_mb
from lesionbrush.core.model import Model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.phantom.chest import FIELD_MM, chest_phantom

Shape = tuple[int, int, int]
SPACING_MM = (0.7, 0.7, 1.0)
NODULE_MM = 20.0
TILE = (64, 64, 48)
IMAGE_ID = "bench"
READ_MASK, RECORD = "read mask", "record"
CORE = ("prepare", "sample", "compose", RECORD)
"""All of a request but reading and sending volumes."""


@dataclass
class Samples:
    """Seconds of each phase, one per repeat, in the order in which the phases were first measured."""

    title: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, phase: str, seconds: float) -> None:
        self.seconds.setdefault(phase, []).append(seconds)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(phase, time.perf_counter() - began)

    def total(self, name: str, phases: Sequence[str]) -> None:
        """Add the sum of some phases, repeat by repeat."""
        self.seconds[name] = [sum(parts) for parts in zip(*(self.seconds[p] for p in phases), strict=True)]

    def medians(self) -> dict[str, float]:
        return {phase: round(float(np.median(values)), 4) for phase, values in self.seconds.items()}


@dataclass(frozen=True)
class CaseFiles:
    """A CT in two forms and the mask of a nodule in its middle."""

    nii: Path
    nii_gz: Path
    mask: Path

    @classmethod
    def write(cls, folder: Path, shape: Shape) -> CaseFiles:
        ct = lung_like(shape)
        files = cls(folder / "ct.nii", folder / "ct.nii.gz", folder / "mask.nii.gz")
        for path in (files.nii, files.nii_gz):
            write_volume(ct, path)
        write_volume(nodule(ct), files.mask)
        return files


def lung_like(shape: Shape) -> Volume:
    """int16 HU: a small chest phantom and its mirror images, side by side until the shape is full."""
    i, j, k = (mm / n for mm, n in zip(FIELD_MM, TILE, strict=True))
    tile = chest_phantom(shape=TILE, spacing_mm=(i, j, k)).volume.array
    index = [np.resize(np.r_[:m, m - 1 : -1 : -1], n) for m, n in zip(tile.shape, shape, strict=True)]
    return Volume(np.asfortranarray(tile[np.ix_(*index)]), np.diag((*SPACING_MM, 1.0)))


def nodule(ct: Volume, diameter_mm: float = NODULE_MM) -> Volume:
    """A ball in the middle."""
    offsets_mm = [(np.arange(n) - n / 2) * mm for n, mm in zip(ct.shape, ct.spacing_mm, strict=True)]
    x, y, z = (axis**2 for axis in offsets_mm)
    inside = x[:, None, None] + y[None, :, None] + z[None, None, :] <= (diameter_mm / 2) ** 2
    return ct.with_array(np.asfortranarray(inside.astype(np.uint8)))


@dataclass(frozen=True)
class InProcess:
    """Requests to a loaded model, in this process."""

    model: Model
    request: EditRequest

    def every_phase(self, files: CaseFiles, repeats: int) -> Samples:
        """From files to files; the last rows are what someone waits for once the CT is in memory."""
        samples = Samples("in this process")
        self.core(Samples(""), require_ct(read_volume(files.nii)), read_volume(files.mask))
        for _ in trange(repeats, desc=samples.title, leave=False):
            with samples.measure("read CT (.nii.gz)"):
                require_ct(read_volume(files.nii_gz))
            with samples.measure("read CT (.nii)"):
                reference = require_ct(read_volume(files.nii))
            with samples.measure("fingerprint of the CT, once per CT"):
                _ = reference.voxel_sha256
            with samples.measure(READ_MASK):
                mask = read_volume(files.mask)
            _write_results(samples, self.core(samples, reference, mask), files.nii.parent)
        samples.total("request to box", (READ_MASK, *CORE, WRITE_BOX))
        samples.total("request to whole CT", (READ_MASK, *CORE, COPY, WRITE))
        return samples

    def ask(self, files: CaseFiles) -> None:
        """One request, from files to a file."""
        reference = require_ct(read_volume(files.nii))
        result = self.core(Samples(""), reference, read_volume(files.mask))
        write_volume(result.volume(), files.nii.with_name("result.nii"))

    def core(self, samples: Samples, reference: Volume, mask: Volume) -> Synthesis:
        began = time.perf_counter()
        result = synthesize(reference, mask, self.request, self.model)[0]
        whole = time.perf_counter() - began
        phases = result.provenance.seconds
        for name, seconds in phases.items():
            samples.add(name, seconds)
        samples.add(RECORD, whole - sum(phases.values()))
        return result

    def scaling(self, shapes: Sequence[Shape], repeats: int) -> list[Samples]:
        """The same nodule in CTs of several sizes, taken in turns; reading and sending are left out."""
        runs = []
        for shape in shapes:
            ct = lung_like(shape)
            runs.append((Samples(f"{' x '.join(map(str, shape))}, CT in memory"), ct, nodule(ct)))
            self.core(Samples(""), ct, runs[-1][2])
        for _ in trange(repeats, desc="scaling", leave=False):
            for samples, ct, mask in runs:
                self.core(samples, ct, mask)
        for samples, _, _ in runs:
            samples.total("all but reading and sending", CORE)
        return [samples for samples, _, _ in runs]


COPY, WRITE, WRITE_BOX = "copy whole CT", "write whole CT (.nii)", "write box (.nii)"


def _write_results(samples: Samples, result: Synthesis, folder: Path) -> None:
    with samples.measure(WRITE_BOX):
        write_volume(result.box_volume(), folder / "box.nii")
    with samples.measure(COPY):
        volume = result.volume()
    with samples.measure(WRITE):
        write_volume(volume, folder / "result.nii")


@dataclass(frozen=True)
class OverHttp:
    """Requests to a server that has the CT already."""

    client: Client
    model: str
    request: EditRequest

    def every_phase(self, files: CaseFiles, repeats: int) -> Samples:
        """The server's own phases, then all that the client waits for: the whole CT in a file."""
        samples = Samples("from files to a file, the CT is on the server")
        self.ask(files)
        for _ in trange(repeats, desc=samples.title, leave=False):
            began = time.perf_counter()
            phases = self.ask(files)
            whole = time.perf_counter() - began
            for name, seconds in phases.items():
                samples.add(f"server: {name}", seconds)
            samples.add("sending, receiving and the rest", whole - sum(phases.values()))
            samples.add("request to result", whole)
        return samples

    def ask(self, files: CaseFiles) -> dict[str, float]:
        """One request; the seconds the server took per phase."""
        params = self.request.model_dump(mode="json")
        out = files.nii.parent / "answer.nii"
        answer = self.client.infer(
            self.model, image_id=IMAGE_ID, mask_path=files.mask, out_path=out, params=params
        )
        return answer.seconds


@dataclass(frozen=True)
class OverJobs:
    """Jobs on a server that has the CT already, as the Slicer module asks for them."""

    client: JobClient
    order: Order

    def every_phase(self, repeats: int) -> Samples:
        """From the mask to the box, checked and in memory; and into a copy of a CT is one copy more."""
        samples = Samples("over job routes, the CT is on the server")
        self.ask(Samples(""))
        for _ in trange(repeats, desc=samples.title, leave=False):
            self.ask(samples)
        samples.total("submit to box", (SUBMIT, FOLLOW, GET_BOX))
        return samples

    def ask(self, samples: Samples) -> None:
        with samples.measure(SUBMIT):
            job = self.client.submit(self.order)
        with samples.measure(FOLLOW):
            last = self.client.follow(job.id)
        if last.state != "done":
            raise JobFailed(last)
        with samples.measure(GET_BOX):
            self.client.box(job.id)


SUBMIT, FOLLOW, GET_BOX = "submit the mask", "follow to the end", "get the box"


@dataclass(frozen=True)
class Memory:
    """RAM of a process after each of a number of equal requests, in MB."""

    title: str
    resident_mb: list[float]

    @classmethod
    def after_each(cls, title: str, count: int, process: int, ask: Callable[[], object]) -> Memory:
        mb = []
        for _ in trange(count, desc=f"memory {title}", leave=False):
            ask()
            mb.append(round(resident_mb(process), 1))
        return cls(title, mb)

    @property
    def slope_mb(self) -> float:
        """MB per request over the second half, when caches are full: a least-squares line."""
        half = self.resident_mb[len(self.resident_mb) // 2 :]
        return float(np.polyfit(np.arange(len(half)), half, 1)[0])
