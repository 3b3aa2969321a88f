"""The layout of the comparison: three rows (HU windows), two columns (reference, synthetic)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .problems import NoLayout

LAYOUT_ID = 20761
"""Above 100, where Slicer's own layouts end; a number nobody else is likely to have."""
VIEW_GROUP = 20761
"""A group of its own: views of other groups neither lead nor follow."""


@dataclass(frozen=True)
class Window:
    """A row. name: in view names; title: for people; width_hu: from black to white; level_hu: mid-grey."""

    name: str
    title: str
    width_hu: float
    level_hu: float


WINDOWS = (
    Window("Lung", "lung", 1500.0, -600.0),
    Window("Soft", "soft tissue", 400.0, 40.0),
    Window("Bone", "bone", 1800.0, 400.0),
)
SOFT_WINDOWS = (WINDOWS[1], Window("Liver", "liver", 200.0, 100.0), WINDOWS[2])
WINDOWS_OF = {"lung": WINDOWS, "soft tissue": SOFT_WINDOWS}
"""By the tissue around a lesion. Views and rows are called by those of the lung, whatever they show."""
PLAIN_AIR_HU, AERATED_HU, LUNG_SHARE = -970.0, -300.0, 0.3
"""As the server's pictures choose: so much of what is no plain air is lung, at the pleura too."""


def windows_for(hu: np.ndarray) -> tuple[Window, ...]:
    """The three windows of tissue of these HU, an array of any shape."""
    tissue = hu[hu >= PLAIN_AIR_HU]
    lung = np.count_nonzero(tissue < AERATED_HU) >= LUNG_SHARE * tissue.size
    return WINDOWS_OF["lung" if lung else "soft tissue"]


REFERENCE, SYNTHETIC = "Reference", "Synthetic"
COLUMNS = (REFERENCE, SYNTHETIC)
COLOURS = {REFERENCE: "#6fa8dc", SYNTHETIC: "#f6a13a"}


def view_name(window: Window, column: str) -> str:
    return f"LesionBrush{window.name}{column}"


VIEW_NAMES = tuple(view_name(window, column) for window in WINDOWS for column in COLUMNS)
"""Row by row: reference, synthetic."""


def description() -> str:
    """Slicer's XML of the layout. Slicer says yes to broken XML too: a test parses this."""
    rows = "".join(
        f'<item><layout type="horizontal" split="true">{pair}</layout></item>'
        for pair in ("".join(_view(window, column) for column in COLUMNS) for window in WINDOWS)
    )
    return f'<layout type="vertical" split="true">{rows}</layout>'


def label(window: Window, column: str) -> str:
    """In the corner of a view: LuR is lung, reference."""
    return f"{window.title[:2].title()}{column[0]}"


def _view(window: Window, column: str) -> str:
    properties = {
        "orientation": "Axial",
        "viewlabel": label(window, column),
        "viewcolor": COLOURS[column],
        "viewgroup": str(VIEW_GROUP),
    }
    text = "".join(f'<property name="{k}" action="default">{v}</property>' for k, v in properties.items())
    tag = view_name(window, column)
    return f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">{text}</view></item>'


def register(scene: Any) -> Any | None:
    """Make the scene's layout node know the layout; the node, or None when the scene has none."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None and not node.IsLayoutDescription(LAYOUT_ID):
        node.AddLayoutDescription(LAYOUT_ID, description())
    return node


class Layout:
    """Into our layout and back to the one before."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._former: int | None = None

    def enter(self) -> None:
        """Raises NoLayout when the application shows no layouts (or none yet)."""
        node = register(self.scene)
        if node is None:
            raise NoLayout("there are no views to compare in: this needs 3D Slicer's main window")
        if node.GetViewArrangement() != LAYOUT_ID:
            self._former = node.GetViewArrangement()
            node.SetSaveWithScene(False)  # a scene saved now opens in whatever layout is there
            node.SetViewArrangement(LAYOUT_ID)
        missing = [name for name in VIEW_NAMES if self.slice_node(name) is None]
        if missing:
            self.leave()
            raise NoLayout(f"the views {', '.join(missing)} did not come up: restart 3D Slicer")
        for view in (*self.slice_nodes(), *self.composite_nodes().values()):
            view.SetSaveWithScene(False)

    def leave(self) -> None:
        """Back to the layout before, unless the user has chosen another one meanwhile."""
        node = self.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if node is not None and node.GetViewArrangement() == LAYOUT_ID:
            conventional = node.SlicerLayoutConventionalView
            node.SetViewArrangement(conventional if self._former is None else self._former)
        if node is not None:
            node.SetSaveWithScene(True)
        self._former = None

    def say(self, windows: tuple[Window, ...]) -> None:
        """Name in their corners what the rows show."""
        for row, shown in zip(WINDOWS, windows):
            for column in COLUMNS:
                node = self.slice_node(view_name(row, column))
                if node is not None:
                    node.SetLayoutLabel(label(shown, column))

    def slice_node(self, name: str) -> Any:
        return _by_layout_name(self.scene, "vtkMRMLSliceNode", name)

    def composite_node(self, name: str) -> Any:
        return _by_layout_name(self.scene, "vtkMRMLSliceCompositeNode", name)

    def slice_nodes(self) -> list[Any]:
        """Those of our views that exist, row by row."""
        return [node for node in map(self.slice_node, VIEW_NAMES) if node is not None]

    def composite_nodes(self) -> dict[str, Any]:
        found = {name: self.composite_node(name) for name in VIEW_NAMES}
        return {name: node for name, node in found.items() if node is not None}


def _by_layout_name(scene: Any, kind: str, name: str) -> Any:
    for n in range(scene.GetNumberOfNodesByClass(kind)):
        node = scene.GetNthNodeByClass(n, kind)
        if node.GetLayoutName() == name:
            return node
    return None
