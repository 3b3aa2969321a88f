"""The form of a request, made from the JSON schema a server sends. Knows no Qt, and no model by name.

Every field has a path such as ("attributes", "texture") and a kind that says which control suits it. A field
the server lets open may be None: then the model decides.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

Path = tuple[str, ...]
Values = dict[Path, Any]

CHOICE, SLIDER, NUMBER, WHOLE, SWITCH, TEXT = "choice", "slider", "number", "whole", "switch", "text"
UNITS = {"hu": "HU", "mm": "mm", "s": "s", "ml": "ml"}
SLIDER_STEPS = 100
DEEPEST = 8
DECIDED_BY: dict[Path, Path] = {("steps",): ("quality",)}
"""Fields that another one, where it may be open and is not, speaks for."""


@dataclass(frozen=True)
class Field:
    """One value a user may choose.

    optional: None is allowed and leaves it to the model; minimum, maximum: inclusive, None where unbounded;
    hint: one sentence of the server's own; unit: such as HU, or empty.
    """

    path: Path
    kind: str
    label: str
    unit: str
    hint: str
    default: Any
    optional: bool
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def step(self) -> float:
        """A comfortable step of a slider: about a hundredth of its range."""
        if self.minimum is None or self.maximum is None or self.kind == WHOLE:
            return 1.0
        width = (self.maximum - self.minimum) / SLIDER_STEPS
        return next((step for step in (0.01, 0.1, 1.0) if width <= step), 10.0)

    @property
    def start(self) -> Any:
        """What the control shows when a field that was open is given a value."""
        if self.default is not None:
            return self.default
        if self.kind in (SLIDER, NUMBER, WHOLE):
            low, high = self.minimum, self.maximum
            middle = (low + high) / 2 if low is not None and high is not None else (low or high or 0)
            return int(middle) if self.kind == WHOLE else middle
        return {CHOICE: self.choices[0] if self.choices else None, SWITCH: False, TEXT: ""}[self.kind]

    def problem(self, value: Any) -> Optional[str]:
        """Why a value cannot be sent, in words for the user; None when it can."""
        if value is None:
            return None if self.optional else f"{self.label}: choose a value"
        if self.kind == CHOICE:
            known = ", ".join(self.choices)
            return None if value in self.choices else f"{self.label}: {value!r} is none of {known}"
        if self.kind == SWITCH:
            return None if isinstance(value, bool) else f"{self.label}: {value!r} is neither yes nor no"
        if self.kind == TEXT:
            return None if isinstance(value, str) else f"{self.label}: {value!r} is no text"
        return self._number_problem(value)

    def _number_problem(self, value: Any) -> Optional[str]:
        whole = self.kind == WHOLE
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            return f"{self.label}: {value!r} is no {'whole ' if whole else ''}number"
        low = "-∞" if self.minimum is None else f"{self.minimum:g}"
        high = "∞" if self.maximum is None else f"{self.maximum:g}"
        inside = (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )
        return None if inside else f"{self.label}: {value:g} is outside {low} to {high}"


class Form:
    """All fields of one model's schema.

    hidden: paths the program fills in itself; left_out: names of values this form has no control for, which
    keep the server's default.
    """

    def __init__(self, schema: Mapping[str, Any], hidden: tuple[Path, ...] = ()) -> None:
        self.left_out: list[str] = []
        self.hidden = hidden
        definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
        defaults = schema.get("default")
        given = defaults if isinstance(defaults, Mapping) else {}
        self.fields = _told_apart(list(self._walk(schema, definitions, (), given)))

    def _walk(
        self, schema: Mapping[str, Any], definitions: Mapping[str, Any], path: Path, given: Mapping[str, Any]
    ) -> Iterator[Field]:
        required = set(schema.get("required", ()))
        for name, raw in schema.get("properties", {}).items():
            at = (*path, name)
            if at in self.hidden:
                continue
            part, optional = _resolved(raw, definitions)
            default = given.get(name, part.get("default"))
            if "properties" in part and len(at) < DEEPEST:
                inner = default if isinstance(default, Mapping) else {}
                yield from self._walk(part, definitions, at, inner)
                continue
            field = _field(at, part, default, optional)
            if field is None:
                self.left_out.append(".".join(at))
            elif field.default is None and not optional and name not in required:
                yield _field(at, {**part, "default": field.start}, field.start, optional) or field
            else:
                yield field

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def field(self, *path: str) -> Optional[Field]:
        return next((field for field in self.fields if field.path == path), None)

    def defaults(self) -> Values:
        """What the server would use by itself."""
        return {field.path: field.default for field in self.fields}

    def decided(self, values: Mapping[Path, Any]) -> dict[Path, Field]:
        """Fields that are not asked for, with the one that was chosen instead: steps, by a quality."""
        found = {path: self.field(*other) for path, other in DECIDED_BY.items() if self.field(*path)}
        return {
            path: other
            for path, other in found.items()
            if other is not None and other.optional and values.get(other.path, other.default) is not None
        }

    def problems(self, values: Mapping[Path, Any]) -> list[str]:
        """Everything that is wrong with the values that are sent, in the order of the form."""
        found = (field.problem(values.get(field.path, field.default)) for field in self._asked(values))
        return [problem for problem in found if problem]

    def params(self, values: Mapping[Path, Any]) -> dict[str, Any]:
        """The values as the server takes them: nested, with every field named that no other one decides."""
        nested: dict[str, Any] = {}
        for field in self._asked(values):
            at = nested
            for key in field.path[:-1]:
                at = at.setdefault(key, {})
            at[field.path[-1]] = values.get(field.path, field.default)
        return nested

    def _asked(self, values: Mapping[Path, Any]) -> list[Field]:
        decided = self.decided(values)
        return [field for field in self.fields if field.path not in decided]

    def values(self, params: Mapping[str, Any]) -> Values:
        """The fields' values from nested parameters; what is missing or does not fit is the default."""
        return {field.path: _found(params, field) for field in self.fields}


