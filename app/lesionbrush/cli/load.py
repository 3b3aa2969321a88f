"""What a server does under load: results of many clients at once, waits of others, memory over time."""

from __future__ import annotations

import hashlib
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
from tqdm import tqdm

from lesionbrush.cli.latency import CaseFiles, Memory, Shape
from lesionbrush.cli.local_server import ServerFailed, local_server
from lesionbrush.cli.machine import this_machine
from lesionbrush.cli.options import request_from
from lesionbrush.cli.outputs import write_report
from lesionbrush.cli.probe import Probe
from lesionbrush.errors import InvalidRequest

PREFIX = "/lesionbrush/v1"
SILENCE_S = 120.0
RETRY_S = 5.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="load: at once (50)")
    parser.add_argument("--jobs", type=int, default=200, metavar="N", help="load: for the memory (200)")


@dataclass(frozen=True)
class Got:
    """One result: the seed its record names, and the SHA-256 of its box."""

    seed: int
    box_sha256: str


@dataclass(frozen=True)
class Caller:
    """Speaks the protocol with a server that has the CT. Safe for many threads. Raises ServerFailed."""

    url: str
    model: str
    reference: str
    mask: bytes
    params: dict[str, Any]

    @classmethod
    def sending(cls, url: str, model: str, files: CaseFiles, params: dict[str, Any]) -> Caller:
        """Send the CT."""
        content = files.nii.read_bytes()
        caller = cls(url, model, hashlib.sha256(content).hexdigest(), files.mask.read_bytes(), params)
        with caller._session("sender") as session:
            place = f"{url}{PREFIX}/references/{caller.reference}"
            _good(session.put(place, params={"format": "nii"}, data=content, timeout=SILENCE_S))
        return caller

    def job(self, seed: int, client: str = "alone") -> Got:
        """Submit, listen until it is over, fetch the box, forget the job."""
        with self._session(client) as session:
            status = self._submit(session, seed)
            base = f"{self.url}{PREFIX}/jobs/{status['id']}"
            _listen(session, f"{base}/events")
            box = _good(session.get(f"{base}/variants/1/box", timeout=SILENCE_S))
            record = _good(session.get(f"{base}/variants/1", timeout=SILENCE_S)).json()
            _good(session.delete(base, timeout=SILENCE_S))
        digest = hashlib.sha256(box.content).hexdigest()
        if digest != box.headers["X-LesionBrush-Box"]:
            raise ServerFailed(f"the box of seed {seed} is not the one its hash names")
        return Got(record["seed"], digest)

    def _submit(self, session: requests.Session, seed: int) -> dict[str, Any]:
        while True:
            answer = session.post(
                f"{self.url}{PREFIX}/jobs",
                params={"model": self.model, "reference": self.reference},
                data={"params": json.dumps({**self.params, "seed": seed})},
                files={"label": ("mask.nii.gz", self.mask)},
                timeout=SILENCE_S,
            )
            if answer.status_code != 503:
                status: dict[str, Any] = _good(answer).json()
                return status
            time.sleep(min(float(answer.headers.get("Retry-After", "1")), RETRY_S))

    @contextmanager
    def _session(self, client: str) -> Iterator[requests.Session]:
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update({"X-LesionBrush-Client": client, "Accept-Encoding": "identity"})
            yield session


def _listen(session: requests.Session, url: str) -> None:
    """Return after the last event of a job that is done."""
    last = b"{}"
    with session.get(url, stream=True, timeout=SILENCE_S) as stream:
        for line in _good(stream).iter_lines():
            last = line[6:] if line.startswith(b'data: {"id"') else last
    status = json.loads(last)
    if status.get("state") != "done":
        raise ServerFailed(f"a job ended {status.get('state')}: {status.get('error')}")


def _good(answer: requests.Response) -> requests.Response:
    if not answer.ok:
        raise ServerFailed(f"the server answered {answer.status_code}: {answer.text[:300]}")
    return answer


@dataclass(frozen=True)
class Waits:
    """Milliseconds for GET /info/."""

    when: str
    asked: int
    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, when: str, seconds: Sequence[float]) -> Waits:
        p50, p99, most = (round(1000 * float(np.quantile(seconds, q)), 1) for q in (0.5, 0.99, 1.0))
        return cls(when, len(seconds), p50, p99, most)

    def __str__(self) -> str:
        return f"{self.when:<32}{self.asked:>7}{self.p50_ms:>10.1f}{self.p99_ms:>10.1f}{self.most_ms:>10.1f}"


