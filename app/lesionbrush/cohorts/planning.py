"""What a cohort will be, told before it is made: counts, disk, hours, some of its masks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from lesionbrush.cohorts.balancing import ShareLine, host_lines
from lesionbrush.cohorts.casting import PlannedCase, cast, list_donors
from lesionbrush.cohorts.draws import generator_for
from lesionbrush.cohorts.findings import PlacedLesion, place_lesions
from lesionbrush.cohorts.folder import CohortProblem
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.cohorts.workers import one_thread
from lesionbrush.core.boxes import bounding_box, dilate, hull
from lesionbrush.core.surroundings import Place
from lesionbrush.core.volume import Volume
from lesionbrush.errors import LesionBrushError
from lesionbrush.montage import Panel, badge_of, lesion_view, sheet, windows_for

SHOWN = 10
MARGIN_MM = 5.0
"""Of an edit with what is drawn beyond it, about: for the size of boxes."""
_FIELD_MM, _COLUMNS = 110.0, 5


@dataclass(frozen=True, eq=False)
class PreviewedCase:
    """A case that was planned in full. seconds: to read its reference and to place its lesions."""

    case: PlannedCase
    host: CohortHost
    placed: Sequence[PlacedLesion]
    seconds: float

    @property
    def box_bytes(self) -> int:
        """Of its box with the mask, uncompressed."""
        if not self.placed:
            return 0
        ct = self.host.ct
        spacing = np.array(ct.spacing_mm)
        box = dilate(hull([one.settled.box for one in self.placed]), MARGIN_MM, spacing, ct.shape)
        return int(np.prod([part.stop - part.start for part in box])) * 3


@dataclass
class CohortPlan:
    """seconds_each: of one case, None where it was not timed; problems: of what was previewed; shares: asked
    for, and what of them comes.
    """

    references: Sequence[CohortReference]
    cases: Sequence[PlannedCase]
    previewed: list[PreviewedCase] = field(default_factory=list)
    problems: list[CohortProblem] = field(default_factory=list)
    shares: Sequence[ShareLine] = ()
    seconds_each: float | None = None

    @property
    def patients(self) -> int:
        return len({one.patient for one in self.references})

    @property
    def splits(self) -> Mapping[str, int]:
        return Counter(case.split for case in self.cases)

    @property
    def box_bytes(self) -> float:
        """Of all cases, about; NaN where none was previewed."""
        sizes = [one.box_bytes for one in self.previewed]
        return float(np.mean(sizes)) * len(self.cases) if sizes else float("nan")

    def hours(self, workers: int) -> float | None:
        return None if self.seconds_each is None else self.seconds_each * len(self.cases) / workers / 3600


def preview(
    specification: CohortSpecification, references: Sequence[CohortReference], shown: int = SHOWN
) -> CohortPlan:
    """Some cases of different references, placed; what goes wrong there is told, and the rest goes on."""
    cases = cast(specification, references, list_donors(specification))
    plan = CohortPlan(references, cases, shares=list(_shares(specification, references, cases)))
    by_name = {one.name: one for one in references}
    for case in _choose(specification, plan.cases, shown):
        began = time.perf_counter()
        try:
            host = CohortHost.read(by_name[case.reference])
            placed = place_lesions(specification, case, host)
        except (LesionBrushError, OSError) as error:
            code = error.code if isinstance(error, LesionBrushError) else "os_error"
            plan.problems.append(CohortProblem(case.reference, case.id, code, str(error)))
            continue
        plan.previewed.append(PreviewedCase(case, host, placed, time.perf_counter() - began))
    return plan


def _shares(
    specification: CohortSpecification, references: Sequence[CohortReference], cases: Sequence[PlannedCase]
) -> Iterator[ShareLine]:
    """What is balanced, and what the cases have of it."""
    kinds = Counter(case.kind for case in cases)
    made = len(cases) - kinds["removal"]
    if specification.balance.healthy is not None:
        yield _line("healthy cases", specification.balance.healthy * made, kinds["healthy"])
    if specification.balance.hosts is not None:
        counts = Counter(case.reference for case in cases if case.kind != "removal")
        facts = {one.name: one.facts for one in references}
        yield from host_lines(specification.balance.hosts, facts, {name: counts[name] for name in facts})
    parts = Counter((part.rule, part.axis, part.number) for case in cases for part in case.parts)
    for number, rule in enumerate(specification.findings):
        for axis, strata in rule.balance.items():
            got = [parts[number, axis, k] for k in range(len(strata))]
            for k, stratum in enumerate(strata):
                yield _line(f"findings.{number}.balance.{axis}.{k}", stratum.share * sum(got), got[k])


def _line(what: str, wanted: float, planned: int) -> ShareLine:
    line = ShareLine(what, wanted, planned)
    return line if line.met else replace(line, why="each split is rounded by itself: ask for more cases")


def time_one(specification: CohortSpecification, plan: CohortPlan, device: str | None = None) -> None:
    """Makes one of the previewed cases, keeps none of it, and sets `seconds_each`."""
    sample = max(plan.previewed, key=lambda one: len(one.placed), default=None)
    if sample is None:
        return
    maker = CaseMaker(specification, "", ModelRack(device))
    with one_thread():
        maker.make(sample.case, sample.host)  # loads the model
    plan.seconds_each = maker.make(sample.case, sample.host).record.seconds


def _choose(
    specification: CohortSpecification, cases: Sequence[PlannedCase], count: int
) -> list[PlannedCase]:
    """The first case of as many references as there are, then the second one of each, ..."""

    def rank(case: PlannedCase) -> tuple[str, float]:
        number = case.id.removeprefix(case.reference)
        return number, generator_for(specification.seed, "preview", case.reference).random()

    chosen = sorted(cases, key=rank)[:count]
    return sorted(chosen, key=lambda case: case.id)


def picture(plan: CohortPlan, title: str) -> Image.Image | None:
    """A panel for each previewed case with a lesion; None for none."""
    panels = [panel for one in plan.previewed for panel in _panel(one)]
    return sheet(panels, min(_COLUMNS, len(panels)), title=title, panel_px=220) if panels else None


def _panel(one: PreviewedCase) -> Iterator[Panel]:
    if not one.placed:
        return
    ct = one.host.ct
    mask = np.zeros(ct.shape, np.uint8)
    for lesion in one.placed:
        mask[lesion.settled.box] |= lesion.settled.inside
    largest = max(one.placed, key=lambda lesion: lesion.settled.inside.sum())
    yield lesion_panel(
        ct, ct.with_array(mask), largest.mask(ct), f"{largest.organ}, {len(one.placed)} in all"
    )


def lesion_panel(ct: Volume, mask: Volume, shown: Volume, caption: str) -> Panel:
    """The axial slice with most of one lesion, `shown`, with the outlines of all in `mask`."""
    place = Place.of(ct.array, mask.array, bounding_box(shown.array), np.array(ct.spacing_mm))
    view, window = lesion_view(shown, _FIELD_MM), windows_for(place.shown_hu)[0]
    plain = view.panel(ct, window, "")
    return Panel(
        plain.hu, plain.spacing_mm, window, caption, outline=view.cut(mask, fill=0) > 0, badge=badge_of(ct)
    )
