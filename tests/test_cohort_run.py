"""`run.py cohort`: plans, runs with processes, goes on after a kill, says what is missing or half."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_kit import Command
from cohort_kit import SPECIFICATION, begin, make_here, state, write_references
from lesionbrush.anatomy.lungs import LEFT, RIGHT, segment_lungs
from lesionbrush.cohorts import workers
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.folder import CohortFolder, CohortProblem
from lesionbrush.cohorts.running import Workplace, run_cohort, split_into_tasks
from lesionbrush.cohorts.verifying import verify
from lesionbrush.cohorts.workers import CohortTask
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from PIL import Image

pytest_plugins = "cli_fixtures"
MARK = "LESIONBRUSH_TEST_OF"
pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="Windows has no such signals: processes are killed by them here"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_references(folder / "cts")
    return folder


@pytest.fixture
def models(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))
    return tiny_models


def write_spec(base: Path, **changes: Any) -> Path:
    path = base / "tiny.json"
    path.write_text(json.dumps({**SPECIFICATION, **changes}))
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "report.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


@pytest.mark.slow
def test_one_and_two_workers_make_the_same_voxels(command: Command, base: Path, tmp_path: Path) -> None:
    asked = write_spec(base, healthy_twins="healed")
    for count in (1, 2):
        out = tmp_path / f"by-{count}"
        done = command("cohort", "run", asked, "-o", out, "--workers", count, "--device", "cpu")
        assert done.code == 0, done
        assert "4 done" in done.out
        assert command("cohort", "verify", out).code == 0
    assert state(tmp_path / "by-1" / "cases") == state(tmp_path / "by-2" / "cases")
    one, two = (CohortFolder.open(tmp_path / f"by-{count}") for count in (1, 2))
    for mine, other in zip(one.records(), two.records(), strict=True):
        assert mine.lesions == other.lesions
        assert mine.files_sha256 == other.files_sha256


@pytest.mark.slow
def test_a_worker_makes_the_voxels_of_this_process(
    command: Command, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32: in bfloat16 they depend on the number of threads, and a worker has one."""
    monkeypatch.setenv("LESIONBRUSH_ENGINE", "float32")
    asked = write_spec(base, healthy_twins="healed")
    assert (
        command("cohort", "run", asked, "-o", tmp_path / "by-1", "--workers", 1, "--device", "cpu").code == 0
    )
    make_here(begin(base, tmp_path / "here", healthy_twins="healed"))
    assert state(tmp_path / "here" / "cases") == state(tmp_path / "by-1" / "cases")


@pytest.mark.slow
def test_a_bad_reference_is_one_row_and_the_rest_goes_on(
    command: Command, tmp_path: Path, models: Path
) -> None:
    write_references(tmp_path / "cts")
    bad = tmp_path / "cts" / "Miller_0_ct.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:1000])
    out = tmp_path / "out"
    done = command("cohort", "run", write_spec(tmp_path), "-o", out, "--workers", 1)
    assert done.code == 1
    assert "Miller_0_ct: Miller_0_ct.nii.gz" in done.err
    assert [row["state"] for row in rows_of(out)] == ["not made", "not made", "done", "done"]
    assert {row["code"] for row in rows_of(out)} == {"damaged_file", ""}
    assert len(list((out / "problems").iterdir())) == 1
    said = command("cohort", "status", out)
    assert said.code == 1
    assert "2 done, 2 not made" in said.out
    missing = command("cohort", "verify", out)
    assert missing.code == 1
    assert "Miller_0_ct-0001 is missing: Miller_0_ct.nii.gz" in missing.out
    bad.write_bytes(whole)
    mended = command("cohort", "resume", out, "--workers", 1)
    assert mended.code == 0, mended
    assert "2 of 4 cases are there already" in mended.out
    assert command("cohort", "status", out).code == 0
    assert not list((out / "problems").iterdir())


def start(asked: Path, out: Path) -> subprocess.Popen[bytes]:
    """With Ctrl-C heard, also where the tests themselves run in the background, deaf to it."""
    command = [sys.executable, "-m", "lesionbrush.cli", "cohort", "run", str(asked), "-o", str(out)]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [*command, "--workers", "2", "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": paths, MARK: str(os.getpid())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 one thread is there
    )


def wait_for_a_case(out: Path, process: subprocess.Popen[bytes]) -> None:
    while not list(out.glob("cases/*/case.json")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)


def workers_left() -> list[int]:
    """Processes of a group whose leader has gone, once they had a moment to go as well."""
    for _ in range(100):
        found = [one.pid for one in psutil.process_iter() if is_worker(one)]
        if not found:
            break
        time.sleep(0.1)
    return found


