"""Models of several systems: a form, choices and volumes beside CT and mask of its own for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from lesionbrush.systems import find_system
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.panel.work import Phase, Progress, Sent
from panel_kit import CARD, SHAPE_KJI, Bench, FakeClient, facts, new_bench, new_ct

MODELS = {
    "lung_lesion": ("lesion_inpainting", ()),
    "lung_ddpm": ("lung_ddpm", ("lungs",)),
    "mddpm": ("mddpm", ("anatomy", "pathology", "pathology_mask")),
}
SELECTORS = ("lungs", "anatomy", "pathology", "pathologyMask")


def several() -> FakeClient:
    """A server with a model of each of three systems."""
    models = {
        name: ModelFacts(
            name,
            {**CARD, "title": name, "inputs": list(inputs)},
            find_system(system).request.model_json_schema(),
        )
        for name, (system, inputs) in MODELS.items()
    }
    return FakeClient(ConnectionReport(True, "ok", "connected", facts(models=models)))


@pytest.fixture
def bench(application):
    bench = new_bench(application, client=several())
    bench.ready()
    yield bench
    bench.panel.close()


def choose(bench: Bench, model: str) -> None:
    bench.ui.modelBox.currentIndex = list(MODELS).index(model)


def control(bench: Bench, *path: str) -> Any:
    return bench.panel.synthesize.view.controls[path]


def selector(bench: Bench, name: str) -> Any:
    return getattr(bench.ui, f"{name}Selector")


def shown(bench: Bench) -> list[str]:
    return [name for name in SELECTORS if selector(bench, name).isVisibleTo(bench.top)]


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
    assert bench.ui.lungsLabel.isVisibleTo(bench.top)
    assert not bench.ui.anatomyLabel.isVisibleTo(bench.top)
    choose(bench, "mddpm")
    assert shown(bench) == ["anatomy", "pathology", "pathologyMask"]
    bench.ui.addressEdit.textEdited.emit("elsewhere")
    assert shown(bench) == []


def test_a_choice_has_the_nodes_that_suit_it(bench: Bench) -> None:
    """And says what happens without one."""
    labels = bench.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    volume, segments = new_ct(bench.scene, "Other"), segmentation(bench)
    choices = {name: [*selector(bench, name)._nodes] for name in SELECTORS}
    for name in ("lungs", "pathologyMask"):
        assert labels in choices[name]
        assert segments in choices[name]
        assert volume not in choices[name]
    for name in ("anatomy", "pathology"):
        assert volume in choices[name]
        assert labels not in choices[name]
    assert selector(bench, "lungs")._box.itemText(0) == "found by itself when left out"
    for name in SELECTORS:
        assert len(selector(bench, name).toolTip) > 40


def test_a_volume_goes_into_the_scene_and_to_the_server(bench: Bench) -> None:
    choose(bench, "lung_ddpm")
    lungs = segmentation(bench)
    selector(bench, "lungs").setCurrentNode(lungs)
    assert bench.logic.parameters.lungs is lungs
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
    bench.logic.parameters.anatomy = other
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
    assert "choose the lesion in the pathology CT" in bench.ui.reasonLabel.text
    selector(bench, "pathologyMask").setCurrentNode(segmentation(bench, "Lesion"))
    assert bench.ui.synthesizeButton.enabled
    selector(bench, "pathology").setCurrentNode(None)
    assert "choose the CT of the pathology mask" in bench.ui.reasonLabel.text
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
    assert "lungs, an anatomy map, the CT of another case with its lesion" in bench.host.asked[0]


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
    request = find_system(MODELS[model][0]).request.model_validate(sent)
    assert request == find_system(MODELS[model][0]).request()


def test_the_other_volumes_on_their_way_as_words() -> None:
    progress = Progress(clock=lambda: 0.0)
    for news, words in [
        (Sent(1_000_000, 2_000_000), "Sending the CT: 1 of 2 MB (0 s)"),
        (Phase("inputs"), "Sending the other volumes (0 s)"),
        (Sent(3_000_000, 4_000_000), "Sending the other volumes: 3 of 4 MB (0 s)"),
        (Phase("queue"), "Waiting for the server (0 s)"),
    ]:
        progress.take(news)
        assert progress.sentence == words
