"""A synthesis whose connection was lost is picked up again."""

from __future__ import annotations

import pytest
from LesionBrushLib.client.errors import ServerError, ServerUnreachable
from panel_kit import Bench


def lost(bench: Bench) -> None:
    """The connection breaks while the server works."""
    bench.ready()
    bench.client.raises = ServerUnreachable("the connection was lost", "job-7")
    bench.synthesize()


def test_a_lost_job_is_picked_up_again(bench: Bench) -> None:
    lost(bench)
    assert bench.message == "the connection was lost"
    assert bench.ui.resumeButton.isVisibleTo(bench.top)
    bench.ui.resumeButton.click()  # still away
    bench.wait()
    assert bench.ui.resumeButton.isVisibleTo(bench.top)
    bench.client.raises = None
    bench.ui.resumeButton.click()
    assert not bench.ui.resumeButton.isVisibleTo(bench.top)
    bench.wait()
    assert bench.client.calls.count(("resume", "job-7")) == 2
    assert bench.message == ""
    assert len(bench.logic.variants) == 1
    assert not bench.ui.resumeButton.isVisibleTo(bench.top)
    assert "Last time: " not in bench.ui.cardLabel.text


@pytest.mark.parametrize(
    "error", [ServerError(404, "job_lost", "the server was restarted"), ServerUnreachable("nobody there")]
)
def test_what_cannot_be_picked_up_is_not_offered(bench: Bench, error: Exception) -> None:
    lost(bench)
    bench.client.raises = error
    bench.ui.resumeButton.click()
    bench.wait()
    assert bench.message == str(error)
    assert not bench.ui.resumeButton.isVisibleTo(bench.top)
    bench.panel.synthesize.pick_up()
    assert not bench.panel.session.busy


def test_a_lost_job_is_not_for_another_scene(bench: Bench) -> None:
    lost(bench)
    bench.scene.Clear()
    bench.panel.refresh()
    assert not bench.ui.resumeButton.isVisibleTo(bench.top)


def test_a_lost_job_is_nothing_without_its_ct(bench: Bench) -> None:
    lost(bench)
    bench.scene.RemoveNode(bench.logic.parameters.reference)
    bench.panel.refresh()
    assert not bench.ui.resumeButton.isVisibleTo(bench.top)
