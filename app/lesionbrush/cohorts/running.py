"""All pending cases of a cohort, made by some workers, with what becomes of them kept as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.cluster import cluster
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.processes import processes, usable_cores
from lesionbrush.cohorts.workers import CaseNews, CohortTask, Crew, make_all

_TASKS_EACH = 4
"""So many tasks for each worker, at least, as long as there are cases: none waits for another for long."""


@dataclass(frozen=True)
class Workplace:
    """Who makes the cases. workers: None for as many as there is room for; ray: HOST:PORT of a cluster, ""
    for processes of this machine.
    """

    workers: int | None = None
    device: str | None = None
    ray: str = ""

    def crew(self, folder: CohortFolder, cases: int) -> AbstractContextManager[Crew]:
        """No more of them than cases. Raises InvalidRequest."""
        if self.ray:
            return cluster(folder, self.ray, self.workers and min(self.workers, cases), self.device)
        return processes(folder.path, min(self.workers or usable_cores(), cases), self.device)


def run_cohort(folder: CohortFolder, where: Workplace) -> Iterator[CaseNews]:
    """News of each pending case; a reference that cannot be read is one piece of news.

    Whenever it ends, also by an error or an interrupt, the report is written. Raises InvalidRequest (another
    process works on it, no cluster), StorageFull.
    """
    with folder.held():
        pending = folder.pending()
        for reference in {case.reference for case in pending}:
            folder.forget(reference)
        try:
            if pending:
                yield from _news(folder, where, pending)
        finally:
            folder.write_report()


def _news(folder: CohortFolder, where: Workplace, pending: Sequence[PlannedCase]) -> Iterator[CaseNews]:
    with where.crew(folder, len(pending)) as crew:
        tasks = split_into_tasks(pending, len(crew.workers))
        with closing(make_all(crew, tasks)) as all_news:
            for news in all_news:
                _keep(folder, news)
                yield news


def _keep(folder: CohortFolder, news: CaseNews) -> None:
    if news.problem is not None:
        folder.note(news.problem)
    else:
        folder.forget(news.reference, news.case)


def split_into_tasks(cases: Sequence[PlannedCase], workers: int) -> list[CohortTask]:
    """Cases of one reference together, but not so many that workers have nothing to do at the end."""
    most = max(1, len(cases) // (workers * _TASKS_EACH))
    tasks = []
    for reference in Counter(case.reference for case in cases):
        own = [case for case in cases if case.reference == reference]
        parts = -(-len(own) // most) if workers > 1 else 1
        size = -(-len(own) // parts)
        tasks += [CohortTask(reference, tuple(own[k : k + size])) for k in range(0, len(own), size)]
    return tasks
