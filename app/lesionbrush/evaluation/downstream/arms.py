"""What each network is trained on: real lesions, and something more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.downstream.made import MadePair
from lesionbrush.evaluation.downstream.samples import LesionBox, real_sample

MOST = 2.0
"""Lesions added for each real one, at most."""


@dataclass(frozen=True, eq=False)
class Material:
    """Of one share of the real lesions. donors: those; pairs: `MOST` for each of them at most, made of their
    shapes; held_back: real ones beyond the share."""

    donors: Sequence[Nodule]
    pairs: Sequence[MadePair]
    held_back: Sequence[Nodule]

    @cached_property
    def real(self) -> list[LesionBox]:
        return [real_sample(one) for one in self.donors]

    def made(self, times: float) -> list[LesionBox]:
        return [pair.made for pair in self.pairs[: self._count(times)]]

    def pasted(self, times: float) -> list[LesionBox]:
        return [pair.pasted for pair in self.pairs[: self._count(times)]]

    def more_real(self, times: float) -> list[LesionBox]:
        return [real_sample(one) for one in self.held_back[: self._count(times)]]

    def _count(self, times: float) -> int:
        return round(times * len(self.donors))


REAL = "real"
ARMS: dict[str, Callable[[Material], list[LesionBox]]] = {
    REAL: lambda m: m.real,
    "real + made 100 %": lambda m: m.real + m.made(1.0),
    "real + made 200 %": lambda m: m.real + m.made(2.0),
    "real + pasted 200 %": lambda m: m.real + m.pasted(2.0),
    "real + more real 200 %": lambda m: m.real + m.more_real(2.0),
    "made 200 % alone": lambda m: m.made(2.0),
}


def choose_patients(nodules: Sequence[Nodule], share: float) -> tuple[list[Nodule], list[Nodule]]:
    """Nodules of about such a share of patients, and all others; a smaller share is part of a larger one."""
    patients = np.random.default_rng(0).permutation(sorted({one.patient for one in nodules}))
    chosen = set(patients[: max(1, round(share * len(patients)))].tolist())
    mine = [one for one in nodules if one.patient in chosen]
    others = [one for one in nodules if one.patient not in chosen]
    order = np.random.default_rng(1).permutation(len(others))
    return mine, [others[k] for k in order]
