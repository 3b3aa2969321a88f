"""What an evaluation says: typed, so that the JSON is a promise and the HTML page only shows it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lesionbrush.evaluation.statistics import Estimate


class Typed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Goal(Typed):
    """What the figure should reach."""

    limit: float
    at_most: bool

    def is_met(self, value: float | None) -> bool | None:
        """None where there is no figure."""
        if value is None:
            return None
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


def at_most(limit: float) -> Goal:
    return Goal(limit=limit, at_most=True)


def at_least(limit: float) -> Goal:
    return Goal(limit=limit, at_most=False)


class Figure(Typed):
    """One figure. floor: the same measured on real nodules alone, where that can be done."""

    name: str
    what: str
    unit: str
    value: Estimate
    floor: Estimate | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        return self.goal.is_met(self.value.value) if self.goal else None


class Table(Typed):
    """Figures that belong side by side; cells are text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Picture(Typed):
    """A PNG in the folder of the report."""

    file: str
    caption: str


class Section(Typed):
    """One question that was asked of the model. seconds: what answering took."""

    name: str
    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    seconds: float = 0.0


class Report(Typed):
    """All of it. quick: made with few nodules; its intervals are wide."""

    model: str
    weights_sha256: str
    trained: dict[str, float]
    created: str
    quick: bool
    nodules: int
    patients: int
    seconds: float
    machine: str
    sections: tuple[Section, ...]

    def figure(self, name: str) -> Figure:
        """KeyError when there is none of that name."""
        found = {figure.name: figure for section in self.sections for figure in section.figures}
        return found[name]
