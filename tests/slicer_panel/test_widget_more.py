"""More like this: a number and a button; the server's work is told of, cancelled, and refused."""

from __future__ import annotations

import threading

from LesionBrushLib.client.errors import ServerUnreachable
from panel_kit import Bench


def test_more_like_the_variant_at_hand(bench: Bench) -> None:
    assert not bench.ui.moreButton.enabled
    bench.ready()
    assert not bench.ui.moreButton.enabled
    bench.synthesize()
    bench.ui.moreSpin.value = 7
    bench.ui.moreButton.click()
    assert not bench.ui.moreButton.enabled
    bench.wait()
    asked = ("make_cohort", "job-1", bench.logic.variants.current.number, {"count": 7, "place": "organ"})
    assert asked in bench.client.calls
    assert bench.ui.moreLabel.text == "7 of 7 cases are in the cohort like1."
    assert bench.message == ""
    bench.ui.morePlaceBox.currentIndex = 1
    bench.ui.moreButton.click()
    bench.wait()
    assert bench.client.calls[-1][-1] == {"count": 7, "place": "here"}


def test_progress_and_cancel(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    bench.client.hold = threading.Event()
    bench.ui.moreButton.click()
    bench.wait(lambda: "Step 3 of 6, about 2.0 s left" in bench.ui.moreLabel.text)
    assert bench.ui.cancelButton.enabled
    bench.ui.cancelButton.click()
    bench.wait()
    assert bench.ui.moreLabel.text.startswith("Cancelled. Cases that were made are on the server")
    assert bench.ui.moreButton.enabled
    assert bench.logic.variants.current.state == "new"


def test_what_goes_wrong_is_shown(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    bench.client.raises = ServerUnreachable("the connection was lost")
    bench.ui.moreButton.click()
    bench.wait()
    assert bench.message == "the connection was lost"


def test_without_a_result_there_is_nothing_to_be_like(bench: Bench) -> None:
    bench.panel.session.guard(bench.panel.more.start)
    assert "this result is on no server" in bench.message
