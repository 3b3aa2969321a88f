"""What `run.py evaluate medsyn` measures: does a text steer, is what is held followed, are the bodies new."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.inputs import Inputs
from lesionbrush.montage import Panel
from lesionbrush.systems.medsyn.evaluation.bodies import Novelty, measure_novelty
from lesionbrush.systems.medsyn.evaluation.controls import (
    CONTROLS,
    Contrast,
    contrast,
    generate_seeds,
    picture,
    show,
)
from lesionbrush.systems.medsyn.evaluation.held_out import AirwaysFollowed, HeldChest, follow_airways
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.pack import read_chests, write_chests
from lesionbrush.systems.medsyn.request import MedSynRequest
from lesionbrush.training.runs import make_once

CASES, STEPS = 8, 15
PROMPTS, LOBES_HELD, ALONE = "prompts.png", "lobes_held.png", "no_text.png"


def evaluate_text(model: MedSyn, data: Path, cases: int, out: Path) -> dict[str, float]:
    """For the card, and printed: every control with so many seeds, at 64 voxels, by itself and with the lobes
    of a held-out chest; its airways looked for again; the nearest training chest. Pictures of seed 0.
    """
    chests = make_once(out / "chests.npz", partial(write_chests, data))
    trained, held_out = (read_chests(chests, validation=flag) for flag in (False, True))
    chest = HeldChest.of(held_out[0])
    request, seeds = MedSynRequest(steps=STEPS, size=64), cases or CASES
    made = generate_seeds(model, request, Inputs(), seeds)
    novelty = measure_novelty(made, trained, held_out, np.random.default_rng(0))
    picture([panel for one in made[:4] for panel in show(one, "")], "Without a text").save(out / ALONE)
    free, held = list[Contrast](), list[Contrast]()
    for answers, name, inputs in ((free, PROMPTS, {}), (held, LOBES_HELD, chest.held("lobes"))):
        panels = list[Panel]()
        for control in tqdm(CONTROLS, desc="controls", unit="control"):
            found, shown = contrast(model, control, request, seeds, inputs)
            answers.append(found)
            panels += shown
        picture(panels).save(out / name)
    airways = follow_airways(model, chest, request)
    print("\n".join(_lines(free, held, airways, novelty)))
    print(", ".join(str(out / name) for name in (PROMPTS, LOBES_HELD, ALONE)))
    figures = [*_named(free, ""), *_named(held, "lobes_held_")]
    return {**dict(figures), **airways.figures(), **novelty.figures()}


def _lines(
    free: list[Contrast], held: list[Contrast], airways: AirwaysFollowed, novelty: Novelty
) -> Iterator[str]:
    yield from (answer.line() for answer in free)
    yield "with the lobes of a held-out chest:"
    yield from (answer.line() for answer in held)
    yield airways.line()
    yield novelty.line()


def _named(answers: list[Contrast], before: str) -> Iterator[tuple[str, float]]:
    for answer in answers:
        yield from ((before + name, value) for name, value in answer.figures())
