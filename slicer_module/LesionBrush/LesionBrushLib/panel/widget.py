"""The panel as a whole: six steps, one session, the keys, and what happens when scenes and modules change."""

from typing import Any, Callable, Optional

import numpy as np
import qt

from .compare import ComparePanel
from .connect import ConnectPanel
from .keep import KeepPanel
from .more import MorePanel
from .paint import PaintPanel
from .reference import ReferencePanel
from .session import Services, Session
from .synthesize import SynthesizePanel

SOON_MS = 200
MODIFIED = "ModifiedEvent"


class Watcher:
    """Observers of VTK objects that are all taken away together."""

    def __init__(self) -> None:
        self._observed: list[tuple[Any, int]] = []

    def watch(self, thing: Any, event: Any, action: Callable[[], None]) -> None:
        def called(_caller: Any, _event: str) -> None:
            action()

        self._observed.append((thing, thing.AddObserver(event, called)))

    def clear(self) -> None:
        for thing, tag in self._observed:
            thing.RemoveObserver(tag)
        self._observed = []


class LesionBrushPanel:
    """ui: the widgets of LesionBrush.ui by name; generator: for new seeds and proposals.

    The module calls enter, exit and close; everything else comes from the user, the scene and the timer.
    """

    def __init__(self, ui: Any, services: Services, generator: Optional[np.random.Generator] = None) -> None:
        self.ui = ui
        generator = generator or np.random.default_rng()
        self.session = session = Session(services)
        session.on_refresh, session.on_message = self.refresh, self.show_message
        self._refreshing, self._entered = False, False
        self._shortcuts: list[Any] = []
        self._watcher = Watcher()
        self._watched: list[Any] = []
        self._soon = qt.QTimer()
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON_MS)
        self._soon.connect("timeout()", self.refresh)
        self.connect = ConnectPanel(ui, session)
        self.reference = ReferencePanel(ui, session)
        self.paint = PaintPanel(ui, session, generator)
        self.synthesize = SynthesizePanel(ui, session, generator)
        self.compare = ComparePanel(ui, session)
        self.keep = KeepPanel(ui, session)
        self.more = MorePanel(ui, session)
        ui.messageCloseButton.connect("clicked()", lambda: self.show_message(""))
        session.logic.on_change = self._logic_changed
        scene = session.host.scene
        self._scene_watcher = Watcher()
        self._scene_watcher.watch(scene, scene.StartCloseEvent, self.scene_closes)
        self._scene_watcher.watch(scene, scene.EndCloseEvent, self.scene_changed)
        self._scene_watcher.watch(scene, scene.EndImportEvent, self.scene_changed)
        self.refresh()

    # -- the keys

    def keys(self) -> dict[str, tuple[str, Callable[[], None]]]:
        """Key: (what it does, action). None of them is one of Segment Editor's or of the slice views."""
        compare, ui = self.compare, self.ui
        return {
            "Ctrl+Return": ("synthesize", self.synthesize.start),
            "C": ("compare side by side, and back", compare.toggle),
            "X": ("flicker between original and synthetic", compare.flicker),
            "N": ("next variant", lambda: compare.step(1)),
            "P": ("previous variant", lambda: compare.step(-1)),
            "J": ("jump to the lesion", compare.jump),
            "M": ("mask outline on and off", lambda: compare.set_outline(not ui.outlineCheck.checked)),
            "D": ("difference on and off", lambda: compare.set_difference(not ui.differenceCheck.checked)),
        }

    def _install_keys(self) -> None:
        self._remove_keys()
        for key, (_, action) in self.keys().items():
            self._shortcuts.append(self.session.host.shortcut(key, self._guarded(action)))

    def _remove_keys(self) -> None:
        for shortcut in self._shortcuts:
            self.session.host.remove_shortcut(shortcut)
        self._shortcuts = []

    def _guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        return lambda: self.session.guard(action)

    # -- what the module tells

    def enter(self) -> None:
        """The module was opened."""
        if self._entered:
            return
        self._entered = True
        self.session.guard(self.paint.enter)
        self._install_keys()
        self._dress_views()

    def exit(self) -> None:
        """Another module was opened. A synthesis under way goes on; its result is there on return."""
        if not self._entered:
            return
        self._entered = False
        self._remove_keys()
        self.paint.exit()

    def scene_closes(self) -> None:
        """Before the nodes go: nothing under way may arrive in the next scene."""
        self.session.stop()
        self.synthesize.forget()
        self._unwatch()
        self.paint.scene_closes()

    def scene_changed(self) -> None:
        """After a scene was closed or loaded: its parameters are the ones to show."""
        self.session.result_client = self.session.result_job = None
        self.session.guard(self.paint.enter if self._entered else self.paint.select_node)

    def close(self) -> None:
        """The panel goes away: no thread, timer, key or observer of it stays."""
        self.exit()
        self.session.stop()
        self._soon.stop()
        self.synthesize.stop_clock()
        self._unwatch()
        self._scene_watcher.clear()
        self.session.logic.on_change = lambda what: None
        self.session.logic.close()

    # -- keeping the panel true

    def refresh(self) -> None:
        """Bring every control in line with the parameters, the server and the result."""
        if self._refreshing:
            self._soon.start()
            return
        self._refreshing = True
        try:
            if self._entered:
                self.paint.follow_reference()
            self._watch()
            for part in (
                self.connect,
                self.reference,
                self.paint,
                self.synthesize,
                self.compare,
                self.keep,
                self.more,
            ):
                part.refresh()
        finally:
            self._refreshing = False

    def show_message(self, text: str) -> None:
        self.ui.messageLabel.text = text
        self.ui.messageFrame.setVisible(bool(text))

    def _logic_changed(self, what: str) -> None:
        if what == "marks":
            for view in self.session.host.views():
                view.view.scheduleRender()
            return
        self._dress_views()
        self.refresh()

    def _dress_views(self) -> None:
        """What only the application can do for the views: the SYNTHETIC mark, and no bars above the six."""
        logic, host = self.session.logic, self.session.host
        for view in host.views():
            logic.marks.attach(view.renderer, view.slice_node)
        if logic.comparison.active:
            host.show_controllers(list(logic.comparison.view_names), False)

    def _watch(self) -> None:
        """Follow the nodes in use, whoever changes them: a script, a loaded scene, or Segment Editor."""
        parameters, editor = self.session.logic.parameters, self.paint.node
        segmentation = parameters.segmentation
        wanted = [parameters.node, editor, segmentation]
        if len(wanted) == len(self._watched) and all(a is b for a, b in zip(wanted, self._watched)):
            return
        self._unwatch()
        self._watched = wanted
        self._watcher.watch(parameters.node, MODIFIED, self._soon.start)
        if editor is not None:
            self._watcher.watch(editor, MODIFIED, self._editor_changed)
        if segmentation is not None:
            painted = segmentation.GetSegmentation()
            for event in _paint_events(painted):
                self._watcher.watch(painted, event, self._soon.start)

    def _unwatch(self) -> None:
        self._watcher.clear()
        self._watched = []

    def _editor_changed(self) -> None:
        if self._entered:
            self.paint.editor_changed()
        self._soon.start()


def _paint_events(segmentation: Any) -> tuple[Any, ...]:
    """Painting, and segments that come, go or are renamed. Numbers of events are VTK's own."""
    names = ("SourceRepresentationModified", "SegmentAdded", "SegmentRemoved", "SegmentModified")
    return tuple(getattr(segmentation, name) for name in names if hasattr(segmentation, name))
