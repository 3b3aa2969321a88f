"""5. Compare: side by side in three windows, flicker, difference, variants as thumbnails."""

from typing import Any

import qt

from ..logic.compare import ORIENTATIONS
from ..logic.layout import WINDOWS_OF
from .pictures import pixmap, png_bytes
from .session import Session

THUMBNAIL_PX = 96
WINDOWS = ("", *WINDOWS_OF)
"""As the box lists them; the first is by the tissue around the lesion."""
STATES = {"new": "", "accepted": "accepted", "saved": "saved", "discarded": "discarded"}


class ComparePanel:
    """Buttons for the logic's comparison and variants. Painting goes on while comparing."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self._refreshing = False
        self._listed: Any = None
        ui.compareButton.connect("toggled(bool)", self._compare)
        ui.flickerButton.connect("clicked()", lambda: session.guard(self.flicker))
        ui.jumpButton.connect("clicked()", lambda: session.guard(self.jump))
        ui.outlineCheck.connect("toggled(bool)", self._outline)
        ui.differenceCheck.connect("toggled(bool)", self._difference)
        for name in ORIENTATIONS:
            ui.orientationBox.addItem(name)
        ui.orientationBox.connect("currentIndexChanged(int)", self._orientation)
        for name in WINDOWS:
            ui.windowsBox.addItem(name.capitalize() or "By the organ")
        ui.windowsBox.connect("currentIndexChanged(int)", self._windows)
        ui.previousButton.connect("clicked()", lambda: session.guard(lambda: self.step(-1)))
        ui.nextButton.connect("clicked()", lambda: session.guard(lambda: self.step(1)))
        ui.variantList.connect("currentRowChanged(int)", self._picked)

    @property
    def active(self) -> bool:
        return bool(self.session.logic.comparison.active)

    @property
    def _flickering(self) -> bool:
        return self.active and bool(self.session.logic.comparison.flickering)

    def _compare(self, on: bool) -> None:
        if not self._refreshing and on != self.active:
            self.session.guard(lambda: self.compare(on))

    def compare(self, on: bool) -> None:
        """Into the two-by-three layout, or back to the one before it."""
        self.session.logic.compare(on)

    def toggle(self) -> None:
        self.compare(not self.active)

    def flicker(self) -> None:
        """Show the reference where the synthetic CT was, and the other way round."""
        if self.active and self.session.logic.variants is not None:
            self.session.logic.comparison.flicker()

    def jump(self) -> None:
        if self.active:
            self.session.logic.jump_to_lesion()

    def _outline(self, on: bool) -> None:
        if not self._refreshing:
            self.session.guard(lambda: self.set_outline(on))

    def set_outline(self, on: bool) -> None:
        self.session.logic.set_outline(on)

    def _difference(self, on: bool) -> None:
        if not self._refreshing:
            self.session.guard(lambda: self.set_difference(on))

    def set_difference(self, on: bool) -> None:
        self.session.logic.set_difference(on)

    def _orientation(self, index: int) -> None:
        if not self._refreshing:
            self.session.guard(lambda: self.session.logic.set_orientation(ORIENTATIONS[index]))

    def _windows(self, index: int) -> None:
        if not self._refreshing:
            self.session.guard(lambda: self.session.logic.set_windows(WINDOWS[index]))

    def step(self, by: int) -> None:
        """The next variant, or the one before."""
        logic = self.session.logic
        if logic.variants is not None:
            (logic.next if by > 0 else logic.previous)()

    def _picked(self, row: int) -> None:
        variants = self.session.logic.variants
        if self._refreshing or row < 0 or variants is None or row == variants.index:
            return
        self.session.guard(lambda: self.session.logic.show(row))

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        variants, active = session.logic.variants, self.active
        self._refreshing = True
        self._list(variants)
        chosen, comparison = session.logic.parameters, session.logic.comparison
        ui.compareButton.enabled = active or chosen.reference is not None or chosen.synthetic is not None
        ui.compareButton.checked = active
        ui.compareButton.text = "Back to the former layout" if active else "Compare side by side"
        several = variants is not None and sum(v.state != "discarded" for v in _all(variants)) > 1
        ui.previousButton.enabled = ui.nextButton.enabled = several
        ui.flickerButton.enabled = active and variants is not None and comparison.synthetic is not None
        ui.flickerButton.checked = self._flickering
        ui.jumpButton.enabled = active
        ui.outlineCheck.checked = session.logic.parameters.outline
        ui.differenceCheck.checked = session.logic.parameters.difference
        if session.logic.parameters.orientation in ORIENTATIONS:
            ui.orientationBox.currentIndex = ORIENTATIONS.index(session.logic.parameters.orientation)
        if session.logic.parameters.windows in WINDOWS:
            ui.windowsBox.currentIndex = WINDOWS.index(session.logic.parameters.windows)
        ui.differenceCheck.enabled = variants is not None and variants.reference is not None
        ui.variantLabel.text = "Nothing to compare yet." if variants is None else self._words(variants)
        self._refreshing = False

    def _words(self, variants: Any) -> str:
        words = f"Shown: {variants.current.title}"
        return f"{words}. Now the ORIGINAL is in both columns." if self._flickering else f"{words}."

    def _list(self, variants: Any) -> None:
        """Thumbnails are drawn once per answer; titles and states are kept up to date."""
        widget = self.ui.variantList
        if variants is not self._listed:
            self._listed = variants
            widget.clear()
            for index in range(len(variants) if variants is not None else 0):
                picture = pixmap(png_bytes(variants.thumbnail(index, THUMBNAIL_PX)))
                widget.addItem(qt.QListWidgetItem(qt.QIcon(picture), ""))
        if variants is None:
            return
        for index, variant in enumerate(_all(variants)):
            state = STATES.get(variant.state, variant.state)
            item = widget.item(index)
            item.setText(f"{variant.title}\n{state}".strip())
            item.setToolTip(f"{variant.title} {state}".strip())
            item.setHidden(variant.state == "discarded")
        if variants.current.state != "discarded":
            widget.setCurrentRow(variants.index)


def _all(variants: Any) -> list[Any]:
    return [variants[index] for index in range(len(variants))]
