"""Models of several systems: a form, choices and volumes beside CT and mask of its own for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from lesionbrush.systems import find_system
from lesionbrush.systems.contract import System
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.panel.work import Phase, Progress, Sent
from panel_kit import CARD, SHAPE_KJI, Bench, FakeClient, facts, new_bench, new_ct

MODELS = {"lung_lesion": "lesion_inpainting", "lung_ddpm": "lung_ddpm", "mddpm": "mddpm"}
FUTURE = [
    {"name": "organs", "kind": "layout", "about": "organs by their names", "required": True},
    {"name": "finding", "kind": "text", "about": "what a radiologist sees"},
]


def model(name: str, system: System) -> ModelFacts:
    """As the server says it."""
    fields = ("name", "kind", "about", "required", "on")
    takes = [{field: getattr(one, field) for field in fields} for one in system.inputs]
    card = {**CARD, "title": name, "kind": system.makes, "takes": takes}
    return ModelFacts(name, card, system.request.model_json_schema())


def several() -> FakeClient:
    """A server with a model of each of three systems, and of one that nobody has written."""
    models = {name: model(name, find_system(system)) for name, system in MODELS.items()}
    takes = {**CARD, "title": "Future", "kind": "edit", "takes": FUTURE}
    models["future"] = ModelFacts("future", takes, models["lung_lesion"].schema)
    return FakeClient(ConnectionReport(True, "ok", "connected", facts(models=models)))


@pytest.fixture
def bench(application):
    bench = new_bench(application, client=several())
    bench.ready()
    yield bench
    bench.panel.close()


def choose(bench: Bench, model: str) -> None:
    bench.ui.modelBox.currentIndex = [*MODELS, "future"].index(model)


def control(bench: Bench, *path: str) -> Any:
    return bench.panel.synthesize.view.controls[path]


def selector(bench: Bench, name: str) -> Any:
    return bench.panel.synthesize.inputs.fields[name].widget


def shown(bench: Bench) -> list[str]:
    fields = bench.panel.synthesize.inputs.fields
    return [name for name, field in fields.items() if field.widget.isVisibleTo(bench.top)]


def segmentation(bench: Bench, name: str = "Lungs") -> Any:
    """One painted segment on the grid of the test's CTs."""
    node = bench.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    volume = bench.logic.parameters.reference
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("", name)
    mask = np.zeros(SHAPE_KJI, np.uint8)
    mask[2:20, 2:20, 2:20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)
    return node


def test_only_what_the_model_takes_is_shown(bench: Bench) -> None:
    assert shown(bench) == []
    assert not bench.ui.inputsFrame.isVisibleTo(bench.top)
    choose(bench, "lung_ddpm")
    assert shown(bench) == ["lungs"]
    choose(bench, "mddpm")
    assert shown(bench) == ["anatomy", "pathology", "pathology_mask"]
    assert bench.ui.inputsFrame.isVisibleTo(bench.top)
    bench.ui.addressEdit.textEdited.emit("elsewhere")
    assert shown(bench) == []


def test_a_choice_has_the_nodes_that_suit_it(bench: Bench) -> None:
    """And says what it is for, and that it may be left out."""
    labels = bench.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    volume, segments = new_ct(bench.scene, "Other"), segmentation(bench)
    for name, suits, none in [
        ("lung_ddpm lungs", {labels, segments}, "left out"),
        ("mddpm pathology_mask", {labels, segments}, "left out"),
        ("mddpm anatomy", {volume}, "left out"),
        ("mddpm pathology", {volume}, "left out"),
        ("future organs", {labels, segments}, "choose one"),
    ]:
        model, _, field = name.partition(" ")
        choose(bench, model)
        offered = {*selector(bench, field)._nodes}
        assert offered & {labels, segments, volume} == suits, name
        assert selector(bench, field)._box.itemText(0) == none
        assert len(selector(bench, field).toolTip) > 40


def test_a_system_of_the_future_needs_no_new_panel(bench: Bench) -> None:
    """Inputs that no line of the module names: asked for, kept, and sent."""
    choose(bench, "future")
    assert shown(bench) == ["organs", "finding"]
    assert bench.ui.reasonLabel.text == "To do first: choose Organs: organs by their names."
    selector(bench, "organs").setCurrentNode(segmentation(bench, "Liver"))
    assert bench.ui.synthesizeButton.enabled, bench.ui.reasonLabel.text
    selector(bench, "finding").setPlainText("A nodule\nof 9 mm.")
    assert bench.logic.parameters.texts == {"finding": "A nodule\nof 9 mm."}
    bench.synthesize()
    assert bench.message == ""
    sent = bench.client.orders[-1].inputs
    assert sent["finding"] == "A nodule\nof 9 mm."
    assert sent["organs"].names == {1: "Liver"}
    bench.logic.parameters.texts = {"finding": "Another."}
    bench.settle()
    assert selector(bench, "finding").plainText == "Another."
    selector(bench, "finding").setPlainText("")
    bench.synthesize()
    assert set(bench.client.orders[-1].inputs) == {"organs"}


def test_a_volume_goes_into_the_scene_and_to_the_server(bench: Bench) -> None:
    choose(bench, "lung_ddpm")
    lungs = segmentation(bench)
    selector(bench, "lungs").setCurrentNode(lungs)
    assert bench.logic.parameters.input_node("lungs") is lungs
    bench.synthesize()
    assert bench.message == ""
    assert set(bench.client.orders[-1].inputs) == {"lungs"}
    choose(bench, "mddpm")
    bench.synthesize()
    assert dict(bench.client.orders[-1].inputs) == {}
    choose(bench, "lung_ddpm")
    assert selector(bench, "lungs").currentNode() is lungs
    selector(bench, "lungs").setCurrentNode(None)
    bench.synthesize()
    assert dict(bench.client.orders[-1].inputs) == {}


