"""What a log sees of long work."""

from __future__ import annotations

import pytest
from lesionbrush.cli import progress
from lesionbrush.cli.progress import StepBar


def test_a_log_gets_lines_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_TICK_S", 0.0)
    with StepBar() as bar:
        bar(0, 4)
        bar(2, 4)
    said = capsys.readouterr().err
    assert said.startswith("sampling: 2 of 4 steps, ")
    assert said.count("\n") == 1
    assert "\r" not in said


def test_short_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with StepBar() as bar:
        bar(3, 4)
    assert capsys.readouterr().err == ""
