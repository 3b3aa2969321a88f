"""Of 4. Synthesize: a row for each thing that the chosen model takes beside CT and mask, by its own list."""

from typing import Any, Union

import qt

from ..client import Take
from ..logic.steering import title
from .session import Session

VOLUMES = ("vtkMRMLScalarVolumeNode",)
SEGMENTS = ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode")
HOW = {
    "volume": "A volume in HU. On another grid than it belongs to, it is interpolated.",
    "mask": "A segmentation (hidden segments do not count) or a label volume.",
    "layout": "A segmentation, all its segments by their names, or a label volume whose colors have names.",
    "text": "Free text. It goes to the server as it is: leave out names and dates.",
}
TEXT_PX = 70


class NodeField:
    """A selector of nodes of the kinds that suit an input."""

    def __init__(self, take: Take, session: Session) -> None:
        self.name, self.session, self._filling = take.name, session, False
        self.widget = session.host.new_node_selector(
            VOLUMES if take.kind == "volume" else SEGMENTS, "choose one" if take.required else "left out"
        )
        self.widget.connect("currentNodeChanged(vtkMRMLNode*)", self._chosen)

    def _chosen(self, node: Any) -> None:
        if not self._filling:
            self.session.guard(lambda: self.session.logic.parameters.choose_input(self.name, node))

    def show(self) -> None:
        node = self.session.logic.parameters.input_node(self.name)
        if self.widget.currentNode() is not node:
            self._filling = True
            self.widget.setCurrentNode(node)
            self._filling = False


class TextField:
    """Some lines of text."""

    def __init__(self, take: Take, session: Session) -> None:
        self.name, self.session, self._filling = take.name, session, False
        self.widget = qt.QPlainTextEdit()
        self.widget.setMaximumHeight(TEXT_PX)
        self.widget.connect("textChanged()", self._written)

    def _written(self) -> None:
        if not self._filling:
            parameters, text = self.session.logic.parameters, str(self.widget.plainText)
            parameters.texts = {**parameters.texts, self.name: text}
            self.session.on_refresh()

    def show(self) -> None:
        text = self.session.logic.parameters.texts.get(self.name, "")
        if self.widget.plainText != text:  # while it is typed they are equal
            self._filling = True
            self.widget.setPlainText(text)
            self._filling = False


class InputsPanel:
    """Binds the rows to the parameters. A system with other inputs needs no other panel."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self.fields: dict[str, Union[NodeField, TextField]] = {}
        self._takes: tuple[Take, ...] = ()
        self._body: Any = None

    def _build(self) -> None:
        if self._body is not None:
            self._body.setParent(None)
            self._body.deleteLater()
        self._body, self.fields = qt.QWidget(), {}
        rows = qt.QFormLayout(self._body)
        rows.setContentsMargins(0, 0, 0, 0)
        for take in self._takes:
            field = (TextField if take.kind == "text" else NodeField)(take, self.session)
            field.widget.objectName = f"input.{take.name}"
            field.widget.toolTip = f"{take.about[:1].upper()}{take.about[1:]}. {HOW[take.kind]}"
            self.fields[take.name] = field
            rows.addRow(f"{title(take)}:", field.widget)
        self.ui.inputsFrame.layout().addWidget(self._body)

    def refresh(self) -> None:
        if self.session.takes != self._takes:
            self._takes = self.session.takes
            self._build()
        for field in self.fields.values():
            field.show()
        self.ui.inputsFrame.setVisible(bool(self.fields))
        self.ui.inputsFrame.enabled = not self.session.busy
