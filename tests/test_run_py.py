"""run.py without an installation: which Python, which folder, when to install again, what is started."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import get_python

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_py", REPOSITORY / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "run.py"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def pythons(run: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Pretend that just these commands start, with these versions."""

    def pretend(**versions: tuple[int, int]) -> None:
        known = {name.replace("_", "."): version for name, version in versions.items()}
        monkeypatch.setattr(run, "version_of", lambda command: known.get(" ".join(command)))
        monkeypatch.setattr(run.sys, "_base_executable", "this")
        monkeypatch.setattr(get_python, "by_uv", lambda: None)

    return pretend


def test_this_python_is_taken_when_it_fits(run: ModuleType, pythons) -> None:
    pythons(this=(3, 10), python3_12=(3, 12))
    assert run.find_python({}) == ["this"]


@pytest.mark.parametrize("unfit", [(3, 9), (3, 13), (2, 7)])
def test_another_python_is_found_when_this_one_does_not_fit(run: ModuleType, pythons, unfit) -> None:
    pythons(this=unfit, python3_11=(3, 11), python3_10=(3, 10))
    assert run.find_python({}) == ["python3.11"]


def test_no_fitting_python_says_what_to_do(run: ModuleType, pythons) -> None:
    pythons(this=(3, 13))
    with pytest.raises(run.SetupError, match=r"needs Python 3\.10, 3\.11 or 3\.12.*LESIONBRUSH_PYTHON"):
        run.find_python({})


def test_uv_is_asked_when_nothing_else_fits(run: ModuleType, pythons, monkeypatch) -> None:
    pythons(this=(3, 13))
    monkeypatch.setattr(get_python, "by_uv", lambda: "/uv/python3.12")
    assert run.find_python({}) == ["/uv/python3.12"]
    pythons(this=(3, 13), python3_10=(3, 10))
    assert run.find_python({}) == ["python3.10"]


def test_the_named_python_wins(run: ModuleType, pythons) -> None:
    pythons(this=(3, 11), mine=(3, 12))
    assert run.find_python({"LESIONBRUSH_PYTHON": "mine"}) == ["mine"]


@pytest.mark.parametrize(
    ("versions", "text"), [({"mine": (3, 13)}, "is Python 3.13"), ({}, "does not start")]
)
def test_a_wrong_named_python_is_refused(run: ModuleType, pythons, versions, text: str) -> None:
    pythons(this=(3, 11), **versions)
    with pytest.raises(run.SetupError, match=f"LESIONBRUSH_PYTHON=mine {text}"):
        run.find_python({"LESIONBRUSH_PYTHON": "mine"})


def test_windows_has_its_launcher_asked_too(run: ModuleType) -> None:
    assert ["py", "-3.11"] in run.candidates("win32")
    assert not any("py" in command for command in run.candidates("linux"))


def test_the_version_of_a_real_python_and_of_none(run: ModuleType) -> None:
    assert run.version_of([sys.executable]) == sys.version_info[:2]
    assert run.version_of(["no-such-python"]) is None
    assert run.version_of([sys.executable, "-c", "raise SystemExit(1)"]) is None


def test_where_an_environment_keeps_its_python(run: ModuleType) -> None:
    assert run.python_in(Path("v"), "win32") == Path("v/Scripts/python.exe")
    assert run.python_in(Path("v"), "linux") == run.python_in(Path("v"), "darwin") == Path("v/bin/python")


