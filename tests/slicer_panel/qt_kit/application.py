"""The Slicer application around the real MRML of slicer-core: a scene, its logics, some of slicer.app."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import vtk

from qt_kit.editor import SegmentEditor
from qt_kit.widgets import CUSTOM, load_ui, qt

ALIVE: list[Any] = []
"""Every scene of the process: collecting one whose logics are still there takes the process down."""


def install_qt() -> None:
    """`import qt` and `import ctk` find the stand-ins; nothing of those names is to be had elsewhere."""
    ctk = ModuleType("ctk")
    for name, cls in CUSTOM.items():
        if name.startswith("ctk"):
            setattr(ctk, name, cls)
    sys.modules.setdefault("qt", qt)
    sys.modules.setdefault("ctk", ctk)


def new_scene() -> tuple[Any, Any]:
    """A scene with the logics a module needs, and the application's logic."""
    import slicer

    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    scene.AddNewNodeByClass("vtkMRMLSelectionNode")
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    return scene, SimpleNamespace(logic=application, layout=layout)


def module_logics(scene: Any, application: Any) -> SimpleNamespace:
    """`slicer.modules`, as far as slicer.util asks for it."""
    import slicer

    modules = SimpleNamespace()
    application.SetModuleLogic("Colors", application.GetColorLogic())
    for cls, name in (
        (slicer.vtkSlicerVolumesLogic, "Volumes"),
        (slicer.vtkSlicerSegmentationsModuleLogic, "Segmentations"),
        (slicer.vtkSlicerSubjectHierarchyModuleLogic, "SubjectHierarchy"),
    ):
        logic = cls()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        setattr(modules, name.lower(), SimpleNamespace(logic=lambda logic=logic: logic))
    return modules


class App:
    """slicer.app: settings, the start-up signal, and a main window without views."""

    def __init__(self, application_logic: Any) -> None:
        self._logic = application_logic
        self.started: list[Any] = []

    def applicationLogic(self) -> Any:
        return self._logic

    def layoutManager(self) -> None:
        return None

    def connect(self, signal: str, slot: Any) -> None:
        assert signal == "startupCompleted()"
        self.started.append(slot)


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """As in Slicer: the widget makes the parent's layout its own."""

    resources: Path

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent if parent is not None else qt.QWidget()
        self.reloaded = 0

    def setup(self) -> None:
        self.layout = self.parent.layout() or qt.QVBoxLayout(self.parent)

    def resourcePath(self, name: str) -> str:
        return str(self.resources / name)

    def onReload(self) -> None:
        self.reloaded += 1


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, msec: int = 0) -> None:
        pass


def child_widget_variables(top: Any) -> SimpleNamespace:
    """All named children as attributes, as slicer.util.childWidgetVariables gives them."""
    return SimpleNamespace(**{child.objectName: child for child in top._made if child.objectName})


@contextmanager
def slicer_application(patch: pytest.MonkeyPatch, module_folder: Path) -> Iterator[Any]:
    """Everything `LesionBrush.py` imports and asks for. Yields the module `slicer`."""
    import slicer
    import slicer.util

    install_qt()
    scene, booted = new_scene()
    base = ModuleType("slicer.ScriptedLoadableModule")
    for cls in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleTest):
        setattr(base, cls.__name__, cls)
    patch.setitem(sys.modules, "slicer.ScriptedLoadableModule", base)
    patch.setattr(ScriptedLoadableModuleWidget, "resources", module_folder / "Resources", raising=False)
    window = qt.QMainWindow()
    for name, value in {
        "mrmlScene": scene,
        "app": App(booted.logic),
        "modules": module_logics(scene, booted.logic),
        "qMRMLSegmentEditorWidget": SegmentEditor,
        "qMRMLNodeComboBox": CUSTOM["qMRMLNodeComboBox"],
    }.items():
        patch.setattr(slicer, name, value, raising=False)
    for name, value in {
        "loadUI": load_ui,
        "childWidgetVariables": child_widget_variables,
        "mainWindow": lambda: window,
    }.items():
        patch.setattr(slicer.util, name, value, raising=False)
    ALIVE.append((scene, booted, slicer.modules, window))
    yield slicer
    scene.Clear()
