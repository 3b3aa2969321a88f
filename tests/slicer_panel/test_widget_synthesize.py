"""Synthesize: what is missing, consent, the form both ways, progress, cancel, errors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.client.errors import JobFailed, ServerError, ServerUnreachable
from LesionBrushLib.panel.pictures import png_bytes
from LesionBrushLib.panel.work import Phase, Progress, Sent, seconds_words
from panel_kit import Bench, FakeClient, new_bench, new_ct, paint, status

PNG = png_bytes(np.full((8, 8, 3), 200, np.uint8))


def control(bench: Bench, *path: str) -> Any:
    return bench.panel.synthesize.view.controls[path]


def test_the_button_says_what_is_missing(bench: Bench) -> None:
    reasons = []

    def note() -> None:
        assert not bench.ui.synthesizeButton.enabled
        reasons.append(bench.ui.reasonLabel.text)

    note()
    bench.connect()
    note()
    bench.ui.volumeSelector.setCurrentNode(new_ct(bench.scene))
    note()
    bench.panel.enter()
    note()
    paint(bench.panel)
    assert bench.ui.synthesizeButton.enabled
    assert bench.ui.reasonLabel.text == ""
    expected = ("connect to a server", "choose a CT", "paint a lesion", "paint a lesion")
    assert all(words in reason for words, reason in zip(expected, reasons, strict=True)), reasons


def test_sliders_and_choices_come_from_the_schema(bench: Bench) -> None:
    bench.connect()
    slider = control(bench, "attributes", "mean_hu").number
    assert (slider.minimum, slider.maximum, slider.suffix) == (-950, 1000, " HU")
    texture = control(bench, "attributes", "texture").widget
    words = [texture.itemText(n) for n in range(texture.count)]
    assert words == ["left to the model", "ground glass", "part solid", "solid"]
    assert texture.currentText == "solid"
    assert control(bench, "seed").number.maximum == 2**31 - 1
    assert control(bench, "attributes", "margin").widget.toolTip == "0 poorly defined, 1 sharp"


def test_what_is_set_goes_into_the_scene_and_to_the_server(bench: Bench) -> None:
    bench.ready()
    control(bench, "attributes", "texture").widget.currentIndex = 1
    margin = control(bench, "attributes", "margin")
    assert not margin.number.enabled
    margin.given.click()
    margin.number.value = 0.25
    control(bench, "seed").number.value = 11
    control(bench, "margin_mm").number.value = 5
    parameters = bench.logic.parameters
    assert parameters.attributes["texture"] == "ground_glass"
    assert parameters.attributes["margin"] == 0.25
    assert (parameters.seed, parameters.extra["margin_mm"]) == (11, 5)
    bench.synthesize()
    params = bench.client.orders[0].params
    assert params["attributes"]["texture"] == "ground_glass"
    assert params["attributes"]["margin"] == 0.25
    assert params["attributes"]["spiculation"] is None
    assert (params["seed"], params["margin_mm"]) == (11, 5)
    assert "output" not in params
    assert "label" not in params


def test_what_the_scene_says_comes_into_the_form(bench: Bench) -> None:
    bench.connect()
    bench.logic.parameters.seed = 99
    bench.logic.parameters.attributes = {"texture": None, "mean_hu": -200.0, "nonsense": 3}
    bench.wait(lambda: control(bench, "seed").get() == 99)
    assert control(bench, "attributes", "texture").get() is None
    assert control(bench, "attributes", "mean_hu").get() == -200
    assert control(bench, "attributes", "margin").get() is None


def test_a_new_seed_is_drawn(bench: Bench) -> None:
    bench.connect()
    button = next(b for b in bench.ui.formFrame.findChildren(type(bench.ui.testButton)) if b.text == "New")
    button.click()
    first = bench.logic.parameters.seed
    button.click()
    assert 0 < first != bench.logic.parameters.seed > 0


def test_consent_is_asked_once_per_server(bench: Bench) -> None:
    bench.ready()
    bench.host.says_yes = False
    bench.synthesize()
    assert bench.message.startswith("Nothing was sent")
    assert bench.client.orders == []
    assert "http://127.0.0.1:8000" in bench.host.asked[0]
    bench.host.says_yes = True
    bench.synthesize()
    bench.synthesize()
    assert len(bench.host.asked) == 2
    assert len(bench.client.orders) == 2
    assert bench.ui.withdrawButton.isVisibleTo(bench.top)
    bench.ui.withdrawButton.click()
    bench.synthesize()
    assert len(bench.host.asked) == 3


def test_consent_for_one_server_is_none_for_another(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    bench.ui.addressEdit.text = "https://lab.example.org"
    bench.connect()
    bench.host.says_yes = False
    bench.synthesize()
    assert len(bench.host.asked) == 2
    assert "https://lab.example.org" in bench.host.asked[1]
    assert len(bench.client.orders) == 1


def test_consent_is_remembered_in_the_next_session(bench: Bench, application) -> None:
    bench.ready()
    bench.synthesize()
    bench.panel.close()
    application.mrmlScene.Clear()
    again = new_bench(application, bench.store, FakeClient())
    again.ready()
    again.synthesize()
    assert again.host.asked == []
    assert len(again.client.orders) == 1
    again.panel.close()


def test_progress_preview_and_seconds_left(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.client.news = [
        ("on_phase", "reference"),
        ("on_upload", 30_000_000, 120_000_000),
        ("on_status", status("queued", position=2)),
        ("on_status", status(step=3, steps=12, seconds_left=8.4, remarks=("a remark",))),
        ("on_preview", 3, PNG),
    ]
    bench.ready()
    bench.ui.synthesizeButton.click()
    bench.wait(lambda: "Step 3 of 12" in bench.ui.progressLabel.text)
    bench.wait(lambda: bench.ui.previewLabel.isVisibleTo(bench.top))
    assert "about 8.4 s left" in bench.ui.progressLabel.text
    assert "a remark" in bench.ui.progressLabel.text
    assert bench.ui.progressBar.value == 25
    assert bench.ui.progressBar.isVisibleTo(bench.top)
    assert not bench.ui.synthesizeButton.enabled
    assert bench.ui.cancelButton.enabled
    bench.client.hold.set()
    bench.wait()
    assert "arrived after" in bench.ui.progressLabel.text
    assert not bench.ui.progressBar.isVisibleTo(bench.top)
    assert not bench.ui.previewLabel.isVisibleTo(bench.top)
    assert "Last time: " in bench.ui.cardLabel.text
    assert "s for 1 × 8 steps" in bench.ui.cardLabel.text


def test_the_news_of_a_job_as_words() -> None:
    now = [100.0]
    progress = Progress(clock=lambda: now[0])
    assert progress.sentence == "Looking for the CT on the server (0.0 s)"
    now[0] = 107.0
    for news, words, percent in [
        (Sent(30_000_000, 120_000_000), "Sending the CT: 30 of 120 MB (7.0 s)", 25),
        (
            status("queued", position=2, estimated_seconds=9.0),
            "Waiting: 2 before you, then about 9.0 s (7.0 s)",
            None,
        ),
        (status("queued", position=0), "Waiting: you are next (7.0 s)", None),
        (status(), "Synthesizing (7.0 s)", None),
        (status(step=3, steps=12), "Step 3 of 12 (7.0 s)", 25),
        (Phase("result"), "Fetching the result (7.0 s)", None),
        (Phase("a new one"), "a new one (7.0 s)", None),
    ]:
        progress.take(news)
        assert (progress.sentence, progress.percent) == (words, percent)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (10.6, "11 s"), (125.0, "125 s")],
)
def test_tenths_are_shown_below_ten_seconds_alone(seconds: float, words: str) -> None:
    assert seconds_words(seconds) == words


def test_cancel_changes_nothing(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.ready()
    nodes = bench.scene.GetNumberOfNodes()
    bench.ui.synthesizeButton.click()
    bench.ui.cancelButton.click()
    assert not bench.ui.cancelButton.enabled
    bench.wait()
    assert bench.ui.progressLabel.text == "Cancelled. Nothing was changed."
    assert bench.message == ""
    assert bench.logic.variants is None
    assert bench.scene.GetNumberOfNodes() == nodes
    assert bench.ui.synthesizeButton.enabled


@pytest.mark.parametrize(
    "error",
    [
        ServerError(503, "queue_full", "the queue is full: try again in 20 s", 20.0),
        ServerUnreachable("no usable answer: start the server there"),
        JobFailed(status("failed", error_code="empty_mask", error_message="the mask is empty: paint one")),
    ],
)
def test_an_error_says_what_to_do_and_the_last_result_stays(bench: Bench, error: Exception) -> None:
    bench.ready()
    bench.synthesize()
    last = bench.logic.variants
    bench.client.raises = error
    bench.synthesize()
    assert bench.message == str(error)
    assert bench.logic.variants is last
    assert "last good result" in bench.ui.progressLabel.text
    assert bench.ui.synthesizeButton.enabled
    bench.client.raises = None
    bench.synthesize()
    assert bench.message == ""
    assert bench.logic.variants is not last


def test_a_mistake_of_ours_is_not_hidden(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.ready()
    bench.client.raises = KeyError("lost")
    bench.synthesize()
    assert "LesionBrush made a mistake (KeyError" in bench.message
    assert "unexpected error" in caplog.text


def test_a_box_for_another_ct_is_refused(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    last = bench.logic.variants
    bench.client.changed = True
    bench.logic.parameters.image_id = "case-1"
    bench.synthesize()
    assert bench.message
    assert bench.logic.variants is last
    assert bench.logic.parameters.image_id == ""  # the next try sends the CT itself


def test_the_servers_own_ct_is_not_sent_again(bench: Bench) -> None:
    bench.ready()
    bench.logic.parameters.image_id = "case-1"
    bench.synthesize()
    assert bench.client.orders[0].reference == "case-1"


def test_the_result_is_of_the_ct_that_was_sent(bench: Bench) -> None:
    """The user chooses another CT while the server works."""
    bench.client.hold = threading.Event()
    bench.ready()
    sent = bench.logic.parameters.reference
    bench.ui.synthesizeButton.click()
    bench.logic.parameters.reference = new_ct(bench.scene, "another")
    bench.client.hold.set()
    bench.wait()
    assert bench.message == ""
    assert bench.logic.variants.reference is sent
    changed = slicer.util.arrayFromVolume(bench.logic.variants.node) != slicer.util.arrayFromVolume(sent)
    assert changed.sum() == 27


def test_two_at_a_time_are_refused(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.ready()
    bench.ui.synthesizeButton.click()
    bench.panel.keys()["Ctrl+Return"][1]()
    assert "wait for it, or press Cancel" in bench.message
    bench.client.hold.set()
    bench.wait()
    assert len(bench.client.orders) == 1


def test_a_scene_that_closes_meanwhile_gets_nothing(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.ready()
    bench.ui.synthesizeButton.click()
    bench.scene.Clear()
    bench.client.hold.set()
    bench.settle(0.2)
    assert bench.logic.variants is None
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert "choose a CT" in bench.ui.reasonLabel.text
