"""Quality and quick looks: what is sent, what is grey, what names say, what is asked before one is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.client.answers import ConnectionReport
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.logic.choices import chosen_segment
from LesionBrushLib.logic.compose import haste, haste_sentence, synthetic_name
from panel_kit import Bench, FakeClient, facts, new_bench, paint

QUICK = {"model": "lung_lesion", "seed": 7, "request": {"quality": "fast"}}
FULL = {"model": "lung_lesion", "seed": 7, "request": {"quality": None}}


def control(bench: Bench, *path: str) -> Any:
    return bench.panel.synthesize.view.controls[path]


def choose(bench: Bench, quality: str | None) -> None:
    """As the user does."""
    box = control(bench, "quality")
    box.widget.currentIndex = box.values.index(quality)


def quick_look(bench: Bench) -> None:
    bench.ui.quickButton.click()
    bench.wait()


def accept(bench: Bench) -> None:
    bench.ui.acceptButton.click()
    bench.wait()


def accepted(bench: Bench) -> list[Any]:
    return [call for call in bench.client.calls if call[0] == "accept"]


def without_quality(application: Any) -> Bench:
    """A panel with a server whose model has steps alone."""
    model = facts().models["lung_lesion"]
    properties = {name: part for name, part in model.schema["properties"].items() if name != "quality"}
    plain = replace(model, schema={**model.schema, "properties": properties})
    report = ConnectionReport(True, "ok", "connected", facts(models={"lung_lesion": plain}))
    return new_bench(application, client=FakeClient(report=report))


class TestQuality:
    """It decides the steps as soon as it is chosen."""

    def test_it_stands_before_the_steps_and_open_it_says_they_decide(self, bench: Bench) -> None:
        bench.connect()
        names = [path[0] for path in bench.panel.synthesize.view.controls if len(path) == 1]
        assert names[:4] == ["seed", "variants", "quality", "steps"]
        box = control(bench, "quality").widget
        words = [box.itemText(n) for n in range(box.count)]
        assert words == ["as steps says", "fast", "standard", "fine"]
        assert box.currentText == "as steps says"
        assert control(bench, "sampler").widget.itemText(0) == "left to the model"

    def test_a_quality_greys_the_steps_and_sends_none(self, bench: Bench) -> None:
        bench.ready()
        control(bench, "steps").number.value = 20
        choose(bench, "fine")
        steps = control(bench, "steps").widget
        assert not steps.enabled
        assert steps.toolTip == "Not sent: Quality decides. Choose “as steps says” there to set it here."
        bench.synthesize()
        sent = bench.client.orders[0].params
        assert sent["quality"] == "fine"
        assert "steps" not in sent
        assert "s for 1 × quality fine." in bench.ui.cardLabel.text

    def test_an_open_quality_gives_the_steps_back_as_they_were(self, bench: Bench) -> None:
        bench.ready()
        control(bench, "steps").number.value = 20
        choose(bench, "fine")
        choose(bench, None)
        assert control(bench, "steps").widget.enabled
        assert "Not sent" not in control(bench, "steps").widget.toolTip
        bench.synthesize()
        sent = bench.client.orders[0].params
        assert (sent["quality"], sent["steps"]) == (None, 20)

    def test_a_scene_that_holds_both_sends_the_quality(self, bench: Bench) -> None:
        bench.ready()
        bench.logic.parameters.steps = 20
        bench.logic.parameters.extra = {"quality": "fine"}
        bench.wait(lambda: control(bench, "quality").get() == "fine")
        assert not control(bench, "steps").widget.enabled
        bench.synthesize()
        assert "steps" not in bench.client.orders[0].params

    def test_steps_alone_are_never_grey(self, application: Any) -> None:
        older = without_quality(application)
        older.ready()
        assert control(older, "steps").widget.enabled
        older.synthesize()
        assert older.client.orders[0].params["steps"] == 8
        assert "quality" not in older.client.orders[0].params
        older.panel.close()


class TestButton:
    """One variant in a few steps, where the model knows of it."""

    @pytest.mark.parametrize("quality", [None, "fine"])
    def test_it_asks_for_one_fast_variant_and_changes_no_choice(
        self, bench: Bench, quality: str | None
    ) -> None:
        bench.ready()
        control(bench, "variants").number.value = 3
        control(bench, "steps").number.value = 20
        choose(bench, quality)
        quick_look(bench)
        (order,) = bench.client.orders
        assert (order.params["quality"], order.params["variants"]) == ("fast", 1)
        assert "steps" not in order.params
        bench.synthesize()
        full = bench.client.orders[1].params
        assert (full["quality"], full["variants"]) == (quality, 3)
        assert full.get("steps") == (20 if quality is None else None)

    def test_it_waits_for_what_synthesize_waits_for(self, bench: Bench) -> None:
        bench.connect()
        assert not bench.ui.quickButton.enabled
        assert "choose a CT" in bench.ui.quickButton.toolTip
        assert "quality" not in bench.ui.quickButton.toolTip

    def test_it_is_grey_where_the_model_has_no_quality(self, application: Any) -> None:
        older = without_quality(application)
        older.ready()
        button = older.ui.quickButton
        assert older.ui.synthesizeButton.enabled
        assert button.isVisibleTo(older.top)
        assert not button.enabled
        assert button.toolTip == "Lung lesion has no quality “fast”: it makes no quick looks"
        button.click()
        assert older.client.orders == []
        older.panel.close()

    def test_it_is_not_grey_where_the_model_has_one(self, bench: Bench) -> None:
        bench.ready()
        assert bench.ui.quickButton.enabled
        assert bench.ui.quickButton.toolTip == "One variant in a few steps; Synthesize makes the real one"


class TestNames:
    """A quick look says so wherever it is listed, and so does what was painted into one."""

    def test_of_a_quick_look(self, bench: Bench) -> None:
        bench.ready()
        quick_look(bench)
        assert bench.logic.variants.node.GetName() == "SYNTHETIC lung_lesion seed 0 quick look (fast)"
        assert bench.ui.variantList.item(0).text() == "seed 0, quick look (fast)"
        assert bench.ui.variantLabel.text == "Shown: seed 0, quick look (fast)."
        assert "This is a quick look (fast): made in few steps" in bench.ui.progressLabel.text
        assert "Last time" not in bench.ui.cardLabel.text

    def test_of_fast_variants_by_the_form(self, bench: Bench) -> None:
        bench.ready()
        control(bench, "variants").number.value = 2
        choose(bench, "fast")
        bench.synthesize()
        assert bench.logic.variants[1].title == "variant 2 of 2, seed 1, quick look (fast)"
        assert "2 variants arrived" in bench.ui.progressLabel.text

    @pytest.mark.parametrize("quality", [None, "standard", "fine"])
    def test_of_no_other_result(self, bench: Bench, quality: str | None) -> None:
        bench.ready()
        choose(bench, quality)
        bench.synthesize()
        assert bench.logic.variants.node.GetName() == "SYNTHETIC lung_lesion seed 0"
        assert bench.ui.variantList.item(0).text() == "seed 0"
        assert "quick look" not in bench.ui.progressLabel.text

    def test_of_a_file(self, bench: Bench, tmp_path: Path) -> None:
        bench.ready()
        quick_look(bench)
        bench.host.path = tmp_path
        bench.ui.saveButton.click()
        assert (tmp_path / "SYNTHETIC-lung_lesion-seed0-quick-look-fast.nii.gz").is_file()

    @pytest.mark.parametrize(
        ("record", "words"),
        [
            (QUICK, "quick look (fast)"),
            ({**FULL, "made_from": QUICK}, "in a quick look (fast)"),
            ({**FULL, "made_from": {**FULL, "made_from": QUICK}}, "in a quick look (fast)"),
            ({**QUICK, "made_from": QUICK}, "quick look (fast)"),
            (FULL, ""),
            ({**FULL, "made_from": FULL}, ""),
            ({**FULL, "made_from": None}, ""),
            ({"model": "lung_lesion", "seed": 7, "made_from": "damaged"}, ""),
            ({"model": "lung_lesion", "seed": 7, "request": None}, ""),
        ],
    )
    def test_as_the_record_has_it(self, record: dict[str, Any], words: str) -> None:
        assert haste(record) == words
        assert synthetic_name(record) == f"SYNTHETIC lung_lesion seed 7 {words}".strip()
        assert bool(haste_sentence(record)) == bool(words)


class TestKeeping:
    """Nobody collects cases of few steps by accident."""

    def test_a_quick_look_is_stored_only_when_that_is_meant(self, bench: Bench) -> None:
        bench.ready()
        quick_look(bench)
        bench.host.says_yes = False
        accept(bench)
        assert bench.host.asked[-1].startswith("This is a quick look (fast): made in few steps")
        assert accepted(bench) == []
        assert bench.logic.variants[0].state == "new"
        assert bench.ui.keepLabel.text == "Not accepted: seed 0, quick look (fast)."
        bench.host.says_yes = True
        accept(bench)
        assert accepted(bench) == [("accept", "job-1", 1)]
        assert bench.logic.variants[0].state == "accepted"

    def test_so_is_what_was_painted_into_one(self, bench: Bench) -> None:
        bench.ready()
        quick_look(bench)
        paint_into_the_result(bench)
        bench.synthesize()
        assert bench.message == ""
        name = "SYNTHETIC lung_lesion seed 0 in a quick look (fast)"
        assert bench.logic.variants.node.GetName() == name
        assert bench.ui.variantList.item(0).text() == "seed 0, in a quick look (fast)"
        assert "This was painted into a quick look (fast)" in bench.ui.progressLabel.text
        bench.host.says_yes = False
        accept(bench)
        assert bench.host.asked[-1].startswith("This was painted into a quick look (fast)")
        assert accepted(bench) == []

    def test_all_else_is_stored_without_a_question(self, bench: Bench) -> None:
        bench.ready()
        bench.synthesize()
        paint_into_the_result(bench)
        bench.synthesize()
        assert bench.message == ""
        assert bench.logic.variants.current.provenance["made_from"]["seed"] == 0
        assert bench.logic.variants.node.GetName() == "SYNTHETIC lung_lesion seed 0"
        questions = list(bench.host.asked)
        accept(bench)
        assert bench.host.asked == questions
        assert accepted(bench) == [("accept", "job-1", 1)]


def paint_into_the_result(bench: Bench) -> None:
    node = bench.logic.parameters.synthetic
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.logic.parameters.segment_id = chosen_segment(bench.logic.parameters)
    paint(bench.panel)
    bench.client.reference_voxels = voxel_sha256(np.asarray(slicer.util.arrayFromVolume(node)).T)
