"""What all trainings do alike: go on or begin, train, draw; and packs that are made once."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from lesionbrush.core.registry import find_model
from lesionbrush.training.loop import BatchT, Draws, Loop
from lesionbrush.training.workers import Workers

Start = Callable[[dict[str, Tensor]], object]


def run_training(
    trainer: Loop[BatchT],
    seen: Draws[BatchT],
    held_out: Draws[BatchT],
    out: Path,
    options: Namespace,
    start: Start | None = None,
) -> None:
    """On from where `out` stands, else with the weights of `--start-from`, else from nothing.

    start: takes those weights, where `Loop.start_from` would not. Raises UnknownModel.
    """
    steps = trainer.config.steps
    if options.learning_rate is not None:
        trainer.config = replace(trainer.config, learning_rate=options.learning_rate)
    if trainer.resume(out):
        print(f"going on from step {trainer.progress.step} of {steps}")
    elif options.start_from:
        (start or trainer.start_from)(load_file(find_model(options.start_from).weights))
    if options.workers:
        seen = Workers(seen, trainer.numpy_rng, options.workers)
    limit_s = float("inf") if options.minutes is None else 60 * options.minutes
    trainer.fit(seen, held_out, out, stop_after_s=limit_s)
    print(f"step {trainer.progress.step} of {steps}: {out / 'checkpoint.pt'}, {trainer.draw(out)}")


def made_once(path: Path, write: Callable[[Path], object]) -> Path:
    """The file, written unless it is there: half a pack never passes for one."""
    if not path.exists():
        draft = path.with_suffix(f".draft{path.suffix}")
        write(draft)
        os.replace(draft, path)
    return path
