"""What the user has chosen, kept in a node of the scene, so that a saved scene brings it back.

The server's address and token are not here: a scene is given to others.
"""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar, overload

import slicer

MODULE = "LesionBrush"
MODELS_OWN = ("steps", "attributes", "extra")
ONCE = ("lungs", "anatomy", "pathology", "pathology_mask")
"""Inputs that scenes were saved with before their names came from the server."""
ONCE_ONLY_LUNG = "only_lung"
"""What was saved when painting knew lung alone."""
T = TypeVar("T")


class _Parameter(Generic[T]):
    """One typed value, stored as JSON text. A text that does not hold this type reads as the default."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> _Parameter[T]: ...
    @overload
    def __get__(self, instance: Parameters, owner: type) -> T: ...
    def __get__(self, instance: Parameters | None, owner: type) -> T | _Parameter[T]:
        if instance is None:
            return self
        default: T = json.loads(json.dumps(self.default))  # a caller may change the dictionary it gets
        text = instance.node.GetParameter(self.name)
        try:
            value = json.loads(text) if text else default
        except ValueError:
            return default
        if isinstance(self.default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        right = type(value) is type(self.default)
        return value if right else default

    def __set__(self, instance: Parameters, value: T) -> None:
        if isinstance(self.default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)  # type: ignore[assignment]
        if type(value) is not type(self.default):
            raise TypeError(f"{self.name} is a {type(self.default).__name__}, not {value!r}")
        instance.node.SetParameter(self.name, json.dumps(value, sort_keys=True))


class _NodeParameter:
    """A node of the scene, or None; kept as a node reference, so it follows when IDs change on loading."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = f"{MODULE}.{name}"

    def __get__(self, instance: Parameters, owner: type) -> Any:
        return instance.node.GetNodeReference(self.role)

    def __set__(self, instance: Parameters, value: Any) -> None:
        instance.node.SetNodeReferenceID(self.role, value.GetID() if value is not None else None)


class Parameters:
    """Typed access to the module's one parameter node; made when the scene has none."""

    reference = _NodeParameter()
    segmentation = _NodeParameter()
    synthetic = _NodeParameter()
    segment_id = _Parameter("")
    model = _Parameter("")
    image_id = _Parameter("")
    attributes: _Parameter[dict[str, Any]] = _Parameter({})
    extra: _Parameter[dict[str, Any]] = _Parameter({})
    texts: _Parameter[dict[str, str]] = _Parameter({})
    seed = _Parameter(0)
    variants = _Parameter(1)
    steps = _Parameter(12)
    lesion_mm = _Parameter(15.0)
    lesion_shape = _Parameter("lobulated")
    paint_in = _Parameter("")  # of paint_only.KINDS
    paint_segment = _Parameter("")
    like_hu = _Parameter(0.0)
    like_width_hu = _Parameter(50.0)
    outline = _Parameter(True)
    difference = _Parameter(False)
    orientation = _Parameter("Axial")
    windows = _Parameter("")  # of WINDOWS_OF; "": by the tissue around the lesion
    views_before: _Parameter[dict[str, list[str]]] = _Parameter({})  # kept by MaskOutline
    others: _Parameter[dict[str, dict[str, str]]] = _Parameter({})  # kept by choose_model

    def __init__(self, scene: Any) -> None:
        self.node = scene.GetSingletonNode(MODULE, "vtkMRMLScriptedModuleNode") or _new_node(scene)
        for name in ONCE:
            node = self.node.GetNodeReference(f"{MODULE}.{name}")
            if node is not None:
                self.node.SetNodeReferenceID(f"{MODULE}.{name}", None)
                self.choose_input(name, node)
        if self.node.GetParameter(ONCE_ONLY_LUNG):
            self.paint_in = "lung" if self.node.GetParameter(ONCE_ONLY_LUNG) == "true" else self.paint_in
            self.node.UnsetParameter(ONCE_ONLY_LUNG)

    def input_node(self, name: str) -> Any:
        """What was chosen for an input of a model, by its name, or None."""
        return self.node.GetNodeReference(f"{MODULE}.input_{name}")

    def choose_input(self, name: str, node: Any) -> None:
        self.node.SetNodeReferenceID(f"{MODULE}.input_{name}", node.GetID() if node is not None else None)

    def choose_model(self, name: str) -> None:
        """Take another model. What was chosen for this one is kept for when it is chosen again.

        Seed and variants stay; the rest is the model's own, and open until it was chosen.
        """
        if name == self.model:
            return
        others, texts = self.others, {key: self.node.GetParameter(key) for key in MODELS_OWN}
        if self.model:
            mine = others.pop(name, {})
            self.others = {**others, self.model: {key: text for key, text in texts.items() if text}}
            for key in MODELS_OWN:
                self._put_text(key, mine.get(key) if isinstance(mine, dict) else None)
        self.model = name

    def _put_text(self, key: str, text: Any) -> None:
        if isinstance(text, str) and text:
            self.node.SetParameter(key, text)
        else:
            self.node.UnsetParameter(key)

    def request(self) -> dict[str, Any]:
        """The parameters of a synthesis, as the server's JSON schema wants them; open ones are left out."""
        given = [name for name in ("steps", "attributes") if self.node.GetParameter(name)]
        chosen = {name: getattr(self, name) for name in ("seed", "variants", *given)}
        return {**self.extra, **chosen}


def _new_node(scene: Any) -> Any:
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag(MODULE)
    node.SetModuleName(MODULE)
    node.SetName(MODULE)
    return scene.AddNode(node)
