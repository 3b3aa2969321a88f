"""The controls of a schema-made form. Knows kinds of fields, no model and no attribute by name."""

from typing import Any, Callable, Optional, Union

import ctk
import numpy as np
import qt

from .schema_form import CHOICE, SLIDER, SWITCH, TEXT, WHOLE, Field, Form, Path, Values, choice_words

OPEN = "left to the model"
LARGEST_INT = 2**31 - 1
FIRST = ("seed", "variants", "quality", "steps")
CLEARER = {"steps": "Steps"}
OPEN_WORDS = {"quality": "as steps says"}
Control = Union["ChoiceControl", "NumberControl", "TextControl"]


class ChoiceControl:
    """A list of words; when the field is optional the first leaves it to the model."""

    def __init__(self, field: Field, changed: Callable[[], None]) -> None:
        values = [False, True] if field.kind == SWITCH else list(field.choices)
        words = ["no", "yes"] if field.kind == SWITCH else [choice_words(choice) for choice in field.choices]
        self.values: list[Any] = [None, *values] if field.optional else values
        self.widget = qt.QComboBox()
        for word in [OPEN_WORDS.get(field.name, OPEN), *words] if field.optional else words:
            self.widget.addItem(word)
        self.widget.connect("currentIndexChanged(int)", lambda index: changed())

    def get(self) -> Any:
        return self.values[max(self.widget.currentIndex, 0)]

    def put(self, value: Any) -> None:
        self.widget.currentIndex = self.values.index(value) if value in self.values else 0


class NumberControl:
    """A slider where both ends are known, else a number field; a tick box in front when it may stay open."""

    def __init__(self, field: Field, changed: Callable[[], None]) -> None:
        self.field = field
        self.number = _number(field)
        self.number.connect(
            f"valueChanged({'int' if field.kind == WHOLE else 'double'})", lambda value: changed()
        )
        self.given: Any = None
        self.widget = self.number
        if field.optional:
            self.widget = qt.QWidget()
            row = qt.QHBoxLayout(self.widget)
            row.setContentsMargins(0, 0, 0, 0)
            self.given = qt.QCheckBox()
            self.given.toolTip = f"Unticked: {OPEN}"
            self.given.connect("toggled(bool)", self._toggled)
            self._changed = changed
            row.addWidget(self.given)
            row.addWidget(self.number, 1)

    def _toggled(self, on: bool) -> None:
        self.number.enabled = on
        self._changed()

    def get(self) -> Any:
        if self.given is not None and not self.given.checked:
            return None
        return int(self.number.value) if self.field.kind == WHOLE else float(self.number.value)

    def put(self, value: Any) -> None:
        if self.given is not None:
            self.given.checked = value is not None
            self.number.enabled = value is not None
        self.number.value = self.field.start if value is None else value


class TextControl:
    """A line of text; empty leaves it to the model where that is allowed."""

    def __init__(self, field: Field, changed: Callable[[], None]) -> None:
        self.optional = field.optional
        self.widget = qt.QLineEdit()
        self.widget.placeholderText = OPEN if field.optional else ""
        self.widget.connect("textEdited(QString)", lambda text: changed())

    def get(self) -> Optional[str]:
        return None if self.optional and not self.widget.text else str(self.widget.text)

    def put(self, value: Any) -> None:
        self.widget.text = value or ""


def _control(field: Field, changed: Callable[[], None]) -> Control:
    if field.kind in (CHOICE, SWITCH):
        return ChoiceControl(field, changed)
    if field.kind == TEXT:
        return TextControl(field, changed)
    return NumberControl(field, changed)


def _number(field: Field) -> Any:
    """The widget for one number, its range and step set before its value."""
    if field.kind == WHOLE:
        box = qt.QSpinBox()
        box.minimum = _whole(field.minimum, -LARGEST_INT)
        box.maximum = _whole(field.maximum, LARGEST_INT)
    elif field.kind == SLIDER:
        box = ctk.ctkSliderWidget()
        box.decimals = 0 if field.step >= 1 else 2 if field.step < 0.1 else 1
        box.minimum, box.maximum = field.minimum, field.maximum
        box.singleStep = field.step
        box.pageStep = field.step * 10
    else:
        box = qt.QDoubleSpinBox()
        box.decimals = 3
        box.minimum = -1e9 if field.minimum is None else field.minimum
        box.maximum = 1e9 if field.maximum is None else field.maximum
    if field.unit:
        box.suffix = f" {field.unit}"
    return box


