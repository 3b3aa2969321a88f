"""Cohorts on several machines: two real nodes of Ray on loopback, one of which dies, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from cli_kit import Command
from cohort_kit import begin, make_here, state, write_references
from lesionbrush.cli.cohort_node import add_node_arguments, node_environment, ray_start, require_token
from lesionbrush.cohorts import cluster
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.cluster import CaseActor, RayCrew, RayWorker, Seat
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.running import Workplace, run_cohort
from lesionbrush.cohorts.verifying import verify
from lesionbrush.cohorts.workers import CaseNews, CohortTask, TaskOver, make_all
from lesionbrush.errors import InvalidRequest
from server_kit import free_port

pytest_plugins = "cli_fixtures"
CASES = 10
with_ray = pytest.mark.skipif(
    find_spec("ray") is None or sys.platform != "linux",
    reason="no Ray: not installed, or no second address on loopback, as Linux has it",
)


@dataclass(frozen=True)
class Started:
    """Of the command line, with all it starts."""

    process: subprocess.Popen[str]

    @classmethod
    def of(cls, *arguments: object, environment: dict[str, str]) -> Started:
        command = [sys.executable, "-m", "lesionbrush.cli", "cohort", *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 one thread is there
        )
        return cls(process)

    def kill(self) -> None:
        """As a power cut does."""
        tree = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.communicate()

    def has_actor(self) -> bool:
        tree = psutil.Process(self.process.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            return any("CaseActor" in " ".join(one.cmdline()) for one in tree)
        return False


class Nodes(NamedTuple):
    address: str
    first: Started
    second: Started
    environment: dict[str, str]

    def run(self, *arguments: object) -> Started:
        return Started.of(*arguments, "--ray", self.address, "--device", "cpu", environment=self.environment)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Nodes]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LESIONBRUSH_MODELS": str(tiny_models),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path_factory.mktemp("token") / "token"),
    }
    address = f"127.0.0.2:{free_port()}"
    port = address.split(":")[1]
    started: list[Started] = []

    def node(*arguments: object) -> Started:
        started.append(Started.of("node", "--workers", 1, *arguments, environment=environment))
        said = started[-1].process.stdout.readline()
        assert said.endswith(f"Use --ray {address}\n"), started[-1].process.communicate()
        return started[-1]

    try:
        first = node("--at", "127.0.0.2", "--port", port)
        yield Nodes(address, first, node("--at", "127.0.0.3", "--join", address), environment)
    finally:
        for one in started:
            if one.process.poll() is None:
                one.process.terminate()
                one.process.communicate()


def wait_for(out: Path, cases: int, process: subprocess.Popen[str]) -> None:
    while len(list(out.glob("cases/*/case.json"))) < cases:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@with_ray
@pytest.mark.slow
def test_nobody_without_the_token_is_let_in(nodes: Nodes, tmp_path: Path) -> None:
    folder = begin(write_references(tmp_path / "cts").parent, tmp_path / "out")
    (tmp_path / "other").write_text("0" * 64)
    soon = {"RAY_NUM_REDIS_GET_RETRIES": "2"}  # asks 20 times, a second apart, by itself
    stranger = {**nodes.environment, **soon, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    run = nodes._replace(environment=stranger).run("resume", folder.path)
    _, err = run.process.communicate(timeout=200)
    assert run.process.returncode == 2
    assert f"no cluster was found at {nodes.address}" in err.splitlines()[-1]
    assert "Traceback" not in err


@with_ray
@pytest.mark.slow
def test_an_end_of_any_kind_costs_unfinished_cases_alone(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_references(tmp_path / "cts").parent
    folder = begin(base, tmp_path / "out", cases={"per_reference": CASES})
    interrupted = nodes.run("resume", folder.path)
    wait_for(folder.path, 1, interrupted.process)
    os.killpg(interrupted.process.pid, signal.SIGINT)
    _, err = interrupted.process.communicate(timeout=100)
    assert interrupted.process.returncode == 130
    assert err.splitlines()[-1] == "run.py cohort: interrupted"
    assert "Traceback" not in err
    while nodes.first.has_actor() or nodes.second.has_actor():
        time.sleep(0.02)
    killed = nodes.run("resume", folder.path)
    wait_for(folder.path, 2, killed.process)
    killed.kill()
    again = nodes.run("resume", folder.path)
    while not nodes.second.has_actor():
        assert again.process.poll() is None, again.process.communicate()
        time.sleep(0.02)
    wait_for(folder.path, 4, again.process)
    nodes.second.kill()
    out, err = again.process.communicate(timeout=200)
    assert again.process.returncode == 0, (out, err)
    assert f"{2 * CASES} done" in out
    assert "cases are there already" in out
    assert all("cohort:" in line for line in err.splitlines() if line.strip()), err
    assert verify(CohortFolder.open(folder.path)).complete
    monkeypatch.setenv("LESIONBRUSH_MODELS", nodes.environment["LESIONBRUSH_MODELS"])
    here = begin(base, tmp_path / "here", cases={"per_reference": CASES})
    list(run_cohort(here, Workplace(1, "cpu")))
    assert state(folder.path / "cases") == state(tmp_path / "here" / "cases")


# --- without Ray ---


class NodeLost(Exception):
    """As Ray's own."""