@dataclass
class LoadReport:
    """All that was measured in one run. wrong: results that are lost, swapped or not the ones of alone."""

    machine: str
    shape: Shape
    clients: int
    wrong: list[str] = field(default_factory=list)
    alone_s: float = 0.0
    together_s: float = 0.0
    waits: list[Waits] = field(default_factory=list)
    memory: Memory | None = None


def run(options: Namespace) -> int:
    """1 when a result was wrong."""
    request = request_from(options)
    if options.clients < 1 or options.jobs < 4:
        raise InvalidRequest(f"{options.clients} clients, {options.jobs} jobs: least are 1 and 4")
    i, j, k = options.shape
    report = LoadReport(str(this_machine()), (i, j, k), options.clients)
    with TemporaryDirectory(prefix="lesionbrush-load-") as folder:
        files = CaseFiles.write(Path(folder), report.shape)
        studies = Path(folder) / "studies"
        studies.mkdir()
        with local_server(studies, Path(folder) / "server.log", gpu=not options.cpu) as (client, process):
            params = request.model_dump(mode="json")
            caller = Caller.sending(client.url, options.model, files, params)
            measure(caller, process, options.jobs, report)
    print("\n".join(lines(report)))
    if options.json:
        write_report(json.dumps(asdict(report), indent=1), options.json)
    return 1 if report.wrong else 0


def measure(caller: Caller, process: int, jobs: int, report: LoadReport) -> None:
    """The first, alone, together, and again and again."""
    with Probe(caller.url) as probe:
        caller.job(0)
    report.waits.append(Waits.of("the first job: loads the model", probe.seconds))
    with Probe(caller.url) as probe:
        time.sleep(2.0)
    report.waits.append(Waits.of("at rest", probe.seconds))
    seeds = range(1, report.clients + 1)
    began = time.perf_counter()
    with Probe(caller.url) as probe:
        alone = {seed: caller.job(seed) for seed in tqdm(seeds, desc="alone", leave=False)}
    report.alone_s = round(time.perf_counter() - began, 2)
    report.waits.append(Waits.of("one client, one job at a time", probe.seconds))
    began = time.perf_counter()
    with Probe(caller.url) as probe:
        report.wrong = together(caller, alone)
    report.together_s = round(time.perf_counter() - began, 2)
    report.waits.append(Waits.of(f"{report.clients} clients at once", probe.seconds))
    if jobs:
        number = count(1000)
        report.memory = Memory.after_each("of the server", jobs, process, lambda: caller.job(next(number)))


def together(caller: Caller, alone: dict[int, Got]) -> list[str]:
    """Each seed from a client of its own, all at once; what came out wrong."""
    wrong = []
    with ThreadPoolExecutor(len(alone)) as pool:
        pending = {seed: pool.submit(caller.job, seed, f"client-{seed}") for seed in alone}
        for seed, future in tqdm(pending.items(), desc="together", leave=False):
            try:
                got = future.result()
            except (ServerFailed, requests.RequestException) as error:
                wrong.append(f"seed {seed}: lost ({error})")
                continue
            if got != alone[seed]:
                wrong.append(f"seed {seed}: got seed {got.seed}, box {got.box_sha256[:12]}")
    return wrong


def lines(report: LoadReport) -> Iterator[str]:
    size = " x ".join(map(str, report.shape))
    yield f"{report.machine}\n{size} voxels, {report.clients} clients with a seed each\n"
    yield f"{'results that are not those of alone':<42}{len(report.wrong)} of {report.clients}"
    yield from report.wrong
    yield f"{'seconds, one after the other':<42}{report.alone_s:.1f}"
    yield f"{'seconds, at once':<42}{report.together_s:.1f}\n"
    yield f"{'GET /info/, ms':<32}{'asked':>7}{'p50':>10}{'p99':>10}{'most':>10}"
    yield from map(str, report.waits)
    if report.memory is not None:
        mb = report.memory.resident_mb
        yield f"\nmemory of the server: {mb[0]:.0f} MB after 1 job, {mb[-1]:.0f} MB after {len(mb)}"
        yield f"  {report.memory.slope_mb:+.3f} MB per job over the second half"
