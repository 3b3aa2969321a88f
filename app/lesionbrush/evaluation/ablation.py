"""What each law of lesion inpainting earns: the same lesions with all laws, and with all but one.

Every held-out nodule that a law is for is made anew in its own place with all laws and without that one: as
the readers scored it, with a draw of its densities and without (the typical lesion). Some laws do nothing in
such a request: what is drawn into a mask, what shines through glass or what HU it has is then asked for too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.provenance import now
from lesionbrush.core.registry import find_model
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.bench import FULL, Bench
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.comparison import Change, MadeNodules, compare, hu_error
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.report import text
from lesionbrush.evaluation.results import Typed
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.files.durable import whole_files
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.laws import LAWS, choose_laws
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

LEAST_LESIONS = 30
FILE = "ablation.json"
WITH_MEASURED = {"moments", "room"}
"""Laws for HU that were asked for: their lesions are asked for with the mean and spread that they have."""
IN_PLACE = {"draw_shape": False, "keep_vessels": False}
"""Of a lesion that is made anew in its own place: the mask has its lobes, and under it is the real one."""
ACTING = {"shape": {"draw_shape": True}, "outline": {"draw_shape": True}, "vessels": {"keep_vessels": True}}
"""By law, what it needs to do anything. Lobes come twice then, and vessels are the real lesion's own."""


class LawFigures(Typed):
    """What one law earns. changed: how many of its lesions come out otherwise without it, any voxel."""

    law: str
    about: str
    asked: str
    lesions: int
    patients: int
    changed: int
    figures: dict[str, Change]

    @property
    def verdict(self) -> str:
        if self.lesions < LEAST_LESIONS:
            return f"fewer than {LEAST_LESIONS} lesions: decides nothing"
        signs = {name: change.sign for name, change in self.figures.items()}
        earned, lost = ([name for name, s in signs.items() if s == sign] for sign in (1, -1))
        said = [
            f"{verb} {', '.join(names)}" for verb, names in (("lowers", earned), ("raises", lost)) if names
        ]
        return "; ".join(said) or "no difference is shown"


class Ablation(Typed):
    model: str
    weights_sha256: str
    created: str
    nodules: int
    laws: tuple[LawFigures, ...] = ()

    def lines(self) -> list[str]:
        """A table: with the law, without it, and the change, each with its interval by patient."""
        rows: list[tuple[str, ...]] = [("law", "N", "changed", "measure", "with", "without", "change")]
        for one in self.laws:
            for name, change in one.figures.items():
                three = (text(e) for e in (change.default, change.otherwise, change.change))
                rows.append((one.law, str(one.lesions), str(one.changed), name, *three))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return [*table, *(f"{one.law} ({one.lesions} lesions): {one.verdict}" for one in self.laws)]


@dataclass(frozen=True, eq=False)
class Trials:
    """Lesions made with and without laws. out: where syntheses are kept; cases: of each law at most."""

    model: LesionInpainting
    data: Path
    out: Path
    cases: int = 0
    _features: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def bench(self) -> Bench:
        return Bench(self.data, self.out, self._maker(LAWS), FULL)

    def run(self, law: str) -> LawFigures:
        """A law that none of the held-out nodules is for has no figures."""
        chosen = self._choose(law)
        without = self._maker([name for name in LAWS if name != law])
        pairs = tqdm(chosen, desc=law, unit="lesion")
        rows = [(self._make(self.bench.maker, law, n), self._make(without, law, n)) for n in pairs]
        figures = (
            self._figures(chosen, *(_measure(chosen, made) for made in zip(*rows, strict=True)))
            if rows
            else {}
        )
        return LawFigures(
            law=law,
            about=str(type(LAWS[law]).__doc__).splitlines()[0],
            asked="readers, mean and spread" if law in WITH_MEASURED else "readers",
            lesions=len(chosen),
            patients=len({nodule.patient for nodule in chosen}),
            changed=sum(not np.array_equal(a[0], b[0]) for a, b in rows),
            figures=figures,
        )

    def _maker(self, laws: Collection[str]) -> Maker:
        return Maker(self.model.with_laws(laws), self.out / "cache")

    def _choose(self, law: str) -> list[Nodule]:
        meant = [n for n in self.bench.nodules if LAWS[law].concerns(request_of(law, n))]
        few = 0 < self.cases < len(meant)
        return self.bench.spread(self.cases, meant) if few else meant

    def _make(self, maker: Maker, law: str, nodule: Nodule) -> tuple[np.ndarray, np.ndarray]:
        """HU as the readers scored it, and of the typical lesion of these scores."""
        asked = (request_of(law, nodule), request_of(law, nodule, variety=0.0))
        case = nodule.case
        first, typical = (maker.make(case.crop, case.mask, request).arrays[0] for request in asked)
        return first, typical

    def _figures(self, nodules: list[Nodule], on: MadeNodules, off: MadeNodules) -> dict[str, Change]:
        """Without a law less with it, so that above 0 it earns."""
        return compare(nodules, np.array([self._real_features(nodule) for nodule in nodules]), on, off)

    def _real_features(self, nodule: Nodule) -> np.ndarray:
        if nodule.name not in self._features:
            self._features[nodule.name] = features(nodule.real)
        return self._features[nodule.name]


def _measure(nodules: Sequence[Nodule], made: Sequence[tuple[np.ndarray, np.ndarray]]) -> MadeNodules:
    """made: HU of each nodule, as the readers scored it and typical, on the grid of its crop."""
    columns = [
        np.array([hu_error(hu, nodule) for nodule, hu in zip(nodules, kind, strict=True)])
        for kind in zip(*made, strict=True)
    ]
    names = ("hu_error_readers_hu", "hu_error_typical_hu")
    return MadeNodules.of(nodules, [hu for hu, _ in made], **dict(zip(names, columns, strict=True)))


def request_of(law: str, nodule: Nodule, variety: float | None = None) -> SynthesisRequest:
    """What is asked of a nodule to try a law; variety None: as by default."""
    asked = nodule.measured if law in WITH_MEASURED else nodule.readers
    draw = {} if variety is None else {"variety": variety}
    return SynthesisRequest.model_validate({"attributes": asked, **IN_PLACE, **ACTING.get(law, {}), **draw})


def ablate(
    model: str,
    data: Path,
    out: Path,
    laws: Sequence[str] = tuple(LAWS),
    cases: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Try each law, and write ablation.json into `out` after every one.

    InvalidRequest for a law that is not known, and for a model without laws; FileNotFoundError when the data
    holds no held-out nodules.
    """
    chosen, ready = choose_laws(laws), load_model(find_model(model))
    if not isinstance(ready, LesionInpainting):
        raise InvalidRequest(f"{model} is of {ready.card.system}, which has no laws: try lung_lesion")
    trials = Trials(ready, data, out, cases)
    found = Ablation(
        model=ready.card.name,
        weights_sha256=ready.card.weights_sha256,
        created=now(),
        nodules=len(trials.bench.nodules),
    )
    for number, law in enumerate(chosen, start=1):
        say(f"{number} of {len(chosen)}: without {law} ...")
        found = found.model_copy(update={"laws": (*found.laws, trials.run(law))})
        with whole_files(out / FILE) as (draft,):
            draft.write_text(found.model_dump_json(indent=1), encoding="utf-8")
    return found
