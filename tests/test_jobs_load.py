"""`bench load`: that it finds what is wrong, and what it prints."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from lesionbrush.cli import bench
from lesionbrush.cli.latency import Memory
from lesionbrush.cli.load import Got, LoadReport, Waits, lines, together
from lesionbrush.cli.local_server import ServerFailed
from lesionbrush.cli.probe import Probe, ProbeFailed
from lesionbrush.errors import InvalidRequest


@dataclass
class FakeCaller:
    """Answers each seed with its own box, but for those told otherwise."""

    odd: dict[int, Any] = field(default_factory=dict)

    def job(self, seed: int, client: str = "") -> Got:
        got = self.odd.get(seed, Got(seed, f"box {seed}"))
        if isinstance(got, Exception):
            raise got
        return got


ALONE = {seed: Got(seed, f"box {seed}") for seed in range(8)}


def test_right_results_are_not_reported() -> None:
    assert together(FakeCaller(), ALONE) == []


@pytest.mark.parametrize("got", [Got(3, "box 3"), Got(2, "box 3"), Got(3, "box 2"), ServerFailed("no")])
def test_lost_and_swapped_results_are_reported(got: Any) -> None:
    (wrong,) = together(FakeCaller({2: got}), ALONE)
    assert wrong.startswith("seed 2: ")


def test_the_table() -> None:
    report = LoadReport("machine", (8, 8, 8), 50, ["seed 2: lost (no)"], 3.0, 2.0)
    report.waits.append(Waits.of("at rest", [0.001] * 99 + [0.5]))
    report.memory = Memory("of the server", [100.0, 101.0, 102.0, 103.0])
    text = "\n".join(lines(report))
    assert "1 of 50" in text
    assert "seed 2: lost (no)" in text
    assert report.waits[0].p50_ms == 1.0
    assert report.waits[0].most_ms == 500.0
    assert "+1.000 MB per job" in text


@pytest.mark.parametrize("arguments", [["--clients", "0"], ["--jobs", "3"]])
def test_nothing_to_measure(arguments: list[str]) -> None:
    parser = ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(InvalidRequest, match="least are"):
        bench.run(parser.parse_args(["load", *arguments]))


class Answering(BaseHTTPRequestHandler):
    """GET /info/ in no time, or after `slow_s`; with the status of the class."""

    protocol_version = "HTTP/1.1"
    slow_s, status = 0.0, 200

    def do_GET(self) -> None:
        time.sleep(self.slow_s)
        self.send_response(self.status if self.path == "/info/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[tuple[str, type[Answering]]]:
    handler = type("Handler", (Answering,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


class TestProbe:
    def test_sees_how_long_an_answer_takes(self, answering: tuple[str, type[Answering]]) -> None:
        url, handler = answering
        with Probe(url) as probe:
            time.sleep(0.5)
            handler.slow_s = 0.3
            time.sleep(0.5)
        assert len(probe.seconds) > 3
        assert max(probe.seconds) >= 0.3
        assert min(probe.seconds) < 0.2

    def test_is_not_delayed_by_threads_that_play_clients(
        self, answering: tuple[str, type[Answering]]
    ) -> None:
        """It counts from a process of its own."""
        with Probe(answering[0]) as probe:
            assert probe._process.pid is not None
            assert probe._process.is_alive()
        assert not probe._process.is_alive()

    def test_a_server_that_is_gone_or_fails_is_said(self, answering: tuple[str, type[Answering]]) -> None:
        url, handler = answering
        handler.status = 500
        with pytest.raises(ProbeFailed, match="was not answered"), Probe(url):
            pass
