#!/usr/bin/env python3
"""The one command of LesionBrush: makes its own environment on first use, then runs what was asked for.

Standard library only, no shell; the same on all systems. `python run.py` lists the commands."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SUPPORTED = ((3, 10), (3, 11), (3, 12))
RUNTIME = ("requirements.txt",)
DEVELOPMENT = ("requirements.txt", "requirements-ray.txt", "requirements-dev.txt")  # the last includes all

sys.path.insert(0, str(ROOT / "app"))
from lesionbrush.cli.commands import GROUPS, list_commands  # noqa: E402 (it imports nothing either)

DEVELOP = {"test": "run the tests (arguments go to pytest)", "lint": "check style and types"}
COMMANDS = [name for commands in (*GROUPS.values(), DEVELOP) for name in commands]
USAGE = """usage: python run.py COMMAND [options]      (python run.py COMMAND --help says more)

{commands}

The first use makes .venv beside this file and installs everything into it. Two variables steer that:
  LESIONBRUSH_PYTHON       the Python 3.10, 3.11 or 3.12 to use
  LESIONBRUSH_TORCH_INDEX  an extra package index to take torch from, say one with CPU-only builds
"""


class SetupError(Exception):
    """The environment cannot be made; the text says why and what to do."""


def usage() -> str:
    return USAGE.format(commands=list_commands({**GROUPS, "Develop": DEVELOP}))


def say(text: str) -> None:
    print(f"[run.py] {text}", flush=True)


def candidates(platform: str = sys.platform) -> list[list[str]]:
    """Commands that may start a supported Python: this one first, then newest first."""
    minors = [minor for _, minor in reversed(SUPPORTED)]
    this = getattr(sys, "_base_executable", None) or sys.executable  # not .venv's own, which may be rebuilt
    found = [[this], *([f"python3.{minor}"] for minor in minors)]
    if platform == "win32":
        found += [["py", f"-3.{minor}"] for minor in minors]
    return found


def version_of(python: Sequence[str]) -> tuple[int, ...] | None:
    """(major, minor) of a Python command, None if it does not start."""
    command = [*python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else None


def find_python(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The command of a supported Python; where none is found, of the one that uv brings.

    Raises SetupError when LESIONBRUSH_PYTHON names an unsupported one, or when there is none to be had.
    """
    named = environ.get("LESIONBRUSH_PYTHON")
    if named:
        version = version_of([named])
        if version not in SUPPORTED:
            what = "does not start" if version is None else "is Python " + ".".join(map(str, version))
            raise SetupError(f"LESIONBRUSH_PYTHON={named} {what}; name a Python 3.10, 3.11 or 3.12")
        return [named]
    for command in candidates():
        if version_of(command) in SUPPORTED:
            return command
    import get_python  # beside this file

    if brought := get_python.by_uv():
        return [brought]
    raise SetupError(get_python.advice())


def python_in(venv: Path, platform: str = sys.platform) -> Path:
    return venv / "Scripts" / "python.exe" if platform == "win32" else venv / "bin" / "python"


def stamp_of(files: Iterable[str], root: Path = ROOT) -> set[str]:
    """One line per requirements file, with its SHA-256: what an environment made from them carries."""
    return {f"{name} {hashlib.sha256((root / name).read_bytes()).hexdigest()}" for name in files}


def stamp_file(venv: Path) -> Path:
    return venv / "lesionbrush-installed.txt"


def is_ready(venv: Path, stamp: set[str]) -> bool:
    """True if all the stamp asks for was installed to the end and the environment still has its Python."""
    file = stamp_file(venv)
    return python_in(venv).exists() and file.exists() and stamp <= set(file.read_text().splitlines())


def ensure_environment(files: Sequence[str], venv: Path = VENV) -> None:
    """Make the environment, bring it up to date, or leave it alone if it is what the files ask for."""
    stamp = stamp_of(files)
    if is_ready(venv, stamp):
        return
    with one_at_a_time(venv.with_name(venv.name + ".lock")):
        if is_ready(venv, stamp):  # made by the process we waited for
            return
        require_own(venv)
        if not (stamp_file(venv).exists() and python_in(venv).exists()):
            create(venv, find_python())
        stamp_file(venv).unlink(missing_ok=True)  # an interrupted install leaves no stamp, and is redone
        install(venv, files[-1])
        stamp_file(venv).write_text("\n".join(sorted(stamp)) + "\n")


def made_file(venv: Path) -> Path:
    """Beside an environment that this file makes, from before its first byte on."""
    return venv.with_name(venv.name + ".made")


def require_own(venv: Path) -> None:
    """SetupError for an environment that somebody else made: making it anew would empty it."""
    there = venv.is_symlink() or (venv.is_dir() and any(venv.iterdir()))
    if there and not made_file(venv).exists() and not stamp_file(venv).exists():
        raise SetupError(
            f"{venv} is there, and run.py did not make it: it would be emptied. Move it away or delete it, "
            "then run the same command again"
        )
    made_file(venv).touch()


