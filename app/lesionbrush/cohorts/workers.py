"""Those who make cases, whatever they are: tasks go in, news of each case comes out.

A task is some cases of one reference, which is then read once. A worker that dies costs the cases it had not
finished: others make them. `processes` has workers of this machine, `cluster` those of several machines.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.folder import CohortFolder, CohortProblem
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, write_case
from lesionbrush.errors import LesionBrushError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_ATTEMPTS = 2
"""How often cases are tried that a worker died over."""


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
class TaskOver:
    """A worker is free again."""


@dataclass(eq=False)
class CaseWorker(ABC):
    """Does one task after the other. busy: not free for a next one; left: cases of its task that no news was
    of.
    """

    task: CohortTask | None = None
    left: tuple[PlannedCase, ...] = ()
    busy: bool = False

    def take(self, task: CohortTask) -> None:
        self.task, self.left, self.busy = task, task.cases, True
        self.send(task)

    def hear(self) -> CaseNews | TaskOver | None:
        """The next news of a busy one; None: it is dead."""
        news = self.receive()
        if isinstance(news, TaskOver):
            self.task, self.left, self.busy = None, (), False
        elif news is not None:
            self.left = tuple(case for case in self.left if news.case not in ("", case.id))
        return news

    @abstractmethod
    def send(self, task: CohortTask) -> None:
        """Where it is dead, `receive` says so next."""

    @abstractmethod
    def receive(self) -> CaseNews | TaskOver | None: ...

    @abstractmethod
    def ending(self) -> str:
        """How a dead one ended; "" where its cases had no part in that."""


Member = TypeVar("Member", bound=CaseWorker)


@dataclass(eq=False)
class Crew(ABC, Generic[Member]):
    """All workers of a cohort. They end with the context that made the crew."""

    workers: list[Member] = field(default_factory=list)

    @abstractmethod
    def with_news(self) -> list[Member]:
        """Waits until a busy one has news. Raises InvalidRequest where none will ever."""

    @abstractmethod
    def replace(self, dead: Member) -> None: ...


def make_all(crew: Crew[Member], tasks: Sequence[CohortTask]) -> Generator[CaseNews, None, None]:
    """News of every case of the tasks, as they come."""
    waiting = list(tasks)[::-1]
    while waiting or any(worker.left for worker in crew.workers):
        for worker in crew.workers:
            if waiting and not worker.busy:
                worker.take(waiting.pop())
        for worker in crew.with_news():
            news = worker.hear()
            if isinstance(news, CaseNews):
                yield news
            elif news is None:
                yield from _after_death(worker, waiting)
                crew.replace(worker)


def _after_death(worker: CaseWorker, waiting: list[CohortTask]) -> Iterator[CaseNews]:
    """Once more what it had not finished; of a case over which two died, that it did."""
    task, left = worker.task, worker.left
    if task is None or not left:
        return
    worker.task, worker.left = None, ()
    first, *rest = left
    ending = worker.ending()
    if task.attempt < _ATTEMPTS or not ending:
        waiting.append(CohortTask(task.reference, left, task.attempt + (1 if ending else 0)))
        return
    reason = (
        f"the process that made it ended twice ({ending}): it may need more memory than there is; use fewer "
        "workers, then resume"
    )
    yield CaseNews(task.reference, first.id, 0.0, CohortProblem(task.reference, first.id, "died", reason))
    if rest:
        waiting.append(CohortTask(task.reference, tuple(rest)))


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


# --- where the work is done ---


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
            if folder.is_done(case.id):  # by a worker that was thought to be dead: of the same voxels
                yield CaseNews(task.reference, case.id)
                continue
            yield CaseNews(task.reference, case.id, problem=_problem(task.reference, case.id, error))
        else:
            yield CaseNews(task.reference, case.id, record.seconds)


def _problem(reference: str, case: str, error: LesionBrushError | OSError) -> CohortProblem:
    code = error.code if isinstance(error, LesionBrushError) else "os_error"
    return CohortProblem(reference, case, code, str(error))