def test_a_loaded_scene_shows_its_volumes(bench: Bench) -> None:
    other = new_ct(bench.scene, "Other")
    choose(bench, "mddpm")
    bench.logic.parameters.choose_input("anatomy", other)
    bench.settle()
    assert selector(bench, "anatomy").currentNode() is other
    bench.scene.RemoveNode(other)
    bench.settle()
    assert selector(bench, "anatomy").currentNode() is None


def test_the_button_says_which_half_is_missing(bench: Bench) -> None:
    choose(bench, "mddpm")
    assert bench.ui.synthesizeButton.enabled, bench.ui.reasonLabel.text
    selector(bench, "pathology").setCurrentNode(new_ct(bench.scene, "Other"))
    assert not bench.ui.synthesizeButton.enabled
    assert "choose Pathology mask as well (the lesion in" in bench.ui.reasonLabel.text
    selector(bench, "pathology_mask").setCurrentNode(segmentation(bench, "Lesion"))
    assert bench.ui.synthesizeButton.enabled
    selector(bench, "pathology").setCurrentNode(None)
    assert "choose Pathology as well (the CT of another case" in bench.ui.reasonLabel.text
    choose(bench, "lung_ddpm")  # takes neither
    assert bench.ui.synthesizeButton.enabled
    choose(bench, "mddpm")
    selector(bench, "pathology").setCurrentNode(new_ct(bench.scene, "Other"))
    bench.synthesize()
    assert set(bench.client.orders[-1].inputs) == {"pathology", "pathology_mask"}


def test_a_volume_that_cannot_be_sent_is_named(bench: Bench) -> None:
    choose(bench, "mddpm")
    hollow = bench.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
    selector(bench, "anatomy").setCurrentNode(hollow)
    bench.ui.synthesizeButton.click()
    assert "Hollow" in bench.message
    assert bench.client.orders == []


def test_consent_names_the_other_volumes(bench: Bench) -> None:
    bench.synthesize()
    assert "masks, layouts of organs, the CT of another case, texts" in bench.host.asked[0]


def test_the_form_is_that_of_the_model(bench: Bench) -> None:
    assert ("attributes", "texture") in bench.panel.synthesize.view.controls
    assert control(bench, "steps").get() == 8
    choose(bench, "lung_ddpm")
    kind = find_system("lung_ddpm").request
    names = {".".join(path) for path in bench.panel.synthesize.view.controls}
    assert names == set(kind.model_fields) - {"system", "label", "output"}
    assert control(bench, "steps").get() == 25
    assert control(bench, "sampler").get() == "dpm_solver_pp_2m"
    control(bench, "region").widget.currentIndex = 1
    bench.synthesize()
    wanted = kind.model_validate({"region": "lungs"})
    assert bench.client.orders[-1].params == wanted.model_dump(
        mode="json", exclude={"system", "label", "output"}
    )
    assert "s for 1 × 25 steps" in bench.ui.cardLabel.text


def test_guides_with_the_same_words_are_told_apart(bench: Bench) -> None:
    choose(bench, "mddpm")
    form = bench.panel.session.form
    labels = [field.label for field in form]
    assert len(labels) == len(set(labels))
    assert form.field("anatomy", "stop").label == "Anatomy: stop"
    assert control(bench, "anatomy", "factor").get() == 8
    control(bench, "pathology", "stop").number.value = 0.25
    bench.synthesize()
    params = bench.client.orders[-1].params
    assert params["reference"] == {"factor": 0, "stop": 0.0}
    assert params["pathology"] == {"factor": 2, "stop": 0.25}


def test_values_are_remembered_for_each_model(bench: Bench) -> None:
    control(bench, "attributes", "texture").widget.currentIndex = 1
    control(bench, "steps").number.value = 6
    control(bench, "seed").number.value = 41
    choose(bench, "lung_ddpm")
    assert control(bench, "seed").get() == 41
    control(bench, "steps").number.value = 50
    choose(bench, "lung_lesion")
    assert control(bench, "steps").get() == 6
    assert control(bench, "attributes", "texture").get() == "ground_glass"
    choose(bench, "lung_ddpm")
    assert control(bench, "steps").get() == 50
    bench.settle()
    assert control(bench, "steps").get() == 50


@pytest.mark.parametrize("model", MODELS)
def test_what_the_form_sends_the_server_takes(bench: Bench, model: str) -> None:
    choose(bench, model)
    bench.synthesize()
    sent = bench.client.orders[-1].params
    request = find_system(MODELS[model]).request.model_validate(sent)
    assert request == find_system(MODELS[model]).request()


def test_the_other_volumes_on_their_way_as_words() -> None:
    progress = Progress(clock=lambda: 0.0)
    for news, words in [
        (Sent(1_000_000, 2_000_000), "Sending the CT: 1 of 2 MB (0.0 s)"),
        (Phase("inputs"), "Sending the other volumes (0.0 s)"),
        (Sent(3_000_000, 4_000_000), "Sending the other volumes: 3 of 4 MB (0.0 s)"),
        (Phase("queue"), "Waiting for the server (0.0 s)"),
    ]:
        progress.take(news)
        assert progress.sentence == words
