"""Events of the scene that the logic has to follow."""

from __future__ import annotations

from typing import Any, Callable

import slicer
import vtk


class SceneWatch:
    """Calls scene_closing, scene_closed, scene_loaded, node_gone of its owner until `stop`."""

    def __init__(self, scene: Any, owner: Any) -> None:
        self.scene = scene
        self._followed: tuple[Any, int] | None = None
        kinds = slicer.vtkMRMLScene
        calls: list[tuple[int, Callable[[], None]]] = [
            (kinds.StartCloseEvent, owner.scene_closing),
            (kinds.EndCloseEvent, owner.scene_closed),
            (kinds.EndImportEvent, owner.scene_loaded),
            (kinds.NodeRemovedEvent, lambda: None if self._busy() else owner.node_gone()),
            (kinds.NodeAddedEvent, lambda: None if self._busy() else owner.marks.update()),
        ]
        self._tags = [scene.AddObserver(event, _ignoring_arguments(call)) for event, call in calls]

    def _busy(self) -> bool:
        return bool(self.scene.IsClosing() or self.scene.IsImporting() or self.scene.IsBatchProcessing())

    def follow(self, node: Any, call: Callable[[], None]) -> None:
        """Call this whenever the node is modified; the node followed before is let go."""
        self._let_go()
        self._followed = (node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, _ignoring_arguments(call)))

    def _let_go(self) -> None:
        if self._followed is not None:
            self._followed[0].RemoveObserver(self._followed[1])
            self._followed = None

    def stop(self) -> None:
        self._let_go()
        for tag in self._tags:
            self.scene.RemoveObserver(tag)
        self._tags = []


def _ignoring_arguments(call: Callable[[], None]) -> Callable[[Any, str], None]:
    def observer(caller: Any, event: str) -> None:
        call()

    return observer
