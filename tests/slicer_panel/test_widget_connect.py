"""Connect and Reference: the server, its models, its CTs, and any CT that is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lesionbrush.core.registry import list_models
from lesionbrush.server.synthesis.facts import card_facts, request_schema
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.client.errors import ServerError, ServerUnreachable
from LesionBrushLib.panel.settings import Settings
from panel_kit import CARD, Bench, FakeClient, Store, facts, new_bench, new_ct


def test_connecting_shows_models_and_card(bench: Bench) -> None:
    bench.ui.addressEdit.text = "lab.example.org:9000"
    bench.ui.tokenEdit.text = "secret"
    bench.connect()
    assert ("client", "http://lab.example.org:9000", "secret") in bench.client.calls
    assert bench.ui.connectionLabel.text == "connected"
    assert [bench.ui.modelBox.itemText(n) for n in range(2)] == ["Lung lesion", "Liver (cannot run)"]
    card = bench.ui.cardLabel.text
    for words in (
        "A lung nodule",
        "-1000 to 1000 HU",
        "Apache-2.0",
        "Runs on cpu",
        "cases 111",
        "Lung only.",
    ):
        assert words in card
    assert bench.logic.parameters.model == "lung_lesion"


def test_the_reason_is_shown_when_it_fails(bench: Bench) -> None:
    bench.client.report = ConnectionReport(False, "refused", "nobody listens at ...: start the server", None)
    bench.connect()
    assert bench.ui.connectionLabel.text.startswith("nobody listens")
    assert not bench.ui.modelBox.enabled
    assert bench.ui.modelBox.count == 0
    assert "connect to a server" in bench.ui.reasonLabel.text


def test_an_impossible_address_is_not_even_tried(bench: Bench) -> None:
    bench.client.calls.clear()
    bench.ui.addressEdit.text = "ftp://lab"
    bench.connect()
    assert "no address of a server" in bench.ui.connectionLabel.text
    assert bench.client.calls == []


def test_nothing_is_asked_before_the_button_is_pressed(bench: Bench) -> None:
    bench.panel.enter()
    bench.settle(0.1)
    assert bench.client.calls == []


def test_settings_are_remembered(bench: Bench, application) -> None:
    bench.ui.addressEdit.text = "lab.example.org"
    bench.ui.tokenEdit.text = "secret"
    bench.connect()
    bench.panel.close()
    again = new_bench(application, bench.store)
    assert (again.ui.addressEdit.text, again.ui.tokenEdit.text) == ("http://lab.example.org", "secret")
    again.panel.close()


def test_another_address_forgets_the_server(bench: Bench) -> None:
    bench.connect()
    bench.ui.addressEdit.setFocus()
    bench.ui.addressEdit.text = "elsewhere"
    bench.ui.addressEdit.textEdited.emit("elsewhere")
    assert bench.panel.session.facts is None
    assert bench.ui.modelBox.count == 0
    assert "press Test connection" in bench.ui.connectionLabel.text


def test_a_token_of_one_server_does_not_go_to_another(bench: Bench) -> None:
    bench.ui.tokenEdit.text = "secret"
    bench.connect()
    bench.ui.addressEdit.text = "elsewhere"
    bench.ui.addressEdit.textEdited.emit("elsewhere")
    assert bench.ui.tokenEdit.text == ""
    bench.connect()
    assert ("client", "http://elsewhere", None) in bench.client.calls


def test_a_token_that_is_not_to_be_kept_is_not(bench: Bench) -> None:
    bench.ui.keepTokenCheck.click()
    bench.ui.tokenEdit.text = "secret"
    bench.connect()
    assert "secret" not in str(bench.store)


def test_a_read_only_token_is_said(bench: Bench) -> None:
    bench.client.report = ConnectionReport(True, "ok", "connected", facts(read_only=True))
    bench.ready()
    assert "may only look" in bench.ui.reasonLabel.text
    assert not bench.ui.synthesizeButton.enabled


def test_a_model_that_cannot_run_is_said(bench: Bench) -> None:
    bench.ready()
    bench.ui.modelBox.currentIndex = 1
    assert "Liver cannot run on this server: weights are missing" in bench.ui.reasonLabel.text
    assert "weights are missing" in bench.ui.cardLabel.text
    bench.ui.modelBox.currentIndex = 0
    assert bench.ui.synthesizeButton.enabled


def test_html_in_a_card_is_text(application) -> None:
    wild = facts()
    wild.models["lung_lesion"].card["makes"] = "<img src=x>"
    bench = new_bench(application, Store(), FakeClient(ConnectionReport(True, "ok", "connected", wild)))
    bench.connect()
    wild.models["lung_lesion"].card["makes"] = "A lung nodule under the painted mask."
    assert "&lt;img" in bench.ui.cardLabel.text
    bench.panel.close()


def test_any_loaded_ct_can_be_the_reference(bench: Bench) -> None:
    assert bench.ui.volumeSelector.currentNode() is None
    node = new_ct(bench.scene, "from DICOM")
    bench.ui.volumeSelector.setCurrentNode(node)
    assert bench.logic.parameters.reference is node
    assert bench.ui.referenceLabel.text == "32 × 28 × 24 voxels of 1 × 1 × 1 mm, -850 to -850 HU"


def test_the_selector_follows_the_scene(bench: Bench) -> None:
    node = new_ct(bench.scene)
    bench.logic.parameters.reference = node
    bench.wait(lambda: bench.ui.volumeSelector.currentNode() is node)


def test_a_ct_of_the_server(bench: Bench) -> None:
    bench.connect()
    bench.ui.listButton.click()
    bench.wait()
    assert [bench.ui.imageBox.itemText(n) for n in range(2)] == ["case-1", "case-2"]
    bench.ui.imageBox.currentIndex = 1
    bench.ui.fetchButton.click()
    bench.wait()
    (path, name) = bench.host.loaded[0]
    assert (path.name, name) == ("ct.nrrd", "case-2")
    assert not path.exists()
    assert not path.parent.exists()
    assert bench.logic.parameters.reference.GetName() == "case-2"
    assert bench.logic.parameters.image_id == "case-2"
    assert bench.host.shown == [bench.logic.parameters.reference]


@pytest.mark.parametrize(
    ("stored", "suffix"),
    [
        (b"\x1f\x8b\x08", ".nii.gz"),
        (b"\x5c\x01\x00\x00n", ".nii"),
        (b"NDims = 3", ".mha"),
        (b"NRRD0005", ".nrrd"),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_a_stored_ct_gets_the_name_of_its_type(bench: Bench, stored: bytes, suffix: str | None) -> None:
    bench.client.stored = stored
    bench.connect()
    bench.ui.listButton.click()
    bench.wait()
    bench.ui.fetchButton.click()
    bench.wait()
    if suffix is None:
        assert "no NIfTI, NRRD or MetaImage" in bench.message
        assert bench.host.loaded == []
    else:
        assert bench.host.loaded[0][0].name == f"ct{suffix}"


def test_a_ct_that_slicer_cannot_read_is_said(bench: Bench) -> None:
    def load(path: Path, name: str) -> None:
        raise RuntimeError("damaged")

    bench.host.load_volume = load
    bench.connect()
    bench.ui.listButton.click()
    bench.wait()
    bench.ui.fetchButton.click()
    bench.wait()
    assert bench.message == "case-1 arrived, but Slicer cannot read it (damaged): load it from elsewhere"
    assert bench.logic.parameters.reference is None


def test_a_ct_of_one_server_is_sent_to_another(bench: Bench) -> None:
    bench.connect()
    bench.ui.listButton.click()
    bench.wait()
    bench.ui.fetchButton.click()
    bench.wait()
    fetched = bench.logic.parameters.reference
    bench.ui.volumeSelector.setCurrentNode(None)
    bench.ui.addressEdit.text = "elsewhere"
    bench.connect()
    bench.ui.volumeSelector.setCurrentNode(fetched)
    assert bench.logic.parameters.image_id == ""


@pytest.mark.parametrize(
    "error", [ServerError(401, "unauthorized", "give a token"), ServerUnreachable("nobody there")]
)
def test_a_refusal_is_shown(bench: Bench, error: Exception) -> None:
    bench.connect()
    bench.client.raises = error
    bench.ui.listButton.click()
    bench.wait()
    assert bench.message == str(error)
    assert bench.ui.messageFrame.isVisibleTo(bench.top)
    bench.ui.messageCloseButton.click()
    assert not bench.ui.messageFrame.isVisibleTo(bench.top)


def test_each_ct_has_a_segmentation_of_its_own(bench: Bench) -> None:
    """What was painted on one CT would lie anywhere in another."""
    first, second = new_ct(bench.scene, "first"), new_ct(bench.scene, "second")
    bench.ui.volumeSelector.setCurrentNode(first)
    bench.panel.enter()
    painted = bench.logic.parameters.segmentation
    bench.ui.volumeSelector.setCurrentNode(second)
    other = bench.logic.parameters.segmentation
    assert other is not None
    assert other is not painted
    bench.ui.volumeSelector.setCurrentNode(first)
    assert bench.logic.parameters.segmentation is painted
    assert bench.panel.paint.editor.segmentationNode() is painted


def test_a_certificate_is_remembered_and_used(bench: Bench, tmp_path: Path) -> None:
    bench.connect()
    assert bench.client.ca_file is None
    bench.host.path = tmp_path / "authority.pem"
    bench.ui.certificateButton.click()
    assert bench.ui.certificateEdit.text == str(tmp_path / "authority.pem")
    assert bench.panel.session.facts is None
    bench.connect()
    assert bench.client.ca_file == tmp_path / "authority.pem"
    assert bench.panel.session.settings.ca_file == str(tmp_path / "authority.pem")


TAKE = {"name": "lungs", "kind": "mask"}
NEEDED = {**TAKE, "required": True}
CHOICES = {
    "a whole": {"kind": "volume", "takes": []},
    "b that needs": {"kind": "edit", "takes": [NEEDED]},
    "c that may take two": {"kind": "edit", "takes": [TAKE, {**TAKE, "name": "other"}]},
    "d that may take one": {"kind": "edit", "takes": [TAKE]},
    "e of CT and mask": {"kind": "edit", "takes": []},
    "f of CT and mask": {"kind": "edit", "takes": []},
}


def offering(*names: str, broken: str = "") -> FakeClient:
    """A client of a server with some of CHOICES; one of them cannot run."""
    schema = facts().models["lung_lesion"].schema
    models = {
        name: ModelFacts(name, {**CARD, **CHOICES[name]}, schema, "no weights" if name == broken else None)
        for name in names
    }
    return FakeClient(ConnectionReport(True, "ok", "connected", facts(models=models)))


class TestFirstModel:
    """Somebody new starts with the model that asks for least."""

    @pytest.mark.parametrize(
        ("names", "chosen"),
        [
            (tuple(CHOICES), "e of CT and mask"),
            (tuple(reversed(CHOICES)), "f of CT and mask"),
            (tuple(CHOICES)[:4], "d that may take one"),
            (tuple(CHOICES)[:3], "c that may take two"),
            (tuple(CHOICES)[:2], "b that needs"),
            (tuple(CHOICES)[:1], "a whole"),
        ],
    )
    def test_it_is_an_edit_of_ct_and_mask_alone(
        self, application, names: tuple[str, ...], chosen: str
    ) -> None:
        bench = new_bench(application, client=offering(*names))
        bench.connect()
        assert bench.logic.parameters.model == chosen
        assert bench.ui.modelBox.currentIndex == names.index(chosen)
        assert [bench.ui.modelBox.itemData(n) for n in range(len(names))] == list(names)
        bench.panel.close()

    def test_it_is_none_that_cannot_run(self, application) -> None:
        bench = new_bench(application, client=offering(*CHOICES, broken="e of CT and mask"))
        bench.connect()
        assert bench.logic.parameters.model == "f of CT and mask"
        bench.panel.close()

    def test_of_equal_ones_it_is_one_that_makes_quick_looks(self, application) -> None:
        client = offering("e of CT and mask", "f of CT and mask")
        assert client.report.facts is not None
        models = client.report.facts.models
        models["e of CT and mask"] = replace(
            models["e of CT and mask"], schema={"properties": {"steps": {"type": "integer"}}}
        )
        bench = new_bench(application, client=client)
        bench.connect()
        assert bench.logic.parameters.model == "f of CT and mask"
        bench.panel.close()

    def test_what_was_chosen_before_comes_first(self, application) -> None:
        store = Store()
        Settings(store).model = "d that may take one"
        bench = new_bench(application, store, offering(*CHOICES))
        bench.connect()
        assert bench.logic.parameters.model == "d that may take one"
        bench.panel.close()

    def test_servers_that_say_nothing_of_it_keep_their_order(self, application) -> None:
        card = {key: value for key, value in CARD.items() if key not in ("kind", "takes", "inputs")}
        schema = facts().models["lung_lesion"].schema
        models = {name: ModelFacts(name, card, schema) for name in ("second", "first")}
        report = ConnectionReport(True, "ok", "connected", facts(models=models))
        bench = new_bench(application, client=FakeClient(report))
        bench.connect()
        assert bench.logic.parameters.model == "second"
        bench.panel.close()

    def test_of_the_shipped_models_it_is_lung_lesion(self, application) -> None:
        models = {
            model.card.name: ModelFacts(
                model.card.name, card_facts(model.card), request_schema(model.card.system)
            )
            for model in list_models()
        }
        assert next(iter(models)) != "lung_lesion"
        report = ConnectionReport(True, "ok", "connected", facts(models=models))
        bench = new_bench(application, client=FakeClient(report))
        bench.connect()
        assert bench.logic.parameters.model == "lung_lesion"
        bench.panel.close()
