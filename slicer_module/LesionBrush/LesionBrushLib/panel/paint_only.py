"""Of 3. Paint: where the brush may paint, and how far tissue like that at the crosshair reaches."""

from typing import Any

from ..logic.paint_only import ANYWHERE, LIKE, LUNG, SEGMENT, PaintOnly, segments_to_paint_in
from .session import Session

WORDS = {
    ANYWHERE: "Paint anywhere",
    LUNG: "Paint only in lung",
    LIKE: "Paint only in tissue like that at the crosshair",
}


class PaintOnlyPanel:
    """Writes to the Segment Editor's node when the choice changes, so that its own masking can be changed."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self._refreshing = False
        self._places: list[tuple[str, str, str]] = []
        self._put: tuple[Any, PaintOnly] = (None, PaintOnly())
        ui.paintInBox.connect("currentIndexChanged(int)", self._chosen)
        ui.likeSlider.connect("valueChanged(double)", self._width_changed)
        ui.likeButton.connect("clicked()", lambda: session.guard(lambda: session.logic.paint_in(LIKE)))

    def _chosen(self, index: int) -> None:
        if not self._refreshing and 0 <= index < len(self._places):
            kind, segment, _ = self._places[index]
            self.session.guard(lambda: self.session.logic.paint_in(kind, segment))

    def _width_changed(self, hu: float) -> None:
        if not self._refreshing:
            self.session.logic.parameters.like_width_hu = float(hu)
            self.session.on_refresh()

    def refresh(self, editor_node: Any) -> None:
        """Bring list, slider and the Segment Editor's node in line with the parameters."""
        ui, logic = self.ui, self.session.logic
        chosen, only = logic.parameters, logic.paint_only()
        self._refreshing = True
        self._fill()
        kind = SEGMENT if only.segment_id else ANYWHERE if chosen.paint_in == SEGMENT else chosen.paint_in
        places = [place[:2] for place in self._places]
        at = (kind, only.segment_id)
        ui.paintInBox.currentIndex = places.index(at) if at in places else 0
        ui.likeSlider.value = chosen.like_width_hu
        self._refreshing = False
        ui.paintInBox.enabled = chosen.reference is not None
        ui.likeFrame.setVisible(kind == LIKE)
        ui.likeLabel.text = f"{only.hu[0]:.0f} to {only.hu[1]:.0f} HU" if only.hu and kind == LIKE else ""
        node, said = self._put
        if editor_node is not None and (said != only or (node is not editor_node and only != PaintOnly())):
            only.put(editor_node)
        self._put = (editor_node, only)

    def _fill(self) -> None:
        inside = segments_to_paint_in(self.session.logic.parameters)
        places = [(kind, "", words) for kind, words in WORDS.items()]
        places += [(SEGMENT, one, f"Paint only inside {name}") for one, name in inside.items()]
        if places != self._places:
            self._places = places
            self.ui.paintInBox.clear()
            for _, _, words in places:
                self.ui.paintInBox.addItem(words)
