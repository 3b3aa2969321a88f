"""The screen to judge by: reference left, synthetic right, three HU windows, linked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import numpy as np
import slicer
import vtk

from .helpers import DifferenceOverlay, WindowRows
from .layout import REFERENCE, SYNTHETIC, VIEW_NAMES, WINDOWS, Layout, Window, view_name
from .outline import MaskOutline
from .problems import NotReady
from .voxels import Grid

ORIENTATIONS = ("Axial", "Coronal", "Sagittal")


class Comparison:
    """2 columns x 3 rows of slice views; changes nothing of the user's. remember: see MaskOutline."""

    def __init__(
        self,
        scene: Any,
        application_logic: Any = None,
        on_change: Callable[[], None] = lambda: None,
        remember: Callable[[dict[str, list[str]]], None] = lambda views: None,
    ) -> None:
        self.scene, self.application_logic, self.on_change = scene, application_logic, on_change
        self.layout = Layout(scene)
        self.rows = WindowRows(scene)
        self._outline = MaskOutline(scene, remember)
        self._overlay = DifferenceOverlay(scene)
        self._ids: dict[str, str | None] = {}
        self._observed: list[tuple[Any, int]] = []
        self._outlined, self._flickered, self._busy = True, False, False
        self._difference: tuple[np.ndarray, Grid] | None = None
        self._orientation = ORIENTATIONS[0]
        self.active = False

    # what is shown

    @property
    def view_names(self) -> list[str]:
        return list(VIEW_NAMES)

    @property
    def reference(self) -> Any:
        return self._node("reference")

    @property
    def synthetic(self) -> Any:
        return self._node("synthetic")

    @property
    def segmentation(self) -> Any:
        return self._node("segmentation")

    def enter(self, reference: Any, synthetic: Any = None, segmentation: Any = None) -> None:
        """Show these; without a synthetic CT both columns show the reference.

        Raises NotReady (no voxels) and NoLayout, and then the screen is as before.
        """
        if reference is None or reference.GetImageData() is None:
            raise NotReady("choose a CT first: there is nothing to compare")
        first = not self.active
        if first:
            self.layout.enter()
        self.active = True
        self._ids = {
            key: node.GetID() if node is not None else None
            for key, node in (
                ("reference", reference),
                ("synthetic", synthetic),
                ("segmentation", segmentation),
            )
        }
        self._flickered = False
        with self._quiet():
            if not self.rows.complete():
                self.rows.remove()
                self.rows.make()
        self.refresh()
        if first:
            self.orientation = self._orientation
            self.fit()
        self._observe()
        self.on_change()

    def leave(self) -> None:
        """Back to the former layout; every helper node goes."""
        if not self.active:
            return
        self.active = False
        self._unobserve()
        with self._quiet():
            self._clear()
        self.layout.leave()
        self._difference = None
        self.on_change()

    def _clear(self) -> None:
        for composite in self.layout.composite_nodes().values():
            composite.SetLinkedControl(0)
            composite.SetHotLinkedControl(0)
            composite.SetLabelVolumeID(None)
            composite.SetForegroundVolumeID(None)
            composite.SetBackgroundVolumeID(None)
        self._outline.remove()
        self._overlay.remove()
        self.rows.remove()

    @property
    def busy(self) -> bool:
        """While nodes come and go by our own doing."""
        return self._busy

    @property
    def incomplete(self) -> bool:
        """True when a node that is shown, or one of ours, was deleted."""
        gone = any(node_id and self.scene.GetNodeByID(node_id) is None for node_id in self._ids.values())
        return self.active and (gone or not self.rows.complete())

    def refresh(self) -> None:
        """Make views and helpers agree with the nodes they stand for. Idempotent."""
        reference = self.reference
        if not self.active or reference is None:
            return
        with self._quiet():
            self.rows.show(REFERENCE, reference)
            self.rows.show(SYNTHETIC, self._right())
            self._assign()
            views = [node.GetID() for node in self.layout.slice_nodes()]
            self._outline.show(self.segmentation, views, self._outlined)

    @property
    def outline(self) -> bool:
        return self._outlined

    @outline.setter
    def outline(self, on: bool) -> None:
        self._outlined = bool(on)
        self.refresh()

    @property
    def flickering(self) -> bool:
        """True while the right column shows the reference."""
        return self._flickered

    def flicker(self) -> bool:
        """Swap what the right column shows; True while it is the reference."""
        self._flickered = self.active and self.synthetic is not None and not self._flickered
        self.refresh()
        self.on_change()
        return self._flickered

    @property
    def difference(self) -> bool:
        return self._difference is not None

    def show_difference(self, change: tuple[np.ndarray, Grid] | None) -> None:
        """Overlay (k, j, i) int16 HU of a box on the right column; None takes it away."""
        self._difference = change
        if self.active and change is not None:
            self._overlay.show(*change, self.reference)
        else:
            self._overlay.remove()
        self.refresh()

    def reset_windows(self) -> None:
        self.rows.reset_windows()

    @property
    def windows(self) -> tuple[Window, ...]:
        """Those of the rows, from above."""
        return self.rows.windows

    @windows.setter
    def windows(self, windows: tuple[Window, ...]) -> None:
        self.rows.use(windows)
        self.layout.say(windows)
        self.refresh()

    def original(self, helper: Any) -> Any:
        """The user's volume that one of our hidden nodes stands for; None for the overlay."""
        for window in WINDOWS:
            if helper is self.rows.node(window, REFERENCE):
                return self.reference
            if helper is self.rows.node(window, SYNTHETIC):
                return self._right()
        return None

    # where it is looked at

    @property
    def orientation(self) -> str:
        return self._orientation

    @orientation.setter
    def orientation(self, name: str) -> None:
        if name not in ORIENTATIONS:
            raise NotReady(f"unknown orientation {name!r}: choose one of {', '.join(ORIENTATIONS)}")
        self._orientation = name
        for node in self.layout.slice_nodes() if self.active else []:
            node.SetOrientation(name)
            if self.reference is not None:
                node.RotateToVolumePlane(self.reference)  # painting on an oblique CT needs its own planes

    def fit(self) -> None:
        """The whole CT into each view."""
        for name in VIEW_NAMES if self.active else ():
            logic = self._slice_logic(name)
            if logic is not None:
                logic.FitSliceToBackground()
                logic.SnapSliceOffsetToIJK()

    def jump(self, ras_mm: np.ndarray, field_mm: float | None = 90.0) -> None:
        """Bring a point of the world to the centre of all views; field_mm: shorter side of what is seen."""
        for node in self.layout.slice_nodes() if self.active else []:
            node.JumpSliceByCentering(*(float(mm) for mm in ras_mm))
            if field_mm:
                _set_field(node, field_mm)

    # inside

    def _node(self, key: str) -> Any:
        return self.scene.GetNodeByID(self._ids.get(key) or "")

    def _right(self) -> Any:
        """What the right column shows."""
        synthetic = self.synthetic
        return self.reference if synthetic is None or self._flickered else synthetic

    def _assign(self) -> None:
        overlay = self._overlay.node
        for window in WINDOWS:
            for column in (REFERENCE, SYNTHETIC):
                composite = self.layout.composite_node(view_name(window, column))
                if composite is None:
                    continue
                shown = overlay if column == SYNTHETIC and not self._flickered else None
                _assign(composite, self.rows.node(window, column), shown)

    def _slice_logic(self, name: str) -> Any:
        return self.application_logic.GetSliceLogicByLayoutName(name) if self.application_logic else None

    def _observe(self) -> None:
        self._unobserve()
        modified = vtk.vtkCommand.ModifiedEvent
        pairs = [(node, modified) for node in self.layout.composite_nodes().values()]
        for volume in (self.reference, self.synthetic):
            if volume is not None:
                pairs += [(volume, modified), (volume, volume.ImageDataModifiedEvent)]
                pairs.append((volume, slicer.vtkMRMLTransformableNode.TransformModifiedEvent))
        self._observed = [(node, node.AddObserver(event, self._on_modified)) for node, event in pairs]

    def _unobserve(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []

    def _on_modified(self, caller: Any, event: str) -> None:
        """Somebody chose another volume in one of our views, or a volume moved: put it right."""
        if not self._busy:
            self.refresh()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before


def _assign(composite: Any, volume: Any, overlay: Any) -> None:
    """Set what one view shows. Linked only afterwards: a linked view passes its volume on to the others."""
    background = volume.GetID() if volume is not None else None
    label = overlay.GetID() if overlay is not None else None
    right = (
        composite.GetBackgroundVolumeID() == background
        and composite.GetForegroundVolumeID() is None
        and composite.GetLabelVolumeID() == label
        and composite.GetLinkedControl()
        and composite.GetHotLinkedControl()
    )
    if right:
        return
    was = composite.StartModify()
    composite.SetLinkedControl(0)
    composite.SetDoPropagateVolumeSelection(0)  # else a newly loaded volume comes up in our views
    composite.SetBackgroundVolumeID(background)
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(label)
    composite.SetLabelOpacity(1.0)
    composite.SetLinkedControl(1)
    composite.SetHotLinkedControl(1)
    composite.EndModify(was)


def _set_field(node: Any, field_mm: float) -> None:
    """Zoom so that the shorter side of the view shows `field_mm`, square millimetres."""
    width, height = node.GetDimensions()[:2]
    if width > 0 and height > 0:
        scale = field_mm / min(width, height)
        node.SetFieldOfView(width * scale, height * scale, node.GetFieldOfView()[2])