def _told_apart(fields: "list[Field]") -> "tuple[Field, ...]":
    """Labels that occur twice get the name of their group in front: `Anatomy: stop`."""
    count = Counter(field.label for field in fields)

    def label(field: Field) -> str:
        if len(field.path) == 1 or count[field.label] == 1:
            return field.label
        group, _ = _words(field.path[-2], None)
        return f"{group}: {field.label[:1].lower()}{field.label[1:]}"

    return tuple(replace(field, label=label(field)) for field in fields)


def _found(params: Mapping[str, Any], field: Field) -> Any:
    at: Any = params
    for key in field.path:
        if not isinstance(at, Mapping) or key not in at:
            return field.default
        at = at[key]
    return field.default if field.problem(at) else at


def _resolved(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> "tuple[dict[str, Any], bool]":
    """A schema without references and `anyOf` with null; and whether null is allowed."""
    part, optional = dict(raw), False
    for _ in range(DEEPEST):
        options = part.pop("anyOf", None) or part.pop("oneOf", None) or part.pop("allOf", None)
        if options:
            real = [option for option in options if option.get("type") != "null"]
            optional = optional or len(real) < len(options)
            part = {**(real[0] if len(real) == 1 else {}), **part}
        elif "$ref" in part:
            target = definitions.get(str(part.pop("$ref")).rpartition("/")[2], {})
            part = {**target, **part}
        else:
            break
    kinds = part.get("type")
    if isinstance(kinds, list):
        optional = optional or "null" in kinds
        rest = [kind for kind in kinds if kind != "null"]
        part["type"] = rest[0] if len(rest) == 1 else None
    return part, optional


def _field(path: Path, part: Mapping[str, Any], default: Any, optional: bool) -> Optional[Field]:
    """The field for one resolved schema, or None when no control suits it."""
    label, unit = _words(path[-1], part.get("title"))
    choices = tuple(part["enum"]) if "enum" in part else (part["const"],) if "const" in part else ()
    if choices and not all(isinstance(choice, str) for choice in choices):
        return None
    minimum, maximum = _bounds(part)
    kinds = {"boolean": SWITCH, "integer": WHOLE, "string": TEXT, "number": NUMBER}
    kind = CHOICE if choices else kinds.get(str(part.get("type")))
    if kind is None:
        return None
    if kind == NUMBER and minimum is not None and maximum is not None:
        kind = SLIDER
    hint = str(part.get("description", ""))
    return Field(path, kind, label, unit, hint, default, optional, minimum, maximum, choices)


def _bounds(part: Mapping[str, Any]) -> "tuple[Optional[float], Optional[float]]":
    """Inclusive ends. An excluded end moves in: by 1 for whole numbers, by a millionth for others."""

    def inward(value: float) -> float:
        return 1 if part.get("type") == "integer" else max(abs(value), 1.0) * 1e-6

    low, high = part.get("minimum"), part.get("maximum")
    if part.get("exclusiveMinimum") is not None:
        low = part["exclusiveMinimum"] + inward(part["exclusiveMinimum"])
    if part.get("exclusiveMaximum") is not None:
        high = part["exclusiveMaximum"] - inward(part["exclusiveMaximum"])
    return low, high


def _words(name: str, title: Optional[str]) -> "tuple[str, str]":
    """`mean_hu` -> ("Mean", "HU"). A title that the server did not just make from the name is kept."""
    parts = name.split("_")
    if title and title.lower().replace(" ", "_") != name.lower():
        return title, UNITS.get(parts[-1].lower(), "") if len(parts) > 1 else ""
    unit = UNITS.get(parts[-1].lower(), "") if len(parts) > 1 else ""
    return " ".join(parts[:-1] if unit else parts).capitalize(), unit


def choice_words(choice: str) -> str:
    """`ground_glass` -> "ground glass"."""
    return choice.replace("_", " ")