def is_worker(process: psutil.Process) -> bool:
    """One that was started by the Python of this test, and not by the test itself."""
    with suppress(psutil.Error):
        spawned = "multiprocessing.spawn" in " ".join(process.cmdline())
        return spawned and process.ppid() != os.getpid() and process.environ().get(MARK) == str(os.getpid())
    return False


def cases_of(out: Path) -> set[str]:
    return {path.name for path in (out / "cases").iterdir() if not path.name.startswith(".")}


@pytest.mark.slow
def test_after_a_kill_it_goes_on_and_nothing_is_half(
    command: Command, base: Path, tmp_path: Path, models: Path
) -> None:
    asked = write_spec(base, cases={"per_reference": 6})
    out = tmp_path / "out"
    process = start(asked, out)
    wait_for_a_case(out, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = CohortFolder.open(out)
    first = {case: state(folder.folder_of(case)) for case in cases_of(out)}
    assert verify(folder).wrong == []
    assert command("cohort", "resume", out, "--workers", 1, "--device", "cpu").code == 0
    assert command("cohort", "verify", out).code == 0
    assert len(cases_of(out)) == 12
    assert all(state(folder.folder_of(case)) == files for case, files in first.items())
    assert list(out.rglob(".lesionbrush-*")) == []


@pytest.mark.slow
def test_an_interrupt_ends_it_and_leaves_no_process_and_nothing_half(
    base: Path, tmp_path: Path, models: Path
) -> None:
    out = tmp_path / "out"
    process = start(write_spec(base, cases={"per_reference": 40}), out)
    wait_for_a_case(out, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == b"run.py cohort: interrupted"
    assert b"Traceback" not in said
    assert workers_left() == []
    assert verify(CohortFolder.open(out)).wrong == []
    assert list(out.rglob(".lesionbrush-*")) == []
    assert {row["state"] for row in rows_of(out)} == {"done", "pending"}


@pytest.mark.slow
def test_a_worker_that_dies_costs_what_it_had_not_finished(
    base: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(base, tmp_path / "out")
    news, killed = [], False
    for one in run_cohort(folder, Workplace(1, "cpu")):
        news.append(one)
        if not killed:
            killed = True
            for child in active_children():
                child.kill()
    assert [one.problem for one in news] == [None] * 4
    assert verify(folder).complete


def test_over_a_case_that_kills_twice_the_rest_goes_on() -> None:
    class Gone(workers.CaseWorker):
        def send(self, task: CohortTask) -> None: ...

        def receive(self) -> None: ...

        def ending(self) -> str:
            return "exit code -9"

    cases = tuple(PlannedCase(f"a-{n}", "a", "train") for n in range(3))
    waiting: list[CohortTask] = []
    helper = Gone(CohortTask("a", cases), cases[1:])
    assert list(workers._after_death(helper, waiting)) == []
    again = waiting.pop()
    assert (again.cases, again.attempt) == (cases[1:], 2)
    helper.task, helper.left = again, again.cases
    (news,) = workers._after_death(helper, waiting)
    assert news.case == "a-1"
    assert news.problem is not None
    assert "ended twice (exit code -9)" in news.problem.reason
    assert waiting == [CohortTask("a", cases[2:])]


def test_tasks_are_of_one_reference_and_none_is_too_long() -> None:
    cases = [PlannedCase(f"{name}-{n}", name, "train") for name in "ab" for n in range(20)]
    one = split_into_tasks(cases, 1)
    assert [len(task.cases) for task in one] == [20, 20]
    two = split_into_tasks(cases, 2)
    assert max(len(task.cases) for task in two) <= 5
    assert [case for task in two for case in task.cases] == cases
    assert all({case.reference for case in task.cases} == {task.reference} for task in two)


# --- what is said before anything runs ---


def test_a_plan_says_what_it_comes_to(command: Command, base: Path, tmp_path: Path) -> None:
    asked = write_spec(base, splits={"train": 0.5, "val": 0.5})
    png = tmp_path / "plan.png"
    done = command("cohort", "plan", asked, "--montage", png, "--workers", 2, "--device", "cpu")
    assert done.code == 0, done
    assert "4 cases (2 train, 2 val) of 2 CTs of 2 patients" in done.out
    assert "4 of them were planned in full" in done.out
    assert "disk: up to" in done.out
    assert "with 2 workers" in done.out
    with Image.open(png) as picture:
        assert picture.width > 4 * 200
    assert list(base.glob("cases")) == []


def test_a_plan_leaves_label_maps_out_and_says_so(command: Command, base: Path, tmp_path: Path) -> None:
    asked = write_spec(base, references=[{"folder": "cts"}], models={"any": {"name": "tiny"}})
    done = command("cohort", "plan", asked, "--no-timing")
    assert "of 2 CTs of 2 patients" in done.out
    assert "no CTs: Miller_0_ct_organs.nii.gz, Miller_1_ct_organs.nii.gz. Name" in done.err


def test_a_plan_tells_what_will_not_fit(command: Command, base: Path, tmp_path: Path) -> None:
    asked = write_spec(base, findings=[{"diameter_mm": 60}])
    done = command("cohort", "plan", asked, "--no-timing")
    assert done.code == 1
    assert "Miller_0_ct-0001: findings.0: lung_" in done.out
    assert "time:" not in done.out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 1}, "tiny.json: seeds: there is no such field"),
        ({"models": {"lung": {"name": "none"}}}, "models.lung.name: no model is called 'none'"),
        ({"references": [{"folder": "nowhere"}]}, "references.0.folder: there is no 'nowhere'"),
    ],
)
def test_what_is_refused_before_the_work(
    command: Command, base: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    done = command("cohort", "run", write_spec(base, **changes), "-o", tmp_path / "out")
    assert done.code == 2
    assert said in done.one_line
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_for_it(command: Command, base: Path, tmp_path: Path, models: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    asked = write_spec(base)
    done = command("cohort", "run", asked, "-o", tmp_path / "mine")
    assert "is no cohort and not empty" in done.one_line
    assert "is no cohort" in command("cohort", "status", tmp_path / "mine").one_line
    begin(base, tmp_path / "other", seed=4)
    assert "of another specification" in command("cohort", "run", asked, "-o", tmp_path / "other").one_line
    assert "--workers 0" in command("cohort", "resume", tmp_path / "other", "--workers", 0).one_line
    (tmp_path / "other" / "cohort.json").write_text("{}")
    assert "is damaged" in command("cohort", "status", tmp_path / "other").one_line


def test_two_do_not_work_on_one_cohort(base: Path, tmp_path: Path, models: Path) -> None:
    folder = begin(base, tmp_path / "out")
    with folder.held(), pytest.raises(InvalidRequest, match="another process works on out"):
        next(run_cohort(CohortFolder.open(folder.path), Workplace(1)))


def test_the_schema_is_printed(command: Command) -> None:
    assert json.loads(command("cohort", "schema").out)["title"] == "CohortSpecification"


# --- verify ---


@pytest.fixture
def made(base: Path, tmp_path: Path, models: Path) -> CohortFolder:
    folder = begin(base, tmp_path / "out", cases={"total": 2})
    make_here(folder)
    return folder


def test_verify_finds_what_is_not_as_recorded(made: CohortFolder) -> None:
    one, two = (made.folder_of(case.id) for case in made.cases)
    assert verify(made).complete
    (two / "extra").touch()
    (made.path / "cases" / "strange").mkdir()
    box = one / "box.nii.gz"
    content = bytearray(box.read_bytes())
    content[-9] ^= 1
    box.write_bytes(bytes(content))
    found = verify(made)
    assert found.whole == 0
    assert sorted(sentence.split(" ")[0] for sentence in found.wrong) == sorted(
        [f"{one.name}/box.nii.gz", f"{two.name}/extra", "strange"]
    )
    box.unlink()
    assert any("box.nii.gz is missing" in sentence for sentence in verify(made).wrong)
    (one / "case.json").write_text("{}")
    assert any("is no record of a case" in sentence for sentence in verify(made).wrong)


def test_a_record_of_another_cohort_is_found(made: CohortFolder) -> None:
    one = made.folder_of(made.cases[0].id)
    text = (one / "case.json").read_text()
    (one / "case.json").write_text(text.replace(made.asked, "0" * 64))
    assert "of another cohort" in verify(made).wrong[0]


def test_problems_are_kept_until_they_are_mended(made: CohortFolder) -> None:
    made.note(CohortProblem("r", "c", "not_placed", "no room"))
    made.note(CohortProblem("r", "", "damaged_file", "half"))
    assert len(made.problems()) == 2
    made.forget("r", "c")
    made.forget("r", "c")
    (left,) = made.problems()
    assert left.reason == "half"
    (made.path / "problems" / "x.json").write_text("[")
    with pytest.raises(DamagedFile, match=r"x\.json is damaged"):
        made.problems()


def test_phantoms_have_lungs_on_their_sides(command: Command, tmp_path: Path) -> None:
    assert command("cohort", "phantoms", tmp_path / "chests", "--count", 1).code == 0
    layout = read_layout(tmp_path / "chests" / "phantom_1_organs.nii.gz")
    found = segment_lungs(read_volume(tmp_path / "chests" / "phantom_1.nii.gz")).array
    for name, side in (("lung_right", RIGHT), ("lung_left", LEFT)):
        mine, other = layout.mask(name), found == side
        assert 2 * (mine & other).sum() / (mine.sum() + other.sum()) > 0.9
    assert layout.mask("liver").any()
