"""SYNTHETIC in the corner of every slice view that shows a synthetic volume."""

from __future__ import annotations

from typing import Any, Callable

import vtk

from .compose import is_synthetic, mark, provenance_of
from .helpers import is_helper

LOWER_RIGHT = 1
"""The corner Slicer's own annotations leave free; they name the volume in the lower left."""
COLOUR = (1.0, 0.55, 0.1)


class Marks:
    """Draws into renderers it is handed; so it works in Qt views and off-screen.

    original: the volume that a helper node stands for (itself for any other).
    """

    def __init__(
        self, scene: Any, original: Callable[[Any], Any], on_change: Callable[[], None] = lambda: None
    ):
        self.scene, self._original, self._on_change = scene, original, on_change
        self._views: dict[str, _View] = {}

    def attach(self, renderer: Any, slice_node: Any) -> None:
        """Watch a view. Doing it twice changes nothing; another renderer replaces the former."""
        name = slice_node.GetLayoutName()
        known = self._views.get(name)
        if known is not None and known.renderer is renderer:
            return
        if known is not None:
            known.detach()
        self._views[name] = _View(renderer, name)
        self.update()

    def detach_all(self) -> None:
        for view in self._views.values():
            view.detach()
        self._views = {}
        self._on_change()

    def text(self, layout_name: str) -> str:
        """What the corner of a view says; "" when it shows nothing synthetic."""
        view = self._views.get(layout_name)
        return view.annotation.GetText(LOWER_RIGHT) or "" if view is not None else ""

    def update(self) -> None:
        """Look at what each view shows now."""
        composites = {}
        for n in range(self.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            node = self.scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            composites[node.GetLayoutName()] = node
        changed = False
        for name, view in self._views.items():
            composite = composites.get(name)
            view.watch(composite, self.update)
            changed |= view.say("" if composite is None else self._mark(composite))
        if changed:
            self._on_change()

    def _mark(self, composite: Any) -> str:
        shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        for found in map(self.scene.GetNodeByID, (node_id or "" for node_id in shown)):
            node = self._original(found) if is_helper(found) else found
            if is_synthetic(node):
                record = provenance_of(node)
                details = f"{record.get('model', '')} seed {record['seed']}" if "seed" in record else ""
                return f"{mark(record)}\n{details}".strip()
        return ""


class _View:
    def __init__(self, renderer: Any, name: str) -> None:
        self.renderer, self.name = renderer, name
        self._watched: tuple[Any, int] | None = None
        self.annotation = vtk.vtkCornerAnnotation()
        self.annotation.SetMaximumFontSize(15)
        self.annotation.SetMinimumFontSize(8)
        self.annotation.SetNonlinearFontScaleFactor(1.0)
        look = self.annotation.GetTextProperty()
        look.SetColor(*COLOUR)
        look.BoldOn()
        look.ShadowOn()
        renderer.AddViewProp(self.annotation)

    def watch(self, composite: Any, update: Callable[[], None]) -> None:
        """Call `update` whenever the view gets another volume."""
        if self._watched is not None and self._watched[0] is composite:
            return
        self._unwatch()
        if composite is not None:
            tag = composite.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: update())
            self._watched = (composite, tag)

    def say(self, text: str) -> bool:
        """True when it said something else before."""
        if (self.annotation.GetText(LOWER_RIGHT) or "") == text:
            return False
        self.annotation.SetText(LOWER_RIGHT, text)
        return True

    def detach(self) -> None:
        self._unwatch()
        self.renderer.RemoveViewProp(self.annotation)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched[0].RemoveObserver(self._watched[1])
            self._watched = None
