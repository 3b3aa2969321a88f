"""Of 4. Synthesize: a node for each volume that the chosen model takes beside CT and mask."""

from typing import Any, Callable

from .session import Session


class InputsPanel:
    """Binds the selectors to the parameters; only those of the chosen model are shown."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self._refreshing = False
        self._rows = {
            "lungs": (ui.lungsLabel, ui.lungsSelector),
            "anatomy": (ui.anatomyLabel, ui.anatomySelector),
            "pathology": (ui.pathologyLabel, ui.pathologySelector),
            "pathology_mask": (ui.pathologyMaskLabel, ui.pathologyMaskSelector),
        }
        for name, (_, selector) in self._rows.items():
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._chooser(name))

    def _chooser(self, name: str) -> Callable[[Any], None]:
        def chosen(node: Any) -> None:
            if not self._refreshing:
                self.session.guard(lambda: setattr(self.session.logic.parameters, name, node))

        return chosen

    def refresh(self) -> None:
        session, parameters = self.session, self.session.logic.parameters
        self._refreshing = True
        for name, (label, selector) in self._rows.items():
            for widget in (label, selector):
                widget.setVisible(name in session.inputs)
            node = getattr(parameters, name)
            if selector.currentNode() is not node:
                selector.setCurrentNode(node)
        self._refreshing = False
        self.ui.inputsFrame.setVisible(any(name in session.inputs for name in self._rows))
        self.ui.inputsFrame.enabled = not session.busy
