"""What a server remarks on a result is there to read when the result has arrived."""

from __future__ import annotations

from LesionBrushLib.client.orders import Outcome
from LesionBrushLib.panel.work import Answer
from panel_kit import Bench

SAID = ("the mask lies in tissue of 57 HU", "ran on the CPU")


def test_remarks_stay_below_the_button(bench: Bench) -> None:
    bench.client.remarks = SAID
    bench.ready()
    bench.synthesize()
    first, *others = bench.ui.progressLabel.text.splitlines()
    assert "arrived after" in first
    assert tuple(others) == SAID


def test_nothing_is_added_where_there_is_none(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    assert len(bench.ui.progressLabel.text.splitlines()) == 1


def test_what_variants_have_in_common_is_said_once() -> None:
    records = [{"remarks": ["a", "b"]}, {"remarks": ["a", "c"]}, {}, {"remarks": None}]
    assert Answer(Outcome(records, "job-1"), 1.0).remarks == ("a", "b", "c")
