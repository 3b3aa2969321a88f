"""Hidden nodes that show a volume in several HU windows without a copy of its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .layout import COLUMNS, REFERENCE, WINDOWS, Window
from .voxels import Grid, image_data, to_vtk

HELPER = "LesionBrush.Helper"


def is_helper(node: Any) -> bool:
    return node is not None and node.GetAttribute(HELPER) == "1"


def hide(node: Any) -> Any:
    """Keep a node out of every selector, out of saved files and out of the undo of the scene."""
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(HELPER, "1")
    return node


class WindowRows:
    """Six volume nodes: (window, column). One display node per window: a drag changes the whole row.

    windows: what the rows show, from above; the rows go by the names of WINDOWS.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._nodes: dict[tuple[str, str], str] = {}
        self._displays: dict[str, str] = {}
        self.windows: tuple[Window, ...] = WINDOWS

    def make(self) -> None:
        for window in WINDOWS:
            display = self._display(window)
            for column in COLUMNS:
                node = self.scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
                node.UnRegister(None)
                node.SetName(f"{column} [{self.shown(window).title}]")
                self.scene.AddNode(hide(node))
                node.SetAndObserveDisplayNodeID(display.GetID())
                self._nodes[window.name, column] = node.GetID()

    def node(self, window: Window, column: str) -> Any:
        return self.scene.GetNodeByID(self._nodes.get((window.name, column), ""))

    def display(self, window: Window) -> Any:
        return self.scene.GetNodeByID(self._displays.get(window.name, ""))

    def show(self, column: str, volume: Any) -> None:
        """Make a column show a volume: the very same voxels, grid and transform."""
        for window in WINDOWS:
            node = self.node(window, column)
            if node is None:
                continue
            node.CopyOrientation(volume)
            if node.GetTransformNodeID() != volume.GetTransformNodeID():
                node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            if node.GetImageData() is not volume.GetImageData():
                node.SetAndObserveImageData(volume.GetImageData())
            name = f"{volume.GetName()} [{self.shown(window).title}]"
            if node.GetName() != name:
                node.SetName(name)

    def shown(self, row: Window) -> Window:
        """What a row of WINDOWS shows."""
        return self.windows[WINDOWS.index(row)]

    def use(self, windows: tuple[Window, ...]) -> None:
        """Show these; a row that is dragged keeps its window as long as they stay the same."""
        if windows != self.windows:
            self.windows = windows
            self.reset_windows()

    def ids(self) -> set[str]:
        return set(self._nodes.values())

    def complete(self) -> bool:
        """False once anybody has deleted one of the nodes."""
        ids = [*self._nodes.values(), *self._displays.values()]
        return bool(ids) and all(self.scene.GetNodeByID(node_id) is not None for node_id in ids)

    def reset_windows(self) -> None:
        for window in WINDOWS:
            display = self.display(window)
            if display is not None:
                shown = self.shown(window)
                display.SetWindowLevel(shown.width_hu, shown.level_hu)

    def remove(self) -> None:
        for node_id in [*self._nodes.values(), *self._displays.values()]:
            node = self.scene.GetNodeByID(node_id)
            if node is not None:
                self.scene.RemoveNode(node)
        self._nodes, self._displays = {}, {}

    def _display(self, window: Window) -> Any:
        node = self.scene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        node.UnRegister(None)
        node.SetName(f"LesionBrush {window.title}")
        self.scene.AddNode(hide(node))
        node.SetDefaultColorMap()
        node.AutoWindowLevelOff()
        node.SetWindowLevel(self.shown(window).width_hu, self.shown(window).level_hu)
        self._displays[window.name] = node.GetID()
        return node


class DifferenceOverlay:
    """What a result changed: blue where darker, red where brighter. Only the box, so hardly any memory.

    A label map: the window tool never drags one, so a drag goes to the CT below it.
    """

    WIDTH_HU = 600.0
    FAINT_HU = 15.0

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._ids: list[str] = []

    @property
    def node(self) -> Any | None:
        return self.scene.GetNodeByID(self._ids[0]) if self._ids else None

    def show(self, change_kji: Any, grid: Grid, like: Any) -> Any:
        """(k, j, i) int16 HU on this grid, under the transform of the volume `like`; the hidden node."""
        node = self.node
        if node is None:
            self.remove()
            node = self._make()
        node.SetIJKToRASMatrix(to_vtk(grid.ijk_to_ras))
        node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
        node.SetAndObserveImageData(image_data(self._labels(change_kji)))
        return node

    def remove(self) -> None:
        for node_id in self._ids:
            node = self.scene.GetNodeByID(node_id)
            if node is not None:
                self.scene.RemoveNode(node)
        self._ids = []

    def _make(self) -> Any:
        kinds = ("vtkMRMLLabelMapVolumeNode", "vtkMRMLLabelMapVolumeDisplayNode", "vtkMRMLColorTableNode")
        made = []
        for kind in kinds:
            node = self.scene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetName("LesionBrush difference")
            made.append(hide(node))
        volume, display, colours = made
        self._fill(colours)
        for node in (colours, display, volume):
            self.scene.AddNode(node)
        display.SetAndObserveColorNodeID(colours.GetID())
        volume.SetAndObserveDisplayNodeID(display.GetID())
        self._ids = [volume.GetID(), display.GetID(), colours.GetID()]
        return volume

    def _labels(self, change_kji: np.ndarray) -> np.ndarray:
        """HU to labels: 0 is faint, 1 to 255 are the colours."""
        colours = 1 + np.rint(254 * np.clip(change_kji / self.WIDTH_HU + 0.5, 0.0, 1.0))
        return np.where(np.abs(change_kji) <= self.FAINT_HU, 0, colours).astype(np.uint8)

    def _fill(self, colours: Any) -> None:
        """256 colours: clear, then blue over clear (up to FAINT_HU) to red."""
        colours.SetTypeToUser()
        colours.SetNumberOfColors(256)
        colours.SetColor(0, "unchanged", 0.0, 0.0, 0.0, 0.0)
        for label in range(1, 256):
            hu = ((label - 1) / 254 - 0.5) * self.WIDTH_HU
            strength = min(1.0, max(0.0, (abs(hu) - self.FAINT_HU) / 150.0))
            red, green, blue = (1.0, 0.25, 0.1) if hu > 0 else (0.1, 0.45, 1.0)
            colours.SetColor(label, f"{hu:+.0f} HU", red, green, blue, 0.85 * strength)


__all__ = ["REFERENCE", "DifferenceOverlay", "WindowRows", "hide", "is_helper"]
