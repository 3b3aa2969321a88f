"""Workers that are processes of this machine, each asked through a pipe of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.making import CaseMaker, ModelRack, stop_when
from lesionbrush.cohorts.workers import (
    CaseNews,
    CaseWorker,
    CohortTask,
    Crew,
    TaskOver,
    carry_out,
    one_thread,
)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class ProcessWorker(CaseWorker):
    process: SpawnProcess = field(kw_only=True)
    pipe: Connection = field(kw_only=True)

    @classmethod
    def start(cls, path: Path, device: str | None) -> ProcessWorker:
        """path: of the cohort."""
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, path, device, os.getpid()), daemon=True)
        with one_thread():
            process.start()
        theirs.close()
        return cls(process=process, pipe=pipe)

    def send(self, task: CohortTask) -> None:
        try:
            self.pipe.send(task)
        except OSError:  # it has just died, which its pipe says next
            return

    def receive(self) -> CaseNews | TaskOver | None:
        try:
            news: CaseNews | TaskOver = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return news

    def ending(self) -> str:
        self.process.join(1)
        return f"exit code {self.process.exitcode}"


@dataclass(eq=False)
class ProcessCrew(Crew[ProcessWorker]):
    """gone: those that died."""

    path: Path = field(kw_only=True)
    device: str | None = field(kw_only=True)
    gone: list[ProcessWorker] = field(default_factory=list)

    def with_news(self) -> list[ProcessWorker]:
        busy = {worker.pipe: worker for worker in self.workers if worker.busy}
        return [busy[pipe] for pipe in wait(list(busy)) if isinstance(pipe, Connection)]

    def replace(self, dead: ProcessWorker) -> None:
        self.workers.remove(dead)
        self.gone.append(dead)
        self.workers.append(ProcessWorker.start(self.path, self.device))


@contextmanager
def processes(path: Path, count: int, device: str | None) -> Iterator[ProcessCrew]:
    """As many as that for the cohort at `path`, one thread each."""
    crew = ProcessCrew(path=path, device=device)
    try:
        for _ in range(count):
            crew.workers.append(ProcessWorker.start(path, device))
        yield crew
    finally:
        started = [*crew.workers, *crew.gone]
        for worker in started:
            worker.process.terminate()
        for worker in started:
            worker.process.join()
            worker.pipe.close()


# --- in the process ---


def _work(pipe: Connection, path: Path, device: str | None, parent: int) -> None:
    """Tasks until the pipe ends; Ctrl-C is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = CohortFolder.open(path)
    orphaned = stop_when(lambda: os.name != "nt" and os.getppid() != parent)
    maker = CaseMaker(folder.specification, folder.asked, ModelRack(device), orphaned)
    while True:
        try:
            task = pipe.recv()
            for news in carry_out(folder, task, maker):
                pipe.send(news)
            pipe.send(TaskOver())
        except (EOFError, OSError):
            return
