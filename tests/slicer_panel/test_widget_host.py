"""The part that talks to the Slicer application, against an application that notes what it is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from LesionBrushLib.panel.host import SlicerHost
from panel_kit import Bench
from qt_kit.widgets import qt


class SliceWidget:
    def __init__(self, name: str) -> None:
        self.name, self.visible = name, True
        self.renderer = object()

    def mrmlSliceNode(self) -> str:  # noqa: N802
        return f"node of {self.name}"

    def sliceView(self) -> Any:  # noqa: N802
        renderers = SimpleNamespace(GetFirstRenderer=lambda: self.renderer)
        return SimpleNamespace(renderWindow=lambda: SimpleNamespace(GetRenderers=lambda: renderers))

    def sliceController(self) -> Any:  # noqa: N802
        return SimpleNamespace(setVisible=lambda visible: setattr(self, "visible", visible))


@pytest.fixture
def widgets(application, monkeypatch: pytest.MonkeyPatch) -> dict[str, SliceWidget]:
    widgets = {name: SliceWidget(name) for name in ("Red", "Green")}
    manager = SimpleNamespace(sliceViewNames=lambda: tuple(widgets), sliceWidget=widgets.get)
    monkeypatch.setattr(application.app, "layoutManager", lambda: manager)
    return widgets


def test_views(widgets) -> None:
    views = list(SlicerHost().views())
    assert [view.name for view in views] == ["Red", "Green"]
    assert views[0].renderer is widgets["Red"].renderer
    assert views[0].slice_node == "node of Red"


def test_bars_above_views(widgets) -> None:
    SlicerHost().show_controllers(["Red", "a view that is not there"], False)
    assert [widget.visible for widget in widgets.values()] == [False, True]


def test_without_a_main_window(application) -> None:
    assert list(SlicerHost().views()) == []
    SlicerHost().show_controllers(["Red"], False)


def test_dialogs(application, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def confirm(text: str, **given: Any) -> bool:
        asked.append((text, given))
        return True

    monkeypatch.setattr(application.util, "confirmYesNoDisplay", confirm)
    assert SlicerHost().confirm("May it?", "Send this CT?") is True
    assert asked == [("May it?", {"windowTitle": "Send this CT?"})]


@pytest.mark.parametrize(
    ("chosen", "path"),
    [
        ("", None),
        (("", ""), None),
        ("a/b.nii.gz", Path("a/b.nii.gz")),
        (("a/b.nrrd", "NRRD"), Path("a/b.nrrd")),
    ],
)
def test_a_path_to_save_to(
    application, monkeypatch: pytest.MonkeyPatch, chosen: Any, path: Path | None
) -> None:
    """PythonQt gives the name alone, PySide a pair."""
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *given: chosen, raising=False)
    assert SlicerHost().ask_save_path("Save", "ct.nii.gz") == path


def test_a_volume_is_loaded_without_being_shown(application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown, it would go into all views, those of the comparison too."""
    asked: list[Any] = []
    monkeypatch.setattr(
        application.util, "loadVolume", lambda path, properties: asked.append((path, properties))
    )
    SlicerHost().load_volume(Path("ct.nii"), "case-1")
    assert asked == [("ct.nii", {"name": "case-1", "show": False, "singleFile": True})]


def test_every_method_of_the_real_host_is_in_the_stand_in(bench: Bench) -> None:
    public = {name for name in dir(SlicerHost) if not name.startswith("_")}
    assert public <= set(dir(bench.host))
