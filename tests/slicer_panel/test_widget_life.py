"""The module as Slicer sees it: set up, entered, left, reloaded, closed; scenes that come and go."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import pytest
from panel_kit import MODULE, Bench
from qt_kit.widgets import qt

SEGMENT_EDITORS_KEYS = {*"0123456789qwzyi", "space", "esc", "left", "right", "up", "down", "+", "-"}
SLICE_VIEWS_KEYS = set("rvgbft[]{}`~")


@pytest.fixture
def entry(application):
    """`LesionBrush.py`, freshly imported."""
    sys.modules.pop("LesionBrush", None)
    yield importlib.import_module("LesionBrush")
    sys.modules.pop("LesionBrush", None)


@pytest.fixture
def widget(entry):
    widget = entry.LesionBrushWidget(qt.QWidget())
    widget.setup()
    yield widget
    widget.cleanup()


def test_the_module_says_what_it_is(entry, application) -> None:
    from types import SimpleNamespace

    parent = SimpleNamespace()
    entry.LesionBrush(parent)
    assert parent.title == "LesionBrush"
    assert parent.categories == ["Simulation"]
    assert "not for diagnosis" in parent.helpText
    assert len(application.app.started) == 1


def test_the_real_client_is_made_for_the_server(entry, tmp_path: Any) -> None:
    client = entry.new_client("http://127.0.0.1:9", "secret", None)
    report = client.test_connection()
    assert not report.ok
    assert report.text


def test_the_widget_comes_and_goes(widget, application) -> None:
    assert widget.panel.ui.addressEdit.text
    widget.enter()
    assert len(widget.panel._shortcuts) == len(widget.panel.keys())
    assert application.util.mainWindow() is widget.panel._shortcuts[0].parent()
    widget.exit()
    assert widget.panel._shortcuts == []
    widget.cleanup()
    widget.cleanup()  # Slicer may do it twice
    assert widget.panel is None


def test_a_shortcut_calls_its_action_and_is_gone_afterwards(application) -> None:
    from LesionBrushLib.panel.host import SlicerHost

    host, pressed = SlicerHost(), []
    shortcut = host.shortcut("X", lambda: pressed.append("x"))
    shortcut.activated.emit()
    assert pressed == ["x"]
    assert shortcut.key.toString() == "X"
    host.remove_shortcut(shortcut)
    assert shortcut.parent() is None


def test_our_keys_are_nobody_elses(bench: Bench) -> None:
    ours = {key.lower() for key in dict(bench.panel.keys())}
    assert not ours & (SEGMENT_EDITORS_KEYS | SLICE_VIEWS_KEYS)


def test_keys_are_there_only_while_the_module_is_open(bench: Bench) -> None:
    assert bench.host.keys == {}
    bench.panel.enter()
    bench.panel.enter()
    assert set(bench.host.keys) == set(dict(bench.panel.keys()))
    bench.panel.exit()
    assert bench.host.keys == {}


def test_the_keys_do_what_they_say(bench: Bench) -> None:
    bench.ready()
    bench.host.keys["Ctrl+Return"]()
    bench.wait()
    assert bench.logic.comparison.active
    bench.host.keys["X"]()
    assert bench.logic.comparison.flickering
    bench.host.keys["C"]()
    assert not bench.logic.comparison.active


def test_a_synthesis_goes_on_while_another_module_is_open(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.ready()
    bench.ui.synthesizeButton.click()
    bench.panel.exit()
    bench.client.hold.set()
    bench.wait()
    assert bench.logic.variants is not None


def test_after_a_scene_was_closed_everything_works_again(bench: Bench) -> None:
    bench.ready()
    bench.synthesize()
    bench.scene.Clear()
    assert not bench.logic.comparison.active
    assert bench.ui.variantList.count == 0
    assert bench.panel.paint.editor.names().count("setSegmentationNode") > 1
    bench.ready()
    bench.synthesize()
    assert bench.message == ""
    assert bench.logic.variants is not None


def test_a_saved_scene_brings_the_session_back(bench: Bench, tmp_path: Any) -> None:
    bench.ready()
    bench.panel.synthesize.view.controls[("seed",)].number.value = 4711
    bench.panel.synthesize.view.controls[("attributes", "texture")].widget.currentIndex = 2
    path = tmp_path / "scene.mrml"
    bench.scene.SetURL(str(path))
    bench.scene.SetRootDirectory(str(tmp_path))
    assert bench.scene.Commit(str(path))
    assert "127.0.0.1" not in path.read_text()
    bench.scene.Clear()
    bench.settle()
    assert bench.panel.synthesize.view.controls[("seed",)].get() == 0
    bench.scene.SetURL(str(path))
    bench.scene.Import()
    bench.settle()
    assert bench.panel.synthesize.view.controls[("seed",)].get() == 4711
    assert bench.panel.synthesize.view.controls[("attributes", "texture")].get() == "part_solid"


def test_closing_leaves_no_observer_timer_or_key(bench: Bench) -> None:
    bench.ready()
    painted = bench.logic.parameters.segmentation.GetSegmentation()
    parameters = bench.logic.parameters.node
    watched = [entry for entry, _ in bench.panel._watcher._observed]
    assert any(entry is painted for entry in watched)
    bench.panel.close()
    assert bench.panel._watcher._observed == []
    assert bench.host.keys == {}
    assert not bench.panel._soon.isActive()
    before = bench.ui.reasonLabel.text
    parameters.Modified()
    bench.ui.reasonLabel.text = "untouched"
    bench.settle()
    assert bench.ui.reasonLabel.text == "untouched" != before


def test_a_closed_panel_hears_nothing_of_its_job(bench: Bench) -> None:
    bench.client.hold = threading.Event()
    bench.ready()
    bench.ui.synthesizeButton.click()
    job = bench.panel.session.job
    bench.panel.close()
    bench.client.hold.set()
    bench.settle(0.2)
    assert not job.running
    assert bench.logic.variants is None


def test_reload_reads_the_library_again(widget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    before = {name for name in sys.modules if name.startswith("LesionBrushLib")}
    assert len(before) > 20
    widget.onReload()
    assert widget.reloaded == 1
    assert not any(name.startswith("LesionBrushLib") for name in sys.modules)


def test_the_self_test_passes(entry) -> None:
    entry.LesionBrushTest().runTest()


def test_the_self_test_can_fail(entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logic that takes any answer is found out."""
    monkeypatch.setattr(entry.LesionBrushLogic, "receive", lambda self, boxes, records: None)
    test = entry.LesionBrushTest()
    with pytest.raises(AssertionError, match="an answer for another CT was taken"):
        test.test_a_wrong_result_is_refused()


def test_the_ui_file_has_everything_the_panel_names() -> None:
    """A name that is missing in the .ui would be an AttributeError in Slicer only when it is used."""
    import re

    named = set()
    for path in (MODULE / "LesionBrushLib").rglob("*.py"):
        named |= set(re.findall(r"\bui\.([a-zA-Z]\w+)", path.read_text(encoding="utf-8")))
    there = set(
        re.findall(r'name="(\w+)"', (MODULE / "Resources/UI/LesionBrush.ui").read_text(encoding="utf-8"))
    )
    assert named - there == set()
    assert {f"brush{mm}Button" for mm in (5, 10, 20, 30)} <= there
