"""kill -9 at any moment: after the next start each case is there as a whole, or not at all."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from lesionbrush.server.storage.accept import AcceptedRecord, accept_case
from lesionbrush.server.storage.private import close_private_root
from storage_kit import Folder, assert_whole, contents, made_case

KILLS = int(os.environ.get("LESIONBRUSH_KILLS", "40"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="no data: Windows has no fork and no kill -9"),
]


class Victims:
    """A process that forks one server's storage after the other."""

    def __init__(self, studies: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("storage_crash.py")), str(studies)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.told: dict[str, str] = {}
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        if line.startswith("done "):
            _, key, image = line.split()
            self.told[key] = image  # the client has its answer: this case must never be lost
        return line

    def fork(self, seed: int, step: int = 0) -> int:
        assert self.process.stdin
        self.process.stdin.write(f"{seed} {step}\n")
        self.process.stdin.flush()
        return int(self._line().removeprefix("pid "))

    def shoot(self, seed: int, cases: int, after_s: float) -> None:
        """Let one live until it has told of some cases, and some time more; then kill it."""
        pid = self.fork(seed)
        for _ in range(cases):
            self._line()
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        self.mourn()

    def mourn(self) -> None:
        while self._line() != "dead":
            pass

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(20)


@pytest.fixture
def studies(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "studies").mkdir()
    yield tmp_path / "studies"
    close_private_root(tmp_path / "studies")


@pytest.fixture
def victims(studies: Path) -> Iterator[Victims]:
    victims = Victims(studies)
    yield victims
    victims.close()


def test_kill_9_at_random_moments(studies: Path, victims: Victims) -> None:
    randomly, states = random.Random(7), Counter[str]()
    for seed in range(KILLS):
        victims.shoot(seed, randomly.randrange(3), randomly.uniform(0, 0.03))
        states[state_after(studies)] += 1
        if seed % 4 == 0:
            count_whole(studies, victims.told)
    whole = count_whole(studies, victims.told)
    print(f"{KILLS} kills: {len(victims.told)} cases told, {whole} found whole, {dict(states)}")
    assert whole >= len(victims.told) > 0
    assert_asking_again_changes_nothing(studies, victims.told)


def test_kill_9_at_every_step(studies: Path, victims: Victims) -> None:
    """Before each change on the disk, from opening the studies to the end of a second case."""
    states = Counter[str]()
    step = 0
    while f"{step}-1" not in victims.told:
        step += 1
        die(studies, victims, step)
        states[state_after(studies)] += 1
        count_whole(studies, victims.told)
    print(f"killed before each of {step} steps: {len(victims.told)} cases told, {dict(states)}")
    assert set(states) == {"preparing", "decided", "between"}
    assert step > 50


def test_kill_9_while_a_crash_is_cleared_up(studies: Path, victims: Victims) -> None:
    """One dies when its case is decided; the next ones, one step later each, while they complete it."""
    decided = next(step for step in count(1) if die(studies, victims, step) == "decided")
    kills = 0
    for later in range(5):
        die(studies, victims, decided + later)
        for step in count(1):
            victims.fork(7, step)
            victims.mourn()
            kills += 1
            if state_after(studies) != "decided":
                break
        assert count_whole(studies, victims.told) == 1
    print(f"{kills} kills while a crash was cleared up")
    assert kills > 10


def die(studies: Path, victims: Victims, step: int) -> str:
    """In empty studies, kill one before that step."""
    shutil.rmtree(studies)
    studies.mkdir()
    victims.told.clear()
    victims.fork(step, step)
    victims.mourn()
    return state_after(studies)


def state_after(studies: Path) -> str:
    """What the kill has interrupted. Nobody has tidied up yet; no image is visible without the rest."""
    for image in studies.glob("*.nii.gz"):
        assert len(parts(studies, image.name.removesuffix(".nii.gz"))) == 3
    private = studies / ".lesionbrush"
    if (private / "accepts").is_dir() and any((private / "accepts").iterdir()):
        return "decided"
    return "preparing" if (private / "tmp").is_dir() and any((private / "tmp").iterdir()) else "between"


def parts(folder: Path, image: str) -> set[str]:
    expected = (f"{image}.nii.gz", f"labels/final/{image}.nii.gz", f"{image}.provenance.json")
    return {name for name in expected if (folder / name).exists()}


def count_whole(studies: Path, told: dict[str, str]) -> int:
    """Start, look at every file there is, stop. How many cases there are; each is whole, none is lost."""
    folder = Folder(studies)
    leftovers = [folder.private.tmp, folder.private.accepts, folder.private.aside]
    assert [list(place.iterdir()) for place in leftovers] == [[], [], []]
    images = {path.name.removesuffix(".nii.gz") for path in studies.glob("*.nii.gz")}
    for image in images:
        text = (studies / f"{image}.provenance.json").read_text()
        key = AcceptedRecord.model_validate_json(text).reference_id.removeprefix("made from ")
        assert_whole(studies, image, made_case(key))
    assert set(told.values()) <= images
    assert contents(studies) == set().union(*(parts(studies, image) for image in images))
    close_private_root(studies)
    return len(images)


def assert_asking_again_changes_nothing(studies: Path, told: dict[str, str]) -> None:
    """A client that never got its answer asks again, with the same key."""
    before, folder = contents(studies), Folder(studies)
    for key, image in told.items():
        assert accept_case(folder, made_case(key)) == image
    assert contents(studies) == before
