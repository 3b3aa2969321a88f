"""Do these tensors fit that network? Compared by name and by shape, and said so that one can act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 5
"""Names told per kind of misfit; the others are counted."""


@dataclass(frozen=True)
class Fit:
    """What keeps tensors from fitting a network. Nothing in it: they fit, with none left over.

    missing: names the network wants. unknown: names it has no place for.
    shapes: (name, the shape found, the shape wanted).
    """

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def __bool__(self) -> bool:
        return not (self.missing or self.unknown or self.shapes)

    def report(self) -> str:
        """One sentence per kind of misfit; empty when all fits."""
        shapes = [
            f"{name} is {_times(found)} instead of {_times(wanted)}" for name, found, wanted in self.shapes
        ]
        parts = (("of another shape", shapes), ("missing", self.missing), ("not known", self.unknown))
        return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in parts if names)


def compare(found: Shapes, wanted: Shapes) -> Fit:
    """Misfits in the order of the names."""
    both = sorted(found.keys() & wanted.keys())
    shapes = ((name, tuple(found[name]), tuple(wanted[name])) for name in both)
    return Fit(
        tuple(sorted(wanted.keys() - found.keys())),
        tuple(sorted(found.keys() - wanted.keys())),
        tuple(shape for shape in shapes if shape[1] != shape[2]),
    )


def _some(names: Iterable[str]) -> str:
    told = list(names)
    more = len(told) - SHOWN
    return ", ".join(told[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
