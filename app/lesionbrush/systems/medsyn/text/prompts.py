"""What a network of whole chests is trained on: a few words, as a user would type them, or a whole report.

Both say what was measured, by the limits of `reports.writing`; short prompts leave out what was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lesionbrush.reports.findings import ChestFindings
from lesionbrush.reports.writing import (
    EMPHYSEMA_PERCENT,
    LEAST_DENSE_ML,
    WIDE_HEART,
    size_of_effusion,
    write_report,
)
from lesionbrush.systems.medsyn.text import phrases
from lesionbrush.systems.medsyn.text.phrases import Statement
from lesionbrush.systems.medsyn.text.vocabulary import split

LONGEST = 127
"""Tokens of a prompt, less than what the default encoder takes by [CLS]."""
REPORT_SHARE, DROP_PART = 0.25, 0.35
NUMBER_SHARE, FIRST_SHARE, COMPLETE_SHARE = 0.1, 0.25, 0.6
LUNG_ML = {"right": (1500.0, 3300.0), "left": (1250.0, 2900.0)}
"""Below the first a lung is small, above the second it is large."""
MARKED_HEART = 0.6
LARGE_DENSE_ML = 150.0
SIDES = ("right", "left")


def write_prompt(findings: ChestFindings, generator: np.random.Generator) -> str:
    """One to three short statements, or a report with parts left out; empty when nothing was measured.

    Never longer than LONGEST tokens. Equal generators give equal texts.
    """
    if generator.random() >= REPORT_SHARE:
        return write_short(findings, generator)
    drop = DROP_PART
    while len(split(text := write_report(findings, generator, drop=drop))) > LONGEST:
        drop = min(1.0, drop + 0.05)
    return text or write_short(findings, generator)


def write_short(findings: ChestFindings, generator: np.random.Generator) -> str:
    """One to three statements, or all that is ill; mostly without numbers."""
    return _Prompt(findings, generator).write()


def is_measured(findings: ChestFindings) -> bool:
    """All that prompts speak of: without it, none can say "otherwise normal"."""
    names = ("right_lung_ml", "left_lung_ml", "laa950_percent", "cardiothoracic_ratio")
    more = ("effusion_right_ml", "effusion_left_ml", "consolidation_ml")
    return all(getattr(findings, name).value is not None for name in (*names, *more))


class _Prompt:
    def __init__(self, findings: ChestFindings, generator: np.random.Generator) -> None:
        self._findings, self._generator = findings, generator

    def write(self) -> str:
        said = self.statements()
        if not said:
            return ""
        ill = [one for one in said if not one.normal]
        if len(ill) <= 3 and self._chance(0.15 if ill else 0.5) and is_measured(self._findings):
            rest = self._pick(phrases.OTHERWISE if ill else phrases.NORMAL)
            return self._finish([*map(self._say, ill), rest])
        return self._finish(self._join(self._choose(said)))

    def statements(self) -> list[Statement]:
        """All that is known, in the order of a report; each is drawn anew."""
        parts = (self._effusions, self._emphysema, self._heart, self._lungs, self._consolidation)
        return [one for part in parts for one in part()]

    def _choose(self, said: Sequence[Statement]) -> list[Statement]:
        """All that is ill, or one to three statements, what is ill twice as often: of a text that leaves out
        half of what is there a network learns little."""
        ill = [one for one in said if not one.normal]
        if ill and self._chance(COMPLETE_SHARE):
            return ill
        count = min(len(said), 1 + self._chance(0.6) + self._chance(0.4))
        weights = np.array([1.0 if one.normal else 2.0 for one in said])
        places = self._generator.choice(len(said), count, replace=False, p=weights / weights.sum())
        return [said[int(k)] for k in places]

    def _join(self, chosen: Sequence[Statement]) -> list[str]:
        """Sentences without stops: one for each, or some of them in one."""
        absent = [one.said for one in chosen if one.absent]
        there = [one for one in chosen if not one.absent]
        if absent and there and not there[0].whole and self._chance(0.4):
            it = self._pick(phrases.BUT_NO).format(it=there[0].said, no=self._list(absent))
            return [it, *map(self._say, there[1:])]
        if len(absent) > 1 and self._chance(0.5):
            return [*map(self._say, there), f"no {self._list(absent)}"]
        if len(there) > 1 and not any(one.whole for one in there) and self._chance(0.4):
            it = self._pick(phrases.AND).format(it=there[0].said, also=there[1].said)
            return [it, *map(self._say, [*there[2:], *(one for one in chosen if one.absent)])]
        return [self._say(one) for one in chosen]

    def _list(self, nouns: Sequence[str]) -> str:
        """a, b or c; or each with its own "no"."""
        if self._chance(0.3):
            return ", no ".join(nouns)
        last = self._pick((" or ", " and ", " nor "))
        return last.join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))

    def _say(self, one: Statement) -> str:
        if one.whole:
            return one.said
        return self._pick(phrases.ABSENT if one.absent else phrases.PRESENT).format(it=one.said)

    def _finish(self, sentences: Sequence[str]) -> str:
        text = ". ".join(one[:1].upper() + one[1:] for one in sentences)
        return text if self._chance(0.2) else f"{text}."

    def _effusions(self) -> Iterator[Statement]:
        pairs = zip(SIDES, (self._findings.effusion_right_ml, self._findings.effusion_left_ml), strict=True)
        ml = {side: one.value for side, one in pairs if one.value is not None}
        there = {side: value for side, value in ml.items() if size_of_effusion(value) != "none"}
        if len(ml) == 2 and not there:
            it = self._pick(phrases.EFFUSION)
            if self._chance(0.25):
                it = self._pick(phrases.BOTH_SIDES).format(it=it)
            yield Statement(it, absent=True, normal=True)
        for side in ml:
            if side not in there and (there or len(ml) == 1 or self._chance(0.2)):
                yield Statement(self._on(side, self._pick(phrases.EFFUSION)), absent=True, normal=True)
        if len(there) == 2 and self._chance(0.5):
            yield Statement(self._bilateral(there))
            return
        for side, value in there.items():
            yield Statement(self._effusion_of(side, value, alone=len(ml) == 2 and len(there) == 1))

    def _effusion_of(self, side: str, ml: float, alone: bool) -> str:
        it = self._pick(phrases.EFFUSION)
        if self._chance(NUMBER_SHARE):
            amount = f"{ml / 1000:.1f} l" if ml >= 1000 and self._chance(0.5) else f"{ml:.0f} ml"
            it = f"{it} of {amount}"
        sized = f"{self._size(ml)} {it}" if self._chance(0.75) else it
        if alone and self._chance(0.1):
            return self._pick(phrases.ONE_SIDE).format(it=sized, side=side)
        if alone and self._chance(0.15):
            return sized
        where = self._on(side, it)
        return where if sized == it else f"{self._size(ml)} {where}"

    def _bilateral(self, ml: dict[str, float]) -> str:
        it = self._pick(phrases.BOTH_SIDES).format(it=self._pick(phrases.EFFUSION))
        sizes = {size_of_effusion(value) for value in ml.values()}
        if len(sizes) == 1 and self._chance(0.8):
            return f"{self._size(ml['right'])} {it}"
        more, less = sorted(SIDES, key=lambda side: -ml[side])
        if len(sizes) == 2 and self._chance(0.4):
            return self._pick(phrases.LARGER_ON).format(it=it, side=more, other=less)
        return it

    def _size(self, ml: float) -> str:
        return self._pick(phrases.SIZES[size_of_effusion(ml)])

    def _on(self, side: str, it: str) -> str:
        return self._pick(phrases.EFFUSION_ON).format(side=side, it=it)

    def _emphysema(self) -> Iterator[Statement]:
        percent = self._findings.laa950_percent.value
        if percent is None:
            return
        some, marked = EMPHYSEMA_PERCENT
        if percent < some:
            yield Statement(self._pick(phrases.NO_EMPHYSEMA), absent=True, normal=True)
        else:
            yield Statement(self._pick(phrases.EMPHYSEMA["some" if percent < marked else "marked"]))

    def _heart(self) -> Iterator[Statement]:
        ratio = self._findings.cardiothoracic_ratio.value
        if ratio is None:
            return
        if ratio > WIDE_HEART:
            graded = phrases.GRADED_HEART["some" if ratio <= MARKED_HEART else "marked"]
            yield Statement(self._pick(graded if self._chance(0.4) else phrases.CARDIOMEGALY))
        elif self._chance(0.5):
            yield Statement(self._pick(phrases.NO_CARDIOMEGALY), absent=True, normal=True)
        else:
            yield Statement(self._pick(phrases.NORMAL_HEART), normal=True)

    def _lungs(self) -> Iterator[Statement]:
        pairs = zip(SIDES, (self._findings.right_lung_ml, self._findings.left_lung_ml), strict=True)
        sizes = {side: size_of_lung(side, one.value) for side, one in pairs if one.value is not None}
        if len(sizes) == 2 and len(set(sizes.values())) == 1:
            size = sizes["right"]
            yield Statement(self._pick(phrases.LUNGS[size]), normal=size == "normal")
            return
        for side, size in sizes.items():
            if size != "normal":
                yield Statement(self._pick(phrases.ONE_LUNG[size]).format(side=side))

    def _consolidation(self) -> Iterator[Statement]:
        ml = self._findings.consolidation_ml.value
        if ml is None:
            return
        it = self._pick(phrases.CONSOLIDATION)
        if ml < LEAST_DENSE_ML:
            clear = self._chance(0.2)
            it = self._pick(phrases.CLEAR) if clear else it
            yield Statement(it, absent=not clear, normal=True)
            return
        size = "small" if ml < LARGE_DENSE_ML else "large"
        yield Statement(f"{self._pick(phrases.SIZES[size])} {it}" if self._chance(0.5) else it)

    def _chance(self, share: float) -> bool:
        return bool(self._generator.random() < share)

    def _pick(self, ways: Sequence[str]) -> str:
        """The first more often than any other."""
        return ways[0 if self._chance(FIRST_SHARE) else int(self._generator.integers(len(ways)))]


def size_of_lung(side: str, ml: float) -> str:
    """small, normal or large, by LUNG_ML."""
    small, large = LUNG_ML[side]
    return "small" if ml < small else "large" if ml > large else "normal"
