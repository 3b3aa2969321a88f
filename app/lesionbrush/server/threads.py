"""How a crowd of requests leaves the event loop free for all others.

Threads that unpack masks take Python's lock between two chunks. Where fifty did so at once, the event loop
waited most of a second for its turn. So few of them work at a time, and the others wait without a thread; and
fifty uploads that arrive at once are taken up one by one.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, Lock
from anyio.lowlevel import RunVar, checkpoint
from anyio.to_thread import run_sync

AT_ONCE = min(4, max(2, (os.cpu_count() or 2) // 4))

P = ParamSpec("P")
T = TypeVar("T")
_files: RunVar[CapacityLimiter] = RunVar("lesionbrush_files")
_turn: RunVar[Lock] = RunVar("lesionbrush_turn")


def few_at_a_time(work: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """For work on files that came in: the same to be awaited, in a thread, once there is room for it.

    Raises what `work` raises.
    """

    @wraps(work)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> T:
        limiter = _of_this_loop(_files, lambda: CapacityLimiter(AT_ONCE))
        return await run_sync(lambda: work(*args, **kwargs), limiter=limiter)

    return awaited


async def in_turn() -> None:
    """Returns for one caller in each round of the event loop, so that others come in between."""
    async with _of_this_loop(_turn, Lock):
        await checkpoint()


def _of_this_loop(variable: RunVar[T], make: Callable[[], T]) -> T:
    try:
        return variable.get()
    except LookupError:
        made = make()
        variable.set(made)
        return made
