"""A model that follows layouts: segmentations are chosen, edited and sent, and nothing is painted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from lesionbrush.systems import find_system
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.client.nifti import read_nifti
from panel_kit import CARD, SHAPE_KJI, Bench, FakeClient, facts, new_bench, new_ct

LIVER, MOVED = np.zeros((2, *SHAPE_KJI), np.uint8)
LIVER[4:12, 4:12, 4:12], MOVED[4:12, 8:16, 4:12] = 1, 1
KIDNEY = "a~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^24028007^Right~b~^^~^^"


def semantic() -> FakeClient:
    """A server with a model of semantic CT, that says what the real one says."""
    system = find_system("semantic")
    fields = ("name", "kind", "about", "required", "on")
    takes = [{field: getattr(one, field) for field in fields} for one in system.inputs]
    card = {**CARD, "title": "Semantic CT", "kind": "edit", "needs_mask": False, "takes": takes}
    model = ModelFacts("semantic", card, system.request.model_json_schema())
    return FakeClient(ConnectionReport(True, "ok", "connected", facts(models={"semantic": model})))


@pytest.fixture
def bench(application: Any) -> Iterator[Bench]:
    """Connected, with a CT, and nothing painted."""
    bench = new_bench(application, client=semantic())
    bench.connect()
    node = new_ct(bench.scene)
    bench.client.reference_voxels = voxel_sha256(slicer.util.arrayFromVolume(node).T)
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    yield bench
    bench.panel.close()


def segmentation(bench: Bench, name: str, terminology: str = "", **segments: np.ndarray) -> Any:
    node = bench.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    volume = bench.logic.parameters.reference
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for title, mask in segments.items():
        key = node.GetSegmentation().AddEmptySegment(title, title)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, key, volume)
        if terminology:
            segment = node.GetSegmentation().GetSegment(key)
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
    return node


def choose(bench: Bench, **nodes: Any) -> None:
    for name, node in nodes.items():
        bench.panel.synthesize.inputs.fields[name].widget.setCurrentNode(node)


def sent_voxels(bench: Bench, name: str) -> np.ndarray:
    layout = bench.client.orders[-1].inputs[name]
    found: np.ndarray = read_nifti(layout.labels.source)[0].T
    return found


def test_a_layout_is_asked_for_and_nothing_has_to_be_painted(bench: Bench) -> None:
    assert bench.ui.reasonLabel.text.startswith("To do first: choose Layout: the organs of the CT, a label")
    choose(bench, layout=segmentation(bench, "Before", liver=LIVER))
    assert bench.ui.synthesizeButton.enabled, bench.ui.reasonLabel.text
    assert "Send the CT and what is chosen" in bench.ui.synthesizeButton.toolTip


def test_two_segmentations_go_to_the_server_and_the_answer_comes_up(bench: Bench) -> None:
    choose(bench, layout=segmentation(bench, "Before", liver=LIVER))
    choose(bench, new_layout=segmentation(bench, "After", liver=MOVED))
    bench.synthesize()
    assert bench.message == ""
    order = bench.client.orders[-1]
    assert order.mask is None
    assert order.reference is not None
    assert order.inputs["layout"].names == order.inputs["new_layout"].names == {1: "liver"}
    assert np.array_equal(sent_voxels(bench, "layout"), LIVER)
    assert np.array_equal(sent_voxels(bench, "new_layout"), MOVED)
    assert bench.logic.parameters.synthetic is not None
    assert bench.logic.variants.thumbnail(0).shape == (96, 96, 3)


def test_what_the_segment_editor_changed_is_sent(bench: Bench) -> None:
    after = segmentation(bench, "After", liver=LIVER)
    choose(bench, layout=segmentation(bench, "Before", liver=LIVER), new_layout=after)
    volume = bench.logic.parameters.reference
    slicer.util.updateSegmentBinaryLabelmapFromArray(MOVED, after, "liver", volume)
    bench.synthesize()
    assert np.array_equal(sent_voxels(bench, "new_layout"), MOVED)


def test_what_is_painted_goes_along_as_the_mask(bench: Bench) -> None:
    choose(bench, layout=segmentation(bench, "Before", liver=LIVER))
    parameters = bench.logic.parameters
    bench.logic.ensure_segmentation()
    bench.synthesize()
    assert bench.client.orders[-1].mask is None  # an empty segment is nothing painted
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        MOVED, parameters.segmentation, parameters.segment_id, parameters.reference
    )
    bench.synthesize()
    assert bench.client.orders[-1].mask is not None


def test_a_segment_of_any_name_is_sent_with_its_code(bench: Bench) -> None:
    """The server knows what the code means: tests/test_terminology.py."""
    choose(bench, layout=segmentation(bench, "Before", KIDNEY, Segment_7=LIVER))
    bench.synthesize()
    assert bench.client.orders[-1].inputs["layout"].names == {1: "Segment_7 [SCT 64033007 24028007]"}
    choose(bench, layout=segmentation(bench, "Before", KIDNEY, **{"Right kidney": LIVER}))
    bench.synthesize()
    assert bench.client.orders[-1].inputs["layout"].names == {1: "Right kidney"}


def test_a_segmentation_beside_the_ct_is_refused(bench: Bench) -> None:
    empty = segmentation(bench, "Nothing", liver=np.zeros(SHAPE_KJI, np.uint8))
    choose(bench, layout=empty)
    bench.ui.synthesizeButton.click()
    assert "Nothing is empty, or lies outside" in bench.message
    assert bench.client.orders == []