@pytest.fixture
def setup(run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ensure_environment on a made-up repository; returns the list of what it did."""
    for name in run.DEVELOPMENT:
        (tmp_path / name).write_text(f"{name}\n")
    done: list[str] = []

    def create(venv: Path, python: list[str]) -> None:
        done.append("create")
        run.python_in(venv).parent.mkdir(parents=True, exist_ok=True)
        run.python_in(venv).touch()
        run.stamp_file(venv).unlink(missing_ok=True)

    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "create", create)
    monkeypatch.setattr(run, "find_python", lambda: ["python"])
    monkeypatch.setattr(run, "stamp_of", lambda files, of=run.stamp_of: of(files, tmp_path))
    monkeypatch.setattr(run, "install", lambda venv, requirements: done.append(requirements))

    def ensure(files: tuple[str, ...]) -> list[str]:
        done.clear()
        run.ensure_environment(files, tmp_path / "venv")
        return list(done)

    return ensure


def test_it_installs_once_and_then_again_only_when_asked_for_more(run: ModuleType, setup) -> None:
    assert setup(run.RUNTIME) == ["create", "requirements.txt"]
    assert setup(run.RUNTIME) == []
    assert setup(run.DEVELOPMENT) == ["requirements-dev.txt"]
    assert setup(run.DEVELOPMENT) == []
    assert setup(run.RUNTIME) == []


def test_changed_requirements_are_installed(run: ModuleType, setup, tmp_path: Path) -> None:
    setup(run.RUNTIME)
    (tmp_path / "requirements.txt").write_text("changed\n")
    assert setup(run.RUNTIME) == ["requirements.txt"]


def test_an_environment_that_lost_its_python_is_made_again(run: ModuleType, setup, tmp_path: Path) -> None:
    setup(run.RUNTIME)
    run.python_in(tmp_path / "venv").unlink()
    assert setup(run.RUNTIME) == ["create", "requirements.txt"]


@pytest.mark.parametrize("linked", [False, True])
def test_an_environment_of_somebody_else_is_not_emptied(
    run: ModuleType, setup, tmp_path: Path, linked: bool
) -> None:
    theirs = tmp_path / ("theirs" if linked else "venv")
    run.python_in(theirs).parent.mkdir(parents=True)
    run.python_in(theirs).touch()
    if linked:
        (tmp_path / "venv").symlink_to(theirs)
    with pytest.raises(run.SetupError, match=r"did not make it: it would be emptied\. Move it away"):
        setup(run.RUNTIME)
    assert run.python_in(theirs).exists()


def test_an_empty_folder_is_anybodys(run: ModuleType, setup, tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    assert setup(run.RUNTIME) == ["create", "requirements.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("first", [True, False])
def test_an_interrupted_installation_starts_over(run, setup, monkeypatch, interruption, first: bool) -> None:
    def interrupted(venv: Path, requirements: str) -> None:
        raise interruption

    if not first:
        setup(run.RUNTIME)
    with monkeypatch.context() as patch:
        patch.setattr(run, "install", interrupted)
        with pytest.raises(interruption):
            setup(run.DEVELOPMENT)
    assert setup(run.RUNTIME) == ["create", "requirements.txt"]


def test_a_failing_pip_is_reported_with_its_last_words(run: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run, "call_pip", lambda command, log: (1, "No space left on device\n"))
    with pytest.raises(run.SetupError, match=r"could not install requirements\.txt[^$]*No space left"):
        run.install(tmp_path, "requirements.txt", {})


def test_pip_words_are_logged_and_the_last_ones_returned(run: ModuleType, tmp_path: Path) -> None:
    program = "print('Collecting numpy==1.26.4'); print('é'); raise SystemExit(3)"
    code, words = run.call_pip([sys.executable, "-X", "utf8", "-c", program], tmp_path / "log")
    assert (code, words) == (3, "Collecting numpy==1.26.4\né\n")
    assert (tmp_path / "log").read_text(encoding="utf-8") == words


def test_no_other_index_unless_named(run: ModuleType) -> None:
    words = [word for command in run.pip_commands(Path("python"), "a.txt", None) for word in command]
    assert not any("index" in word for word in words)
    *_, last = run.pip_commands(Path("python"), "a.txt", "https://example.org")
    assert last[last.index("--extra-index-url") + 1] == "https://example.org"


def test_nothing_is_built_in_isolation_so_torch_comes_once(run: ModuleType) -> None:
    first, second = run.pip_commands(Path("python"), "a.txt", None)
    assert first[-3:] == ["-c", str(REPOSITORY / "requirements.txt"), "setuptools"]
    assert "--no-build-isolation" in second


def test_two_installations_at_once_are_one_after_the_other(run: ModuleType, tmp_path: Path) -> None:
    with run.one_at_a_time(tmp_path / "lock"), (tmp_path / "lock").open("w") as other:
        assert not run.try_lock(other.fileno())
    with (tmp_path / "lock").open("w") as other:
        assert run.try_lock(other.fileno())


def test_what_each_command_starts(run: ModuleType) -> None:
    assert run.modules("demo", ["--seed", "1"]) == [["lesionbrush.cli", "demo", "--seed", "1"]]
    assert run.modules("test", ["-k", "x"]) == [["pytest", "-k", "x"]]
    assert [module[0] for module in run.modules("lint", [])] == ["ruff", "ruff", "mypy"]


def test_children_see_our_packages_and_report_to_nobody(run: ModuleType) -> None:
    environment = run.child_environment({"PATH": "x", "PYTHONPATH": "elsewhere"})
    assert environment["PATH"] == "x"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"
    assert "elsewhere" not in environment["PYTHONPATH"]
    assert str(REPOSITORY / "app") in environment["PYTHONPATH"]


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_passed_through(run: ModuleType, code: int, tmp_path: Path) -> None:
    assert run.run([sys.executable, "-c", f"raise SystemExit({code})"], tmp_path) == code


CHILD = """
import signal, sys
def close(number, frame): sys.exit(7)
signal.signal(signal.SIGINT, close); signal.signal(signal.SIGTERM, close)
print("ready", flush=True)
while True: signal.pause()
"""
PARENT = """
import runpy, sys
from pathlib import Path
run = runpy.run_path(sys.argv[1])["run"]
sys.exit(run([sys.executable, "-c", sys.argv[2]], Path(".")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to a group")
@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)], ids=["ctrl-c", "terminate"]
)
def test_a_child_asked_to_stop_closes_and_its_exit_code_counts(send, number: int) -> None:
    command = [sys.executable, "-c", PARENT, str(REPOSITORY / "run.py"), CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout.readline() == "ready\n"
        send(parent.pid, number)
        assert parent.wait(timeout=30) == 7


def test_the_first_failing_check_decides(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([0, 4, 1])
    started = []
    monkeypatch.setattr(run, "ensure_environment", lambda files: None)
    monkeypatch.setattr(run, "run", lambda command, cwd: started.append(command) or next(codes))
    assert run.main(["lint"]) == 4
    assert len(started) == 3


def test_without_a_command_it_lists_all_of_them(run: ModuleType) -> None:
    answer = call()
    assert answer.returncode == 0
    assert all(f"  {name} " in answer.stdout for name in run.COMMANDS)


def test_the_list_is_by_what_one_wants_a_short_line_each(run: ModuleType) -> None:
    listed = run.usage().split("\n\n")
    headings = [block.splitlines()[0] for block in listed[1:-1]]
    assert headings == [*run.GROUPS, "Develop"]
    assert "  synthesize " in listed[1]
    lines = [line for block in listed[1:-1] for line in block.splitlines()]
    assert max(map(len, lines)) <= 90


def test_an_unknown_command_is_an_error() -> None:
    answer = call("dmeo")
    assert answer.returncode == 2
    assert "no command 'dmeo'" in answer.stderr


def test_only_the_standard_library_is_imported() -> None:
    program = f"import runpy; runpy.run_path({str(REPOSITORY / 'run.py')!r})"
    isolated = [sys.executable, "-I", "-S", "-c", program]  # -S: no site-packages
    assert subprocess.run(isolated, check=False).returncode == 0
