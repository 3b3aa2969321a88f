"""The script for Slicer's Python console: it passes on a module that works, and says so when it does not."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from LesionBrushLib.client.answers import ConnectionReport
from LesionBrushLib.client.boxes import voxel_sha256
from LesionBrushLib.panel import sample_data
from panel_kit import FakeClient
from qt_kit import pythonqt
from qt_kit.widgets import qt


def load_volume(slicer: Any, path: str, name: str) -> Any:
    """slicer.util.loadVolume, by way of the reader it uses."""
    logic = slicer.modules.volumes.logic()
    return logic.AddArchetypeVolume(path, name, 0)


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def check(application, monkeypatch: pytest.MonkeyPatch, client: FakeClient):
    """`check_in_slicer`, in an application with the module in it."""
    for name in ("LesionBrush", "check_in_slicer"):
        sys.modules.pop(name, None)
    entry = importlib.import_module("LesionBrush")
    monkeypatch.setattr(entry, "JobClient", client)
    widget = entry.LesionBrushWidget(qt.QWidget())
    widget.setup()

    def select(name: str) -> None:
        (widget.enter if name == "LesionBrush" else widget.exit)()

    def load(path: str, properties: dict[str, Any]) -> Any:
        node = load_volume(application, path, properties["name"])
        client.reference_voxels = voxel_sha256(application.util.arrayFromVolume(node).T)
        return node

    manager = SimpleNamespace(
        sliceViewNames=lambda: (),
        sliceWidget=lambda name: SimpleNamespace(
            sliceController=lambda: SimpleNamespace(setVisible=lambda on: None)
        ),
    )
    monkeypatch.setattr(application.util, "selectModule", select, raising=False)
    monkeypatch.setattr(application.util, "loadVolume", load)
    monkeypatch.setattr(application.app, "layoutManager", lambda: manager)
    monkeypatch.setattr(
        application.app, "processEvents", lambda *_: pythonqt.application().processEvents(), raising=False
    )
    monkeypatch.setattr(application.app, "applicationVersion", "0.0", raising=False)
    found = SimpleNamespace(widgetRepresentation=lambda: SimpleNamespace(self=lambda: widget))
    monkeypatch.setattr(application.modules, "lesionbrush", found, raising=False)
    yield importlib.import_module("check_in_slicer")
    widget.cleanup()


def test_the_whole_round_trip(check) -> None:
    lines = check.run()
    assert all(line.startswith("ok") for line in lines)
    assert len(lines) > 12


def test_a_server_that_is_not_there_is_said(
    check, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.report = ConnectionReport(False, "refused", "nobody listens there: start the server", None)
    with pytest.raises(RuntimeError, match="nobody listens there"):
        check.run()
    assert "FAIL it has a model" in capsys.readouterr().out


def test_a_wrong_answer_is_found(check, client: FakeClient) -> None:
    client.changed = True
    with pytest.raises(RuntimeError, match="it is in the scene"):
        check.run()


def test_a_missing_phantom_is_found(check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "load", lambda: None)
    with pytest.raises(RuntimeError, match="the phantom loads"):
        check.run()