@dataclass
class FakeRay:
    """What a crew asks of Ray. alive: names of nodes."""

    alive: tuple[str, ...] = ("n1",)

    class exceptions:  # noqa: N801 the library's own name
        RayError = NodeLost

    def nodes(self) -> list[dict[str, object]]:
        return [{"NodeID": name, "Alive": name in self.alive} for name in ("n1", "n2")]

    def get(self, said: object) -> object:
        if isinstance(said, Exception):
            raise said
        return said

    def wait(self, streams: list[object], timeout: float) -> tuple[list[object], list[object]]:
        return streams[:1], streams[1:]


@dataclass(eq=False)
class FakeActor:
    """Says what it was told to, or takes its node with it."""

    says: list[object]

    @property
    def carry_out(self) -> FakeActor:
        return self

    def remote(self, task: CohortTask) -> Iterator[object]:
        return iter(self.says or [CaseNews(task.reference, case.id) for case in task.cases])


def worker(ray: FakeRay, *says: object, node: str = "n1") -> RayWorker:
    return RayWorker(ray=ray, actor=FakeActor(list(says)), stream=iter([Seat(node, f"host of {node}")]))


def crew_of(ray: FakeRay, *workers: RayWorker, folder: CohortFolder | None = None) -> RayCrew:
    return RayCrew([*workers], ray=ray, actor=None, folder=folder, device="cpu")  # type: ignore[arg-type]


TASK = CohortTask("a", tuple(PlannedCase(f"a-{n}", "a", "train") for n in range(3)))


def test_cases_of_a_lost_node_are_made_elsewhere_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(alive=("n1",))
    monkeypatch.setattr(RayCrew, "begin", lambda crew: crew.workers.append(spare.pop()))
    lost = [worker(ray, CaseNews("a", "a-0"), NodeLost(), node="n2")]
    spare = [worker(ray), worker(ray, NodeLost(), node="n2"), worker(ray, NodeLost(), node="n2")]
    news = list(make_all(crew_of(ray, *lost), [TASK]))
    assert [(one.case, one.problem) for one in news] == [("a-0", None), ("a-1", None), ("a-2", None)]
    assert spare == []


def test_over_a_case_that_kills_twice_on_nodes_that_live_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay()
    spare = [worker(ray), worker(ray, NodeLost())]
    monkeypatch.setattr(RayCrew, "begin", lambda crew: crew.workers.append(spare.pop()))
    news = list(make_all(crew_of(ray, worker(ray, NodeLost())), [TASK]))
    assert [one.case for one in news] == ["a-0", "a-1", "a-2"]
    assert news[0].problem is not None
    assert "ended twice (on host of n1)" in news[0].problem.reason
    assert [one.problem for one in news[1:]] == [None, None]


def test_workers_that_never_begin_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    broken = RayWorker(ray=ray, actor=None, stream=iter([NodeLost()]))
    monkeypatch.setattr(
        RayCrew,
        "begin",
        lambda crew: crew.workers.append(RayWorker(ray=ray, actor=None, stream=iter([NodeLost()]))),
    )
    with pytest.raises(InvalidRequest, match="3 workers ended before they had begun"):
        list(make_all(crew_of(ray, broken), [TASK]))


