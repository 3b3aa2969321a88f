"""The whole panel: connect, choose, paint, synthesize, compare, keep."""

from __future__ import annotations

from panel_kit import Bench


def test_the_whole_way(bench: Bench) -> None:
    assert bench.ui.synthesizeButton.enabled is False
    bench.ready()
    print(bench.ui.reasonLabel.text)
    assert bench.ui.synthesizeButton.enabled
    bench.synthesize()
    assert bench.message == ""
    assert bench.logic.variants is not None
