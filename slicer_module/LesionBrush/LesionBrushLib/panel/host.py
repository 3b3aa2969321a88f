"""What only the Slicer application has: its windows, dialogs, views and file readers.

Small on purpose: what stands here is not run by our tests against the real application.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import qt
import slicer

VOLUME_FILES = "NIfTI, packed (*.nii.gz);;NIfTI (*.nii);;NRRD (*.nrrd);;MetaImage (*.mha)"


class View(NamedTuple):
    """One slice view: its name in the layout, the VTK renderer, the slice node, and Slicer's own view."""

    name: str
    renderer: Any
    slice_node: Any
    view: Any


class SlicerHost:
    """The running application."""

    @property
    def scene(self) -> Any:
        return slicer.mrmlScene

    def confirm(self, text: str, title: str) -> bool:
        """Ask a yes-or-no question; closing the window is a no."""
        return bool(slicer.util.confirmYesNoDisplay(text, windowTitle=title))

    def ask_save_path(self, title: str, name: str) -> Optional[Path]:
        """Where to write a volume, or None. name: what is proposed."""
        window = slicer.util.mainWindow()
        chosen = qt.QFileDialog.getSaveFileName(window, title, name, VOLUME_FILES)
        chosen = chosen[0] if isinstance(chosen, (tuple, list)) else chosen
        return Path(chosen) if chosen else None

    def ask_open_path(self, title: str, kinds: str) -> Optional[Path]:
        """A file that is there, or None."""
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", kinds)
        chosen = chosen[0] if isinstance(chosen, (tuple, list)) else chosen
        return Path(chosen) if chosen else None

    def load_volume(self, path: Path, name: str) -> Any:
        """A volume node from a file, shown in no view. RuntimeError when it cannot be read."""
        return slicer.util.loadVolume(str(path), properties={"name": name, "show": False, "singleFile": True})

    def show_volume(self, node: Any) -> None:
        """Show a volume as background of the views, fitted."""
        slicer.util.setSliceViewerLayers(background=node, fit=True)

    def new_node_selector(self, kinds: Sequence[str], none_words: str) -> Any:
        """A list of the scene's nodes of these classes, and none."""
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = list(kinds)
        selector.addEnabled = selector.removeEnabled = selector.showChildNodeTypes = False
        selector.noneEnabled, selector.noneDisplay = True, none_words
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    def new_segment_editor(self) -> Any:
        return slicer.qMRMLSegmentEditorWidget()

    def shortcut(self, key: str, action: Callable[[], None]) -> Any:
        """A key of the main window; `remove_shortcut` takes it away again."""
        shortcut = qt.QShortcut(slicer.util.mainWindow())
        shortcut.setKey(qt.QKeySequence(key))
        shortcut.connect("activated()", action)
        return shortcut

    def remove_shortcut(self, shortcut: Any) -> None:
        shortcut.setParent(None)
        shortcut.deleteLater()

    def views(self) -> Iterator[View]:
        """All slice views there are now; none when the application has no main window."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        for name in manager.sliceViewNames():
            widget = manager.sliceWidget(name)
            view = widget.sliceView()
            renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
            yield View(name, renderer, widget.mrmlSliceNode(), view)

    def show_controllers(self, names: list[str], visible: bool) -> None:
        """Show or hide the bars above views: choosing a volume there would break the comparison."""
        manager = slicer.app.layoutManager()
        for name in names if manager is not None else ():
            widget = manager.sliceWidget(name)
            if widget is not None:
                widget.sliceController().setVisible(visible)

    def set_wait_cursor(self, on: bool) -> None:
        if on:
            qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        else:
            qt.QApplication.restoreOverrideCursor()