def test_a_node_that_cannot_work_says_why() -> None:
    broken = worker(FakeRay())
    broken.stream = iter([Seat("n1", "10.0.0.2", "it has LesionBrush 0")])
    with pytest.raises(InvalidRequest, match=r"10\.0\.0\.2: it has LesionBrush 0"):
        broken.hear()


def test_a_cluster_without_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setattr(FakeRay, "wait", lambda *_, timeout: ([], []))
    crew = crew_of(ray, worker(ray))
    with pytest.raises(InvalidRequest, match="had room for a worker in 120 s"):
        crew.with_news()
    assert isinstance(crew.workers[0].receive(), TaskOver)
    assert crew.with_news() == []  # one has a seat: what it makes takes its time


def test_what_an_actor_refuses_to_begin_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin(write_references(tmp_path / "cts").parent, tmp_path / "out")
    actor, mine = CaseActor(folder.path, "cpu"), cluster.__version__
    assert actor._begin(folder.asked, mine) == ""
    assert "install the same on all machines" in actor._begin(folder.asked, "0.0")
    assert "is another cohort there" in actor._begin("0" * 64, mine)
    assert "at the same path" in CaseActor(tmp_path / "none", "cpu")._begin(folder.asked, mine)


def test_a_case_that_another_worker_made_meanwhile_is_done(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))
    folder = begin(write_references(tmp_path / "cts").parent, tmp_path / "out", cases={"total": 2})
    make_here(folder)
    actor = CaseActor(folder.path, "cpu")
    actor._begin(folder.asked, cluster.__version__)
    case = folder.cases[0]
    assert list(actor.carry_out(CohortTask(case.reference, (case,)))) == [CaseNews(case.reference, case.id)]


@pytest.mark.parametrize(
    ("device", "gpus", "used"), [(None, 0, "cpu"), (None, 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")]
)
def test_all_work_on_one_kind(device: str | None, gpus: int, used: str) -> None:
    assert cluster._device(device, gpus) == used


@pytest.mark.parametrize(("device", "said"), [("cuda", "has no GPU"), ("cuda:1", "give cpu or cuda")])
def test_devices_that_are_refused(device: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        cluster._device(device, 0)


def test_without_ray_it_says_what_to_install(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    folder = begin(write_references(tmp_path / "cts").parent, tmp_path / "out")
    for asked in (("node",), ("resume", folder.path, "--ray", "10.0.0.1:6379")):
        done = command("cohort", *asked)
        assert done.code == 2
        assert "Ray, which is not installed here" in done.err
        assert f"-m pip install -r {cluster.REQUIREMENTS}" in done.err
    assert cluster.REQUIREMENTS.is_file()


@with_ray
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--workers", 0), "--workers 0"),
        (("--port", 80), "a port from 1024 on"),
        (("--join", "10.0.0.1:6379"), "with --at"),
        (("--at", "10.0.0.2", "--join", "10.0.0.1:6379"), "copy it from the first node"),
    ],
)
def test_nodes_that_are_refused(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[object, ...],
    said: str,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    done = command("cohort", "node", *asked)
    assert done.code == 2
    assert said in done.one_line


def test_a_node_stays_on_loopback_and_reports_to_nobody(tmp_path: Path) -> None:
    asked = ArgumentParser()
    add_node_arguments(asked)
    alone = asked.parse_args([])
    line, variables = ray_start(alone, tmp_path), node_environment(alone, tmp_path / "token")
    assert "--node-ip-address=127.0.0.1" in line
    assert {"--head", "--include-dashboard=false", "--disable-usage-stats"} <= set(line)
    assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
    assert variables["RAY_AUTH_MODE"] == "token"
    other = asked.parse_args(["--at", "10.0.0.2", "--join", "10.0.0.1:6379"])
    assert {"--address=10.0.0.1:6379", "--node-ip-address=10.0.0.2"} <= set(ray_start(other, tmp_path))
    assert "--head" not in ray_start(other, tmp_path)


def test_the_token_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    token = tmp_path / "ray" / "token"
    require_token(token, first=True)
    made = token.read_text()
    assert len(made) == 64
    assert os.name == "nt" or token.stat().st_mode & 0o077 == 0
    require_token(token, first=True)
    assert token.read_text() == made