def _whole(value: Optional[float], otherwise: int) -> int:
    return otherwise if value is None else int(max(-LARGEST_INT, min(LARGEST_INT, value)))


class FormView:
    """Fills two frames with the controls of a form: what describes the lesion, and, folded away, the rest.

    changed: called with all values after the user changed one; generator: for new seeds.
    """

    def __init__(
        self, main: Any, more: Any, changed: Callable[[Values], None], generator: np.random.Generator
    ) -> None:
        self._frames, self._changed, self._generator = (main, more), changed, generator
        self._bodies: list[Any] = []
        self._filling = False
        self.form: Optional[Form] = None
        self.controls: dict[Path, Control] = {}

    def build(self, form: Optional[Form]) -> None:
        """Replace all controls. None: no model is chosen, no controls."""
        for body in self._bodies:
            body.setParent(None)
            body.deleteLater()
        self._bodies, self.controls, self.form = [], {}, form
        if form is None:
            return
        layouts = []
        for frame in self._frames:
            body = qt.QWidget()
            layouts.append(qt.QFormLayout(body))
            layouts[-1].setContentsMargins(0, 0, 0, 0)
            frame.layout().addWidget(body)
            self._bodies.append(body)
        self._filling = True
        for field in sorted(form, key=_place):
            self._add(field, layouts[0 if len(field.path) > 1 or field.name in FIRST else 1])
        self._filling = False
        self._grey()

    def _add(self, field: Field, layout: Any) -> None:
        control = _control(field, self._edited)
        control.put(field.default)
        control.widget.toolTip = field.hint
        control.widget.objectName = f"field.{field.name}"
        self.controls[field.path] = control
        layout.addRow(f"{CLEARER.get(field.name, field.label)}:", self._with_dice(field, control))

    def _with_dice(self, field: Field, control: Control) -> Any:
        """A seed gets a button that draws another one."""
        if field.path[-1] != "seed" or field.kind != WHOLE:
            return control.widget
        frame = qt.QWidget()
        row = qt.QHBoxLayout(frame)
        row.setContentsMargins(0, 0, 0, 0)
        button = qt.QPushButton("New")
        button.objectName = "newSeedButton"
        button.toolTip = "Another random seed: another lesion of the same kind"
        low, high = _whole(field.minimum, 0), _whole(field.maximum, LARGEST_INT)
        button.connect("clicked()", lambda: control.put(int(self._generator.integers(low, high))))
        row.addWidget(control.widget, 1)
        row.addWidget(button)
        return frame

    def _edited(self) -> None:
        if not self._filling:
            self._grey()
            self._changed(self.values())

    def _grey(self) -> None:
        """What another field decides cannot be set; it keeps its value for when that one is open again."""
        decided = self.form.decided(self.values()) if self.form is not None else {}
        for field in self.form or ():
            control, by = self.controls[field.path], decided.get(field.path)
            control.widget.enabled = by is None
            control.widget.toolTip = field.hint if by is None else _decided_words(by)

    def values(self) -> Values:
        return {path: control.get() for path, control in self.controls.items()}

    def show(self, values: Values) -> None:
        """Set the controls without telling anybody; equal values are left alone, so typing goes on."""
        self._filling = True
        for path, control in self.controls.items():
            if path in values and control.get() != values[path]:
                control.put(values[path])
        self._filling = False
        self._grey()

    def enable(self, on: bool) -> None:
        for body in self._bodies:
            body.enabled = on


def _place(field: Field) -> int:
    """The lesion first, then those of FIRST as they stand there; the server's order otherwise."""
    if len(field.path) > 1:
        return -1
    return FIRST.index(field.name) if field.name in FIRST else len(FIRST)


def _decided_words(by: Field) -> str:
    return f"Not sent: {by.label} decides. Choose “{OPEN_WORDS.get(by.name, OPEN)}” there to set it here."
