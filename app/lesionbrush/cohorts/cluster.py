"""Workers on several machines, which Ray has made one cluster of: an actor each, with a model of its own.

Ray is no part of the usual installation (requirements-ray.txt). Nothing but tasks and news goes over the
network: references are read, and cases written, in folders that all machines see at the same path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionbrush import __version__
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.making import CaseMaker, ModelRack
from lesionbrush.cohorts.workers import THREADS, CaseNews, CaseWorker, CohortTask, Crew, TaskOver, carry_out
from lesionbrush.errors import InvalidRequest, LesionBrushError

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements-ray.txt"
SHARED_VARIABLES = ("LESIONBRUSH_MODELS", "LESIONBRUSH_ENGINE", "LESIONBRUSH_SYSTEMS")
"""What voxels depend on: of the machine that asks, on all of them."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
_PATIENCE_S = 120
"""How long no machine may have room for any worker."""
_FALSE_STARTS = 3


def require_ray() -> ModuleType:
    """The library, which reports to nobody. Raises InvalidRequest where it is not installed."""
    os.environ.update(QUIET)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise InvalidRequest(
            "several machines need Ray, which is not installed here: "
            f"{sys.executable} -m pip install -r {REQUIREMENTS}"
        ) from error
    return ray


@dataclass(frozen=True)
class Seat:
    """Where a worker sits. node: Ray's name of the machine; problem: why it cannot work there."""

    node: str
    host: str
    problem: str = ""


class CaseActor:
    """What runs on a node: one model, one reference at a time, one thread."""

    def __init__(self, path: Path, device: str) -> None:
        """path: of the cohort."""
        self.path, self.device = path, device

    def begin(self, asked: str, version: str) -> Iterator[Seat]:
        """asked: the digest of the cohort."""
        import ray

        context = ray.get_runtime_context()
        yield Seat(context.get_node_id(), ray.util.get_node_ip_address(), self._begin(asked, version))

    def _begin(self, asked: str, version: str) -> str:
        """What is wrong here, or ""."""
        if version != __version__:
            return f"it has LesionBrush {__version__}, not {version}: install the same on all machines"
        try:
            folder = CohortFolder.open(self.path)
        except LesionBrushError as error:
            return f"{error}: the cohort's folder has to be seen there at the same path"
        if folder.asked != asked:
            return f"{self.path.name} is another cohort there: share the folder, at the same path"
        self.folder = folder
        self.maker = CaseMaker(folder.specification, folder.asked, ModelRack(self.device))
        return ""

    def carry_out(self, task: CohortTask) -> Iterator[CaseNews]:
        yield from carry_out(self.folder, task, self.maker)


@dataclass(eq=False)
class RayWorker(CaseWorker):
    """An actor. stream: what it says, as it comes; seat: None until it has one."""

    busy: bool = True
    ray: Any = field(kw_only=True)
    actor: Any = field(kw_only=True)
    stream: Any = field(kw_only=True)
    seat: Seat | None = None

    def send(self, task: CohortTask) -> None:
        self.stream = self.actor.carry_out.remote(task)

    def receive(self) -> CaseNews | TaskOver | None:
        try:
            said = self.ray.get(next(self.stream))
        except StopIteration:
            return TaskOver()
        except self.ray.exceptions.RayError:
            return None
        if not isinstance(said, Seat):
            news: CaseNews = said
            return news
        if said.problem:
            raise InvalidRequest(f"{said.host}: {said.problem}")
        self.seat = said
        return TaskOver()

    def ending(self) -> str:
        """Cases have no part in the end of a whole machine."""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        if self.seat is None or self.seat.node not in alive:
            return ""
        return f"on {self.seat.host}"


@dataclass(eq=False)
class RayCrew(Crew[RayWorker]):
    """actor: Ray's form of `CaseActor`, with what it needs; false_starts: of workers that died before they
    had a seat, one after the other.
    """

    ray: Any = field(kw_only=True)
    actor: Any = field(kw_only=True)
    folder: CohortFolder = field(kw_only=True)
    device: str = field(kw_only=True)
    false_starts: int = 0

    def begin(self) -> None:
        """One more worker, which takes its seat when there is room."""
        actor = self.actor.remote(self.folder.path.resolve(), self.device)
        stream = actor.begin.remote(self.folder.asked, __version__)
        self.workers.append(RayWorker(ray=self.ray, actor=actor, stream=stream))

    def with_news(self) -> list[RayWorker]:
        busy = [worker for worker in self.workers if worker.busy]
        ready, _ = self.ray.wait([worker.stream for worker in busy], timeout=_PATIENCE_S)
        if not ready and not any(worker.seat for worker in self.workers):
            raise InvalidRequest(
                f"no machine of the cluster had room for a worker in {_PATIENCE_S} s: see what else runs "
                "on it, or begin another node, then resume"
            )
        return [worker for worker in busy if any(worker.stream is one for one in ready)]

    def replace(self, dead: RayWorker) -> None:
        self.false_starts = 0 if dead.seat else self.false_starts + 1
        if self.false_starts == _FALSE_STARTS:
            raise InvalidRequest(
                f"{_FALSE_STARTS} workers ended before they had begun: is the same LesionBrush on all "
                "machines? Begin nodes with `cohort node`"
            )
        self.workers.remove(dead)
        self.begin()

    def end(self) -> None:
        """What a worker writes when it is ended is no case yet."""
        for worker in self.workers:
            self.ray.kill(worker.actor)
        for worker in self.workers:
            if worker.left:
                self.ray.wait([worker.stream], timeout=5)


@contextmanager
def cluster(folder: CohortFolder, address: str, count: int | None, device: str | None) -> Iterator[RayCrew]:
    """Workers on the nodes at HOST:PORT; this machine has to be one of them.

    count: None for as many as there are GPUs, or CPUs where there is none. All work on one kind, since voxels
    differ a little between the two. Raises InvalidRequest.
    """
    ray = require_ray()
    try:
        _connect(ray, address)
        room = ray.cluster_resources()
        cpus, gpus = int(room.get("CPU", 0)), int(room.get("GPU", 0))
        chosen = _device(device, gpus)
        own = {name: os.environ[name] for name in SHARED_VARIABLES if name in os.environ}
        actor = ray.remote(CaseActor).options(
            num_cpus=1,
            num_gpus=1 if chosen == "cuda" else 0,
            runtime_env={"env_vars": {**QUIET, **dict.fromkeys(THREADS, "1"), **own}},
        )
        crew = RayCrew(ray=ray, actor=actor, folder=folder, device=chosen)
        for _ in range(count or (gpus if chosen == "cuda" else cpus)):
            crew.begin()
        try:
            yield crew
        finally:
            crew.end()
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InvalidRequest(
            f"no cluster was found at {address} ({str(error).splitlines()[0]}): give HOST:PORT as "
            "`cohort node` said it, on a machine that is one of its nodes"
        ) from error


def _device(device: str | None, gpus: int) -> str:
    """Raises InvalidRequest."""
    if device not in (None, "cpu", "cuda"):
        raise InvalidRequest(f"--device {device}: with --ray give cpu or cuda; Ray shares the GPUs out")
    if device == "cuda" and not gpus:
        raise InvalidRequest("--device cuda: the cluster has no GPU")
    return device or ("cuda" if gpus else "cpu")
