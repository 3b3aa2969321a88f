"""Real MRML without the application: a scene with its logics, and slice views that can be looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

REPOSITORY = Path(__file__).resolve().parents[2]
MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
PROBE = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
print(window.GetClassName(), window.SupportsOpenGL())
"""


@cache
def display_problem() -> str:
    """Why nothing can be drawn here; "" when it can. Tried in another process: a bad driver aborts."""
    command = [sys.executable, "-c", PROBE]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "off-screen rendering hangs"
    if run.returncode == 0 and "1" in run.stdout.split()[-1:]:
        return ""
    return (
        f"off-screen rendering does not work (needs libegl1 and libgl1-mesa-dri): {run.stderr[-200:].strip()}"
    )


def require_display() -> None:
    """Skip without EGL; fail where CI promised it."""
    problem = display_problem()
    if problem and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(problem)
    if problem:
        pytest.skip(f"no display: {problem}")


@dataclass
class World:
    """A scene as the application has it. application: its logic."""

    scene: Any
    application: Any
    layout: Any

    def volume(self, array_kji: np.ndarray, ijk_to_ras: np.ndarray | None = None, name: str = "CT") -> Any:
        """A scalar volume node with its own copy of the array."""
        return add_volume(self.scene, array_kji, ijk_to_ras, name)

    def nodes(self, kind: str) -> list[Any]:
        return [
            self.scene.GetNthNodeByClass(n, kind) for n in range(self.scene.GetNumberOfNodesByClass(kind))
        ]


def boot() -> World:
    """A scene with application logic, colours, segmentations and a layout logic. Sets slicer.mrmlScene."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    crosshair.SetSingletonTag("default")
    scene.AddNode(crosshair)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application)
    _module_logics(scene, application)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return World(scene, application, _layout_logic(scene))


def _module_logics(scene: Any, application: Any) -> None:
    kinds = {
        "Volumes": slicer.vtkSlicerVolumesLogic,
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
        "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
    }
    slicer.modules = types.SimpleNamespace()
    for name, kind in kinds.items():
        logic = kind()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(logic=lambda made=logic: made))


def _layout_logic(scene: Any) -> Any:
    """What makes the view nodes a layout asks for; the application's layout manager has one inside."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(node.SlicerLayoutConventionalView)
    return logic


def add_volume(
    scene: Any, array_kji: np.ndarray, ijk_to_ras: np.ndarray | None = None, name: str = "CT"
) -> Any:
    k, j, i = array_kji.shape[:3]
    image = vtk.vtkImageData()
    image.SetDimensions(i, j, k)
    components = array_kji.shape[3] if array_kji.ndim == 4 else 1
    flat = np.ascontiguousarray(array_kji).reshape(-1, components)
    image.GetPointData().SetScalars(numpy_to_vtk(flat if components > 1 else flat.ravel(), deep=True))
    kind = "vtkMRMLVectorVolumeNode" if components > 1 else "vtkMRMLScalarVolumeNode"
    node = scene.AddNewNodeByClass(kind, name)
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate(np.eye(4) if ijk_to_ras is None else ijk_to_ras):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, float(value))
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    return node


def array_of(volume: Any) -> np.ndarray:
    """(k, j, i) view."""
    i, j, k = volume.GetImageData().GetDimensions()
    return vtk_to_numpy(volume.GetImageData().GetPointData().GetScalars()).reshape(k, j, i)


def paint(world: World, segmentation: Any, segment_id: str, mask_kji: np.ndarray, like: Any) -> None:
    """Paint voxels into a segment as the Segment Editor's logic does, on the grid of the volume `like`."""
    image = slicer.vtkOrientedImageData()
    k, j, i = mask_kji.shape
    image.SetDimensions(i, j, k)
    matrix = vtk.vtkMatrix4x4()
    like.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    image.GetPointData().SetScalars(numpy_to_vtk(mask_kji.astype(np.uint8).ravel(), deep=True))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(image, segmentation, segment_id, logic.MODE_MERGE_MASK)


class SliceView:
    """One slice view without Qt, on the slice node of a layout (made when there is none)."""

    def __init__(self, world: World, name: str, size: tuple[int, int] = (300, 300)) -> None:
        self.size = size
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.window.AddRenderer(self.renderer)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self.mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)  # before the displayable managers: else a mask hides the CT
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(world.application)
        world.application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(world.scene)
        self.node = self._slice_node(world, name)
        self.composite = self.logic.GetSliceCompositeNode()
        self.managers = self._managers()
        self.logic.ResizeSliceNode(*size)

    def _slice_node(self, world: World, name: str) -> Any:
        for node in world.nodes("vtkMRMLSliceNode"):
            if node.GetLayoutName() == name:
                self.logic.SetSliceNode(node)
                return node
        node = self.logic.AddSliceNode(name)
        node.SetOrientation("Axial")
        node.SetMappedInLayout(1)
        return node

    def _managers(self) -> Any:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        for name in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        group = slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(self.renderer)
        group.Initialize(factory, self.renderer)
        group.SetMRMLDisplayableNode(self.node)
        return group

    def scroll(self, mm: float) -> None:
        """As a drag of the slider: an interaction, which is what links views."""
        self.logic.StartSliceOffsetInteraction()
        self.logic.SetSliceOffset(self.logic.GetSliceOffset() + mm)
        self.logic.EndSliceOffsetInteraction()

    def pixel_of(self, ras_mm: Sequence[float]) -> tuple[int, int]:
        """Row and column in `grab` of a point of the world."""
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        x, y, _, _ = inverse.MultiplyPoint((*ras_mm, 1.0))
        return self.size[1] - 1 - round(y), round(x)

    def grab(self) -> np.ndarray:
        """(rows, columns, 3) uint8, upper row first."""
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        source = vtk.vtkWindowToImageFilter()
        source.SetInput(self.window)
        source.ReadFrontBufferOff()
        source.Update()
        width, height, _ = source.GetOutput().GetDimensions()
        pixels = vtk_to_numpy(source.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)
        return pixels[::-1, :, :3].copy()


def grid_picture(views: Sequence[SliceView], columns: int = 2, gap: int = 4) -> np.ndarray:
    """The views side by side, row by row."""
    pictures = [view.grab() for view in views]
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    padded = [np.hstack([np.pad(p, ((0, gap), (0, gap), (0, 0))) for p in row]) for row in rows]
    return np.vstack(padded)
