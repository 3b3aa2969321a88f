"""Models that make whole CTs: no CT, no mask, a button that says so, and a result to paint into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.client.errors import ServerUnreachable
from LesionBrushLib.client.orders import GeneratedCT, Labels
from LesionBrushLib.logic.whole import labels_of
from panel_kit import CARD, SHAPE_KJI, Bench, FakeClient, facts, new_bench, new_ct, paint

REPORT = {"name": "report", "kind": "text", "about": "what is seen"}


def generated(hu: int) -> GeneratedCT:
    array = np.full(SHAPE_KJI[::-1], -850, np.int16, order="F")
    array[4:9, 4:9, 4:9] = hu
    return GeneratedCT(
        array, np.diag((1.0, 1.0, 1.0, 1.0)), Labels((array > 0).astype(np.uint8), {1: "body"})
    )


@pytest.fixture
def bench(application):
    """Connected, with nothing in the scene."""
    schema = facts().models["lung_lesion"].schema
    models = {
        "chests": ModelFacts(
            "chests", {**CARD, "title": "Chests", "kind": "volume", "takes": [REPORT]}, schema
        ),
        "lung_lesion": ModelFacts("lung_lesion", {**CARD, "kind": "edit", "takes": []}, schema),
    }
    client = FakeClient(ConnectionReport(True, "ok", "connected", facts(models=models)))
    client.volumes = [generated(40), generated(60)]
    bench = new_bench(application, client=client)
    bench.connect()
    choose(bench, "chests")
    yield bench
    bench.panel.close()


def choose(bench: Bench, model: str) -> None:
    bench.ui.modelBox.currentIndex = ["chests", "lung_lesion"].index(model)


def hu_of(node: Any) -> np.ndarray:
    return np.asarray(slicer.util.arrayFromVolume(node))


def test_the_button_says_what_it_does(bench: Bench) -> None:
    assert bench.ui.synthesizeButton.text == "Generate"
    assert bench.ui.synthesizeButton.enabled, bench.ui.reasonLabel.text
    assert "whole new CT" in bench.ui.synthesizeButton.toolTip
    choose(bench, "lung_lesion")
    assert bench.ui.synthesizeButton.text == "Synthesize"
    assert not bench.ui.synthesizeButton.enabled


def test_a_whole_ct_comes_into_an_empty_scene(bench: Bench) -> None:
    bench.synthesize()
    assert bench.message == ""
    assert bench.host.asked == []  # nothing of anybody is sent
    order = bench.client.orders[-1]
    assert (order.mask, order.reference, dict(order.inputs), order.record) == (None, None, {}, None)
    node = bench.logic.parameters.synthetic
    assert node.GetName() == "SYNTHETIC GENERATED chests seed 0"
    assert labels_of(node).GetSegmentation().GetNumberOfSegments() == 1
    assert "2 variants arrived" in bench.ui.progressLabel.text
    assert bench.panel.compare.active
    assert not bench.ui.flickerButton.enabled
    assert not bench.ui.differenceCheck.enabled
    bench.ui.nextButton.click()
    assert hu_of(bench.logic.parameters.synthetic)[5, 5, 5] == 60


def test_a_text_is_sent_after_it_was_agreed_to(bench: Bench) -> None:
    bench.logic.parameters.texts = {"report": "A nodule."}
    bench.host.says_yes = False
    bench.synthesize()
    assert bench.message.startswith("Nothing was sent: you did not agree")
    assert bench.client.orders == []
    bench.host.says_yes = True
    bench.synthesize()
    assert dict(bench.client.orders[-1].inputs) == {"report": "A nodule."}


def test_a_whole_ct_is_accepted_and_saved_by_its_name(bench: Bench, tmp_path: Any) -> None:
    bench.synthesize()
    bench.ui.acceptButton.click()
    bench.wait()
    assert ("accept", "job-1", 1) in bench.client.calls
    assert "the server keeps it as 'synthetic-1'" in bench.ui.keepLabel.text
    bench.host.path = tmp_path
    bench.ui.saveButton.click()
    assert (tmp_path / "SYNTHETIC-GENERATED-chests-seed0.nii.gz").is_file()


def test_a_lesion_is_painted_into_a_generated_ct(bench: Bench) -> None:
    bench.synthesize()
    node = bench.logic.parameters.synthetic
    choose(bench, "lung_lesion")
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    assert bench.logic.parameters.segmentation is not labels_of(node)
    paint(bench.panel)
    bench.client.reference_voxels = voxel_sha256(hu_of(node).T)
    bench.synthesize()
    assert bench.message == ""
    record = bench.client.orders[-1].record
    assert record is not None
    assert record["generated"]
    assert "It stays GENERATED" in bench.ui.progressLabel.text
    assert bench.logic.parameters.synthetic.GetName().startswith("SYNTHETIC GENERATED lung_lesion")
    assert bench.logic.comparison.reference is node


def test_labels_are_no_lesion_of_the_ct(bench: Bench) -> None:
    """Another CT was painted on before: what was painted there, and what the labels say, stays apart."""
    bench.ui.volumeSelector.setCurrentNode(new_ct(bench.scene))
    bench.panel.enter()
    paint(bench.panel)
    bench.synthesize()
    bench.ui.volumeSelector.setCurrentNode(bench.logic.parameters.synthetic)
    assert bench.logic.parameters.segmentation is not labels_of(bench.logic.parameters.synthetic)


def test_a_lost_generation_is_picked_up_again(bench: Bench) -> None:
    """It belongs to no CT that could be gone meanwhile."""
    bench.client.raises = ServerUnreachable("the connection was lost", "job-1")
    bench.synthesize()
    assert bench.panel.synthesize.can_pick_up
    bench.client.raises = None
    bench.ui.resumeButton.click()
    bench.wait()
    assert bench.message == ""
    assert bench.logic.variants is not None
    assert len(bench.logic.variants) == 2
