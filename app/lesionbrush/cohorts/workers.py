"""Processes that make cases, one thread each: tasks go in, news of each case comes out.

A task is some cases of one reference, which is then read once. Each process is asked through a pipe of its
own; one that dies costs the cases it had not finished.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.folder import CohortFolder, CohortProblem
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack, stop_when, write_case
from lesionbrush.errors import LesionBrushError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_ATTEMPTS = 2
"""How often cases are tried that a process died over."""


@dataclass(frozen=True)
class CohortTask:
    """Cases of one reference. attempt: from 1."""

    reference: str
    cases: tuple[PlannedCase, ...]
    attempt: int = 1


@dataclass(frozen=True)
class CaseNews:
    """What became of one case. case: "" where the whole reference could not be read; problem: None for one
    that is on the disk.
    """

    reference: str
    case: str
    seconds: float = 0.0
    problem: CohortProblem | None = None


@dataclass(frozen=True)
class _TaskOver:
    """A process is free again."""


@dataclass
class _Helper:
    process: SpawnProcess
    pipe: Connection
    task: CohortTask | None = None
    left: tuple[PlannedCase, ...] = ()


_Start = Callable[[], _Helper]


def make_all(
    folder: CohortFolder, tasks: Sequence[CohortTask], count: int, device: str | None = None
) -> Generator[CaseNews, None, None]:
    """News of every case of the tasks, as they come. The processes end with the iterator."""
    waiting = list(tasks)[::-1]
    with _helpers(folder.path, min(count, len(waiting)), device) as (helpers, another):
        while waiting or any(helper.task for helper in helpers):
            for helper in helpers:
                if helper.task is None and waiting:
                    _send(helper, waiting.pop())
            for helper in _with_news(helpers):
                news = _receive(helper)
                if isinstance(news, CaseNews):
                    yield news
                elif news is None:
                    yield from _after_death(helper, waiting)
                    helpers[helpers.index(helper)] = another()


def _send(helper: _Helper, task: CohortTask) -> None:
    helper.task, helper.left = task, task.cases
    try:
        helper.pipe.send(task)
    except OSError:  # it has just died, which its pipe says next
        return


def _with_news(helpers: Sequence[_Helper]) -> list[_Helper]:
    busy = {helper.pipe: helper for helper in helpers if helper.task}
    return [busy[pipe] for pipe in wait(list(busy)) if isinstance(pipe, Connection)]


def _receive(helper: _Helper) -> CaseNews | _TaskOver | None:
    """None: the process is dead."""
    try:
        news: CaseNews | _TaskOver = helper.pipe.recv()
    except (EOFError, OSError):
        return None
    if isinstance(news, _TaskOver):
        helper.task = None
    else:
        helper.left = tuple(case for case in helper.left if news.case not in ("", case.id))
    return news


def _after_death(helper: _Helper, waiting: list[CohortTask]) -> Iterator[CaseNews]:
    """Once more what it had not finished; of a case over which two died, that it did."""
    task, helper.task = helper.task, None
    helper.process.join(1)
    if task is None or not helper.left:
        return
    first, *rest = helper.left
    if task.attempt < _ATTEMPTS:
        waiting.append(CohortTask(task.reference, helper.left, task.attempt + 1))
        return
    reason = (
        f"the process that made it ended twice (exit code {helper.process.exitcode}): it may need more "
        "memory than there is; use fewer workers, then resume"
    )
    yield CaseNews(task.reference, first.id, 0.0, CohortProblem(task.reference, first.id, "died", reason))
    if rest:
        waiting.append(CohortTask(task.reference, tuple(rest)))


@contextmanager
def _helpers(
    path: Path, count: int, device: str | None
) -> Iterator[tuple[list[_Helper], Callable[[], _Helper]]]:
    context = get_context("spawn")
    started: list[_Helper] = []

    def another() -> _Helper:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, path, device, os.getpid()), daemon=True)
        with one_thread():
            process.start()
        theirs.close()
        started.append(_Helper(process, pipe))
        return started[-1]

    try:
        yield [another() for _ in range(count)], another
    finally:
        for helper in started:
            helper.process.terminate()
        for helper in started:
            helper.process.join()
            helper.pipe.close()


@contextmanager
def one_thread() -> Iterator[None]:
    """What libraries read when they are loaded: in a process that starts now, or later in this one."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
            pipe.send(_TaskOver())
        except (EOFError, OSError):
            return


def carry_out(folder: CohortFolder, task: CohortTask, maker: CaseMaker) -> Iterator[CaseNews]:
    """Each case of a task, whole on the disk or with its reason."""
    try:
        host = CohortHost.read(folder.reference(task.reference))
    except (LesionBrushError, OSError) as error:
        yield CaseNews(task.reference, "", problem=_problem(task.reference, "", error))
        return
    for case in task.cases:
        try:
            record = write_case(maker.make(case, host), folder.folder_of(case.id))
        except (LesionBrushError, OSError) as error:
            yield CaseNews(task.reference, case.id, problem=_problem(task.reference, case.id, error))
        else:
            yield CaseNews(task.reference, case.id, record.seconds)


def _problem(reference: str, case: str, error: LesionBrushError | OSError) -> CohortProblem:
    code = error.code if isinstance(error, LesionBrushError) else "os_error"
    return CohortProblem(reference, case, code, str(error))
