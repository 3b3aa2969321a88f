"""A crowd of requests leaves the event loop free: few files at a time, one upload per round of the loop."""

from __future__ import annotations

import asyncio
import threading
import time
from inspect import signature
from itertools import pairwise

import pytest
from doors_kit import House
from fastapi.testclient import TestClient
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.threads import AT_ONCE, few_at_a_time, in_turn

CROWD = 30


class Counted:
    """Work that notes how many do it at the same time."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds, self.now, self.most = seconds, 0, 0
        self._lock = threading.Lock()

    def work(self, number: int) -> int:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return number


class TestFewAtATime:
    def test_no_more_than_that_and_all_of_them(self) -> None:
        counted = Counted()

        async def crowd() -> list[int]:
            return await asyncio.gather(*(few_at_a_time(counted.work)(number) for number in range(CROWD)))

        assert asyncio.run(crowd()) == list(range(CROWD))
        assert counted.most == AT_ONCE

    def test_different_work_counts_together(self) -> None:
        counted = Counted()

        def other(number: int) -> int:
            return counted.work(number)

        async def crowd() -> None:
            works = (few_at_a_time(counted.work), few_at_a_time(other))
            await asyncio.gather(*(works[number % 2](number) for number in range(CROWD)))

        asyncio.run(crowd())
        assert counted.most == AT_ONCE

    def test_those_that_wait_have_no_thread(self) -> None:
        counted = Counted(0.05)

        async def crowd() -> int:
            before = threading.active_count()
            tasks = [asyncio.create_task(few_at_a_time(counted.work)(1)) for _ in range(CROWD)]
            await asyncio.sleep(0.02)
            more = threading.active_count() - before
            await asyncio.gather(*tasks)
            return more

        assert asyncio.run(crowd()) <= AT_ONCE

    def test_what_it_raises_is_raised_and_its_place_is_free_again(self) -> None:
        def refused() -> None:
            raise InvalidRequest("no")

        async def often() -> None:
            for _ in range(3 * AT_ONCE):
                with pytest.raises(InvalidRequest, match="no"):
                    await few_at_a_time(refused)()

        asyncio.run(often())

    def test_the_framework_sees_the_same_parameters(self) -> None:
        def work(label: bytes, params: str = "{}") -> str:
            return params

        assert signature(few_at_a_time(work)) == signature(work)


class TestInTurn:
    def test_others_come_in_between(self) -> None:
        """A task that only wants to be run often is run between any two of the crowd."""
        order: list[str] = []

        async def one() -> None:
            await in_turn()
            order.append("crowd")

        async def other() -> None:
            while order.count("crowd") < CROWD:
                order.append("other")
                await asyncio.sleep(0)

        async def both() -> None:
            await asyncio.gather(*(one() for _ in range(CROWD)), other())

        asyncio.run(both())
        assert order.count("crowd") == CROWD
        assert ("crowd", "crowd") not in set(pairwise(order))

    def test_one_that_gives_up_holds_nobody_up(self) -> None:
        async def crowd() -> None:
            gone = [asyncio.create_task(in_turn()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await asyncio.wait_for(in_turn(), 5)

        asyncio.run(crowd())

    @pytest.mark.parametrize(
        ("method", "path", "waits"),
        [("POST", "/lesionbrush/v1/jobs", True), ("GET", "/info/", False), ("GET", "/health/live", False)],
    )
    def test_it_is_for_uploads(
        self, monkeypatch: pytest.MonkeyPatch, method: str, path: str, waits: bool
    ) -> None:
        waited: list[bool] = []

        async def noted() -> None:
            waited.append(True)

        monkeypatch.setattr("lesionbrush.server.doors.gate.in_turn", noted)
        client: TestClient = House().client()
        assert client.request(method, path).is_success
        assert bool(waited) is waits


def test_trivial_dependencies_of_the_routes_start_no_thread() -> None:
    """FastAPI runs what is not `async` in a thread, of which there are forty."""
    from lesionbrush.server.http import deps, job_routes, routes

    quick = (deps.the_service, deps.the_studies, deps.the_vault, deps.the_client, deps.receive_inputs)
    assert all(asyncio.iscoroutinefunction(dependency) for dependency in (*quick, routes.uploads))
    assert asyncio.iscoroutinefunction(job_routes.receive_form)
    waiting = (routes.receive_order, job_routes.the_order)
    assert all(asyncio.iscoroutinefunction(dependency) for dependency in waiting)
