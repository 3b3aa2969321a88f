"""The painted mask as an outline in the comparison, whatever the user's own display of it is."""

from __future__ import annotations

from typing import Any, Callable

from .helpers import hide

NOWHERE = "vtkMRMLSliceNodeNowhere"
"""A list of views that is empty means all views; so it holds one that does not exist."""


class MaskOutline:
    """A display node of our own for the six views.

    The user's display nodes are kept out of them meanwhile, and get their views back on `remove`.
    remember: called with those views by place of the display node ({} once they are back), to be kept with
    the scene: nobody is told when a scene is saved. `give_back` undoes what was saved that way.
    """

    def __init__(
        self, scene: Any, remember: Callable[[dict[str, list[str]]], None] = lambda views: None
    ) -> None:
        self.scene, self._remember = scene, remember
        self._segmentation: str | None = None
        self._display: str | None = None
        self._views: dict[str, list[str]] = {}  # of the user's display nodes, as they were

    @property
    def display(self) -> Any:
        return self.scene.GetNodeByID(self._display or "")

    def show(self, segmentation: Any, view_ids: list[str], visible: bool) -> None:
        """Outline this segmentation in our views; None: nothing."""
        if segmentation is None:
            self.remove()
            return
        if self._segmentation != segmentation.GetID() or self.display is None:
            self.remove()
            self._add(segmentation, view_ids)
        display = self.display
        if bool(display.GetVisibility()) != visible:
            display.SetVisibility(visible)

    def remove(self) -> None:
        for node_id, views in self._views.items():
            node = self.scene.GetNodeByID(node_id)
            if node is not None:
                _set_views(node, views)
        self._views = {}
        self._remember({})
        display, self._display, self._segmentation = self.display, None, None
        if display is not None:
            self.scene.RemoveNode(display)

    def _add(self, segmentation: Any, view_ids: list[str]) -> None:
        others = self._other_views(set(view_ids))
        theirs = [segmentation.GetNthDisplayNode(n) for n in range(segmentation.GetNumberOfDisplayNodes())]
        theirs = [node for node in theirs if node is not None]
        ours = self.scene.CreateNodeByClass("vtkMRMLSegmentationDisplayNode")
        ours.UnRegister(None)
        if theirs:
            ours.Copy(theirs[0])
        ours.SetName("LesionBrush outline")
        self.scene.AddNode(hide(ours))
        ours.SetVisibility2DFill(False)
        ours.SetVisibility2DOutline(True)
        ours.SetOpacity2DOutline(1.0)
        _set_views(ours, view_ids)
        for node in theirs:
            views = [node.GetNthViewNodeID(n) for n in range(node.GetNumberOfViewNodeIDs())]
            self._views[node.GetID()] = views
            _set_views(node, [v for v in views if v not in view_ids] or others)
        self._remember({str(place): self._views[node.GetID()] for place, node in enumerate(theirs)})
        segmentation.AddAndObserveDisplayNodeID(ours.GetID())
        ours.SetAllSegmentsVisibility2DOutline(True)  # these two ask the segmentation for its segments
        ours.SetAllSegmentsOpacity2DOutline(1.0)
        self._segmentation, self._display = segmentation.GetID(), ours.GetID()

    def _other_views(self, ours: set[str]) -> list[str]:
        found = []
        for kind in ("vtkMRMLSliceNode", "vtkMRMLViewNode"):
            for n in range(self.scene.GetNumberOfNodesByClass(kind)):
                found.append(self.scene.GetNthNodeByClass(n, kind).GetID())
        return [view for view in found if view not in ours] or [NOWHERE]


def _set_views(display: Any, view_ids: list[str]) -> None:
    was = display.StartModify()
    display.RemoveAllViewNodeIDs()
    for view in view_ids:
        display.AddViewNodeID(view)
    display.EndModify(was)


def give_back(segmentation: Any, views: dict[str, list[str]]) -> None:
    """After loading a scene that was saved during a comparison: the display nodes' own views."""
    for place, ids in views.items():
        node = segmentation.GetNthDisplayNode(int(place))
        if node is not None:
            _set_views(node, ids)
