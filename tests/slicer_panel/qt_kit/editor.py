"""A recording stand-in for qMRMLSegmentEditorWidget: what was called, in which order, and little else."""

from __future__ import annotations

from typing import Any

from qt_kit.widgets import qt


class Effect:
    """Paint, Erase and the others: a name and parameters."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.common: dict[str, Any] = {}

    def setCommonParameter(self, name: str, value: Any) -> None:
        self.common[name] = value


class SegmentEditor(qt.QLabel):
    """Keeps the nodes it is given in its Segment Editor node, as the real one does."""

    def __init__(self) -> None:
        super().__init__("(Slicer's Segment Editor goes here)")
        self._calls: list[tuple[Any, ...]] = []
        self._node: Any = None
        self._effect: Any = None
        self._effects: dict[str, Effect] = {}
        self._unordered = True

    def __getattribute__(self, name: str) -> Any:
        if name in RECORDED:
            return lambda *given: self._record(name, given)
        return super().__getattribute__(name)

    def _record(self, name: str, given: tuple[Any, ...]) -> Any:
        self._calls.append((name, *given))
        action = getattr(self, f"_{name}", None)
        return action(*given) if action else None

    @property
    def unorderedEffectsVisible(self) -> bool:
        return self._unordered

    @unorderedEffectsVisible.setter
    def unorderedEffectsVisible(self, visible: bool) -> None:
        self._unordered = visible

    def names(self) -> list[str]:
        return [call[0] for call in self._calls]

    def _setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._node = node

    def _setSegmentationNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.SetAndObserveSegmentationNode(node)

    def _setSourceVolumeNode(self, node: Any) -> None:
        self._node.SetAndObserveSourceVolumeNode(node)

    def _setCurrentSegmentID(self, segment: str) -> None:
        self._node.SetSelectedSegmentID(segment)

    def _setActiveEffect(self, effect: Any) -> None:
        self._effect = effect

    def _setActiveEffectByName(self, name: str) -> None:
        self._effect = self._effects.setdefault(name, Effect(name))

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode() if self._node is not None else None

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode()

    def activeEffect(self) -> Any:
        return self._effect


RECORDED = {
    "installKeyboardShortcuts",
    "removeViewObservations",
    "saveStateForUndo",
    "setActiveEffect",
    "setActiveEffectByName",
    "setAutoShowSourceVolumeNode",
    "setCurrentSegmentID",
    "setEffectNameOrder",
    "setMRMLScene",
    "setMRMLSegmentEditorNode",
    "setMaximumNumberOfUndoStates",
    "setSegmentationNode",
    "setSourceVolumeNode",
    "setSourceVolumeNodeSelectorVisible",
    "setupViewObservations",
    "uninstallKeyboardShortcuts",
    "updateWidgetFromMRML",
}
