"""The tests of engines, in a process of their own: OpenVINO stays out of the one with all other tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lesionbrush.engines.choice import multiplies_bfloat16

APART = Path(__file__).with_name("engines_apart.py")
IN_BFLOAT16 = "pytorch-bfloat16 or openvino-bfloat16"


def run_apart(chosen: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(APART), "-k", chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=APART.parents[1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout, done.stdout[-8000:]


@pytest.mark.slow
def test_every_engine() -> None:
    run_apart(f"not ({IN_BFLOAT16})")


@pytest.mark.slow
@pytest.mark.skipif(not multiplies_bfloat16(), reason="no bfloat16: this CPU does not multiply it")
def test_the_promise_in_bfloat16() -> None:
    """Counted here where it is skipped: nobody sees what the other process skips."""
    run_apart(IN_BFLOAT16)
