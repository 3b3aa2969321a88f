"""The tests of engines, in a process of their own: OpenVINO stays out of the one with all other tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APART = Path(__file__).with_name("engines_apart.py")


@pytest.mark.slow
def test_every_engine() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(APART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=APART.parents[1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