def create(venv: Path, python: Sequence[str]) -> None:
    say(f"making {venv} with {' '.join(python)}")
    command = [*python, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise SetupError(
            f"Python could not make {venv}:\n{made.stdout}{made.stderr}\n"
            "On Debian and Ubuntu the package python3-venv is needed: sudo apt install python3-venv"
        )


def install(venv: Path, requirements: str, environ: Mapping[str, str] = os.environ) -> None:
    """Install a requirements file with pip, showing how far it is; pip's own words go to a log."""
    index = environ.get("LESIONBRUSH_TORCH_INDEX")
    say(f"installing {requirements}: usually 3 to 10 minutes the first time")
    if sys.platform == "linux" and not index and not shutil.which("nvidia-smi"):
        say("no NVIDIA GPU, but torch may bring 4 GB for one: LESIONBRUSH_TORCH_INDEX avoids that")
    log = venv / "install.log"
    for command in pip_commands(python_in(venv), requirements, index):
        code, last_words = call_pip(command, log)
        if code:
            raise SetupError(
                f"pip could not install {requirements}. The end of {log}:\n{last_words}"
                "Check the network and the free disk space (10 GB), then run the same command again."
            )


def pip_commands(python: Path, requirements: str, index: str | None) -> list[list[str]]:
    """Build tools first, then everything without build isolation.

    MONAI Label asks for sam2, which is built on the spot and asks for torch to do so: in isolation pip would
    fetch torch, of whatever version, a second time.
    """
    pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    in_place = ["--no-build-isolation", "--use-pep517"]
    extra = ["--extra-index-url", index] if index else []
    return [
        [*pip, "--quiet", "-c", str(ROOT / RUNTIME[-1]), "setuptools"],
        [*pip, *in_place, *extra, "-r", str(ROOT / requirements)],
    ]


def call_pip(command: Sequence[str], log: Path) -> tuple[int, str]:
    """The exit code and the last lines; every line goes to the log."""
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    environment = {**os.environ, "SAM2_BUILD_CUDA": "0", "PYTHONUTF8": "1"}
    pip = subprocess.Popen(command, env=environment, stdout=pipe, stderr=merged, encoding="utf-8")
    with pip, log.open("w", encoding="utf-8") as file:
        last_lines = deque(follow(pip.stdout or (), file.write), maxlen=15)
    return pip.returncode, "".join(last_lines)


def follow(lines: Iterable[str], log: Callable[[str], object]) -> Iterator[str]:
    """Pass pip's lines on, into the log as well, and show every package (every 25th where nobody watches)."""
    watched = sys.stdout.isatty() and "CI" not in os.environ
    count = 0
    for line in lines:
        log(line)
        if line.startswith(("Collecting ", "Processing ")):
            count += 1
            if watched:
                print(f"\r[run.py] package {count}: {line.split()[1]:<50.50}", end="", flush=True)
            elif count % 25 == 0:
                say(f"{count} packages so far")
        elif line.startswith("Installing collected packages"):
            print(end="\n" if watched else "")
            say("everything is here; unpacking it takes another minute or two")
        yield line


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process ends, however it ends."""
    with file.open("w") as handle:
        if not try_lock(handle.fileno()):
            say("another run.py is installing; waiting for it")
            while not try_lock(handle.fileno()):
                time.sleep(1)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def modules(command: str, arguments: Sequence[str]) -> list[list[str]]:
    """What `python -m` is called with, in order."""
    if command == "test":
        return [["pytest", *arguments]]
    if command == "lint":
        return [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
    return [["lesionbrush.cli", command, *arguments]]


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Our packages on the path; no dependency reports anything to anybody."""
    packages = [ROOT / "app", ROOT / "slicer_module" / "LesionBrush"]
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTHONUTF8": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def run(command: Sequence[str], cwd: Path) -> int:
    """Run to the end and return the exit code, 128 + signal if a signal ended it.

    Ctrl-C reaches the child by itself (same terminal), and is no exception here, which might lose the exit
    code of a child that has just ended; a request to terminate is passed on.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    with subprocess.Popen(command, cwd=cwd, env=child_environment()) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command, *rest = arguments
    rest = rest[1:] if rest[:1] == ["--"] else rest
    if command not in COMMANDS:
        print(f"run.py has no command {command!r}\n\n{usage()}", file=sys.stderr)
        return 2
    developing = command in DEVELOP
    try:
        ensure_environment(DEVELOPMENT if developing else RUNTIME)
    except SetupError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; the same command starts the installation over", file=sys.stderr)
        return 130
    cwd = ROOT if developing else Path.cwd()
    codes = [run([str(python_in(VENV)), "-m", *module], cwd) for module in modules(command, rest)]
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
