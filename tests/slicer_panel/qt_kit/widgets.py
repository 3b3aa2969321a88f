"""Stand-ins for the few CTK and MRML widgets the panel uses, with the names and signals of the real ones."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtUiTools

from qt_kit import pythonqt

pythonqt.application()
qt = pythonqt.qt_module()


FOLDED = ("moreFrame",)


class ctkCollapsibleButton(qt.QWidget):  # noqa: N801
    """A title above what can be folded away."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self._title_px = 24

    def _set_text(self, text: str) -> None:
        self._text = text

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self._fold(collapsed)
        self.contentsCollapsed.emit(collapsed)

    def _fold(self, collapsed: bool) -> None:
        """One frame holds the contents where the .ui says so; only that one is shown and hidden."""
        for child in self.children():
            if isinstance(child, qt.QWidget) and child.objectName in FOLDED:
                child.setVisible(not collapsed)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._fold(self._collapsed)

    text = QtCore.Property(str, lambda self: self._text, _set_text)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)

    def childEvent(self, event: Any) -> None:
        super().childEvent(event)
        if self.layout() is not None:
            self.layout().setContentsMargins(6, self._title_px + 4, 6, 6)

    def paintEvent(self, event: Any) -> None:
        if self.layout() is not None:
            self.layout().setContentsMargins(6, self._title_px + 4, 6, 6)
        painter = qt.QPainter(self)
        title = QtCore.QRect(0, 0, self.width, self._title_px)
        painter.fillRect(title, self.palette.mid())
        font = painter.font()
        font.setBold(True)
        painter.setFont(font)
        arrow = "▸" if self._collapsed else "▾"
        painter.drawText(title.adjusted(8, 0, 0, 0), QtCore.Qt.AlignVCenter, f"{arrow}  {self._text}")
        painter.end()


class ctkSliderWidget(qt.QWidget):  # noqa: N801
    """A slider and a number field that follow each other. The range and decimals come before the value."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = qt.QSlider(QtCore.Qt.Horizontal)
        self._box = qt.QDoubleSpinBox()
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._slider.setRange(0, 1000)
        self._slider.connect("sliderMoved(int)", self._slid)
        self._box.connect("valueChanged(double)", self._typed)

    def _slid(self, position: int) -> None:
        low, high = self._box.minimum, self._box.maximum
        self._box.value = low + (high - low) * position / 1000

    def _typed(self, value: float) -> None:
        low, high = self._box.minimum, self._box.maximum
        self._slider.value = round(1000 * (value - low) / (high - low)) if high > low else 0
        self.valueChanged.emit(value)

    def _put(name: str) -> Any:  # noqa: N805
        return lambda self, value: setattr(self._box, name, value)

    def _get(name: str) -> Any:  # noqa: N805
        return lambda self: getattr(self._box, name)

    value = QtCore.Property(float, _get("value"), _put("value"))
    minimum = QtCore.Property(float, _get("minimum"), _put("minimum"))
    maximum = QtCore.Property(float, _get("maximum"), _put("maximum"))
    singleStep = QtCore.Property(float, _get("singleStep"), _put("singleStep"))
    pageStep = QtCore.Property(float, lambda self: 0.0, lambda self, value: None)
    decimals = QtCore.Property(int, _get("decimals"), _put("decimals"))
    suffix = QtCore.Property(str, _get("suffix"), _put("suffix"))


class qMRMLWidget(qt.QWidget):  # noqa: N801
    """Hands its scene to its children, as the connection in the .ui file does in Slicer."""

    def setMRMLScene(self, scene: Any) -> None:
        for child in self.findChildren(QtCore.QObject):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)


def _said_in_the_ui(name: str) -> Any:
    """A property that Qt does not declare."""
    return property(
        lambda self: QtCore.QObject.property(self, name),
        lambda self, value: QtCore.QObject.setProperty(self, name, value),
    )


class qMRMLNodeComboBox(qt.QWidget):  # noqa: N801
    """The nodes of some types in a scene; hidden ones are not offered."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._nodes: list[Any] = []
        self._filling = False
        self._box = qt.QComboBox()
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.connect("currentIndexChanged(int)", self._index_changed)

    # A list is no property that PySide can declare; the .ui file sets these two by name.
    nodeTypes = property(lambda self: self._said("nodeTypes"), lambda self, v: self._say("nodeTypes", v))
    noneDisplay = property(
        lambda self: self._said("noneDisplay"), lambda self, v: self._say("noneDisplay", v)
    )

    def _said(self, name: str) -> Any:
        return QtCore.QObject.property(self, name)

    def _say(self, name: str, value: Any) -> None:
        QtCore.QObject.setProperty(self, name, value)

    noneEnabled = QtCore.Property(bool, lambda self: True, lambda self, value: None)
    addEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    removeEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    renameEnabled = QtCore.Property(bool, lambda self: True, lambda self, value: None)
    showChildNodeTypes = QtCore.Property(bool, lambda self: False, lambda self, value: None)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        scene.AddObserver(scene.NodeAddedEvent, lambda *_: self._fill())
        scene.AddObserver(scene.NodeRemovedEvent, lambda *_: self._fill())
        self._fill()

    def _fill(self) -> None:
        current = self.currentNode()
        none, types = self.noneDisplay or "None", self.nodeTypes or []
        found = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        self._nodes = [None, *(n for n in found if n.GetClassName() in types and not n.GetHideFromEditors())]
        self._filling = True
        self._box.clear()
        for node in self._nodes:
            self._box.addItem(node.GetName() if node is not None else none)
        self._filling = False
        self._box.currentIndex = self._nodes.index(current) if current in self._nodes else 0

    def currentNode(self) -> Any:
        return self._nodes[self._box.currentIndex] if 0 <= self._box.currentIndex < len(self._nodes) else None

    def setCurrentNode(self, node: Any) -> None:
        self._fill()
        self._box.currentIndex = self._nodes.index(node) if node in self._nodes else 0

    def _index_changed(self, index: int) -> None:
        if not self._filling:
            self.currentNodeChanged.emit(self.currentNode())


CUSTOM = {
    cls.__name__: cls for cls in (ctkCollapsibleButton, ctkSliderWidget, qMRMLWidget, qMRMLNodeComboBox)
}


class Loader(QtUiTools.QUiLoader):
    """Makes the widgets of a .ui file from our classes."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        cls = CUSTOM.get(class_name) or getattr(qt, class_name)
        widget = cls(parent) if parent is not None else cls()
        widget.setObjectName(name)
        self.made.append(widget)
        return widget

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []


def load_ui(path: str) -> Any:
    """The top widget of a .ui file, as slicer.util.loadUI gives it. RuntimeError when it cannot be read."""
    loader = Loader()
    file = QtCore.QFile(str(path))
    if not file.open(QtCore.QIODevice.ReadOnly):
        raise RuntimeError(f"cannot open {path}")
    widget = loader.load(file)
    file.close()
    if widget is None:
        raise RuntimeError(loader.errorString())
    widget._made = loader.made  # Python would forget its own classes otherwise
    return widget
