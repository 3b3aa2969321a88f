"""The panel with the real client, over a real socket, against a server that does as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from job_fake import BOX, CT, OFFSET, Fake, running
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from LesionBrushLib.client import JobClient
from panel_kit import CARD, Bench, Store, new_bench

MODEL = {"card": CARD, "schema": SynthesisRequest.model_json_schema(), "problem": None}


@pytest.fixture
def server() -> Iterator[Fake]:
    fake = Fake(facts={"version": "9", "protocol": 1, "models": {"lung": MODEL}})
    with running(fake):
        yield fake


@pytest.fixture
def wired(application, server: Fake) -> Iterator[Bench]:
    """Connected, with the server's CT and a painted lesion."""
    import slicer

    def client(url: str, token: str | None, ca_file: object) -> JobClient:
        return JobClient(url, token)

    bench = new_bench(application, Store(), client)
    bench.ui.addressEdit.text = server.url
    bench.connect()
    node = bench.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(CT.T))
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    parameters = bench.logic.parameters
    mask = np.zeros(CT.T.shape, np.uint8)
    mask[2:4, 3:5, 5:7] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, parameters.segmentation, parameters.segment_id, node
    )
    bench.panel.refresh()
    yield bench
    bench.panel.close()


def test_the_whole_way(wired: Bench, server: Fake) -> None:
    import slicer

    assert wired.ui.reasonLabel.text == ""
    wired.synthesize()
    assert wired.message == ""
    made = slicer.util.arrayFromVolume(wired.logic.variants.node).T
    expected = CT.copy()
    expected[tuple(slice(at, at + n) for at, n in zip(OFFSET, BOX.shape, strict=True))] = BOX
    assert np.array_equal(made, expected)
    body = next(body for body in server.bodies if b'name="params"' in body)
    params = json.loads(body.partition(b'name="params"')[2].split(b"\r\n\r\n")[1].split(b"\r\n--")[0])
    SynthesisRequest.model_validate(params)


def test_a_ct_is_sent_only_once(wired: Bench, server: Fake) -> None:
    wired.synthesize()
    wired.synthesize()
    assert wired.message == ""
    assert server.count("PUT /lesionbrush/v1/references") == 1


def test_nothing_of_a_ct_leaves_without_consent(wired: Bench, server: Fake) -> None:
    wired.host.says_yes = False
    wired.synthesize()
    assert server.count("references") == 0
    assert not any(server.bodies)


def test_cancel_reaches_the_server(wired: Bench, server: Fake) -> None:
    server.steps, server.step_s = 1000, 0.02
    wired.ui.synthesizeButton.click()
    wired.wait(lambda: "Step" in wired.ui.progressLabel.text)
    wired.ui.cancelButton.click()
    wired.wait()
    assert wired.ui.progressLabel.text == "Cancelled. Nothing was changed."
    assert server.cancelled
    assert wired.logic.variants is None


def test_a_wrong_token_is_said(wired: Bench, server: Fake) -> None:
    server.token = "secret"
    wired.ui.tokenEdit.text = "wrong"
    wired.connect()
    assert "does not accept this token" in wired.ui.connectionLabel.text
    assert not wired.ui.synthesizeButton.enabled
    wired.ui.tokenEdit.text = "secret"
    wired.connect()
    assert wired.ui.synthesizeButton.enabled


def test_a_job_that_fails_is_said(wired: Bench, server: Fake) -> None:
    wired.synthesize()
    last = wired.logic.variants
    server.restart()
    server.end = {
        "state": "failed",
        "error": {"code": "device_error", "message": "the GPU is gone: ask your admin"},
    }
    wired.synthesize()
    assert wired.message == "the GPU is gone: ask your admin"
    assert wired.logic.variants is last


def test_a_full_queue_is_said(wired: Bench, server: Fake) -> None:
    detail = {"detail": {"code": "queue_full", "message": "16 jobs are waiting already: try again in 7 s"}}
    server.refuse["submit"] = (503, json.dumps(detail).encode(), {"Retry-After": "7"})
    wired.synthesize()
    assert wired.message == "16 jobs are waiting already: try again in 7 s"
    assert wired.ui.synthesizeButton.enabled
