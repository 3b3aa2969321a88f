"""A server's storage and nothing else, to be killed: forks children that accept cases until they die.

    python storage_crash.py STUDIES

It says "ready", then for each line "SEED STEP" it forks a child, and says "dead" when that is. The child says
"pid N", opens the studies as a server does, and accepts cases; for each it says "done KEY IMAGE". It kills
itself before the STEP-th time that it changes something on the disk; never, when that is 0.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))

from lesionbrush.server.storage.accept import accept_case
from storage_kit import Folder, made_case

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.utime", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_at(step: int) -> None:
    """Python tells what it is about to do; kill -9 comes before the given one of these."""
    steps = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if changes and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def accept_for_ever(folder: Path, seed: int) -> None:
    studies = Folder(folder)
    for number in itertools.count():
        key = f"{seed}-{number}"
        image = f"1.2.840.{seed}.{number}" if (seed + number) % 2 else None
        say(f"done {key} {accept_case(studies, made_case(key, image))}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    say("ready")
    for line in sys.stdin:
        seed, step = map(int, line.split())
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            if step:
                die_at(step)
            accept_for_ever(Path(sys.argv[1]), seed)
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
