"""All pending cases of a cohort, made by some processes, with what becomes of them kept as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.workers import CaseNews, CohortTask, make_all

_TASKS_EACH = 4
"""So many tasks for each worker, at least, as long as there are cases: none waits for another for long."""


def run_cohort(folder: CohortFolder, workers: int, device: str | None = None) -> Iterator[CaseNews]:
    """News of each pending case; a reference that cannot be read is one piece of news.

    Whenever it ends, also by an error or an interrupt, the report is written. Raises InvalidRequest (another
    process works on it), StorageFull.
    """
    with folder.held():
        tasks = split_into_tasks(folder.pending(), workers)
        for task in tasks:
            folder.forget(task.reference)
        try:
            with closing(make_all(folder, tasks, workers, device)) as all_news:
                for news in all_news:
                    _keep(folder, news)
                    yield news
        finally:
            folder.write_report()


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
