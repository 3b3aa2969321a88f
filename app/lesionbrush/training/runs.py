"""What all trainings do alike: go on or begin, train, draw; and packs that are made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from lesionbrush.core.registry import find_model
from lesionbrush.files.durable import whole_files
from lesionbrush.training.loop import BatchT, Draws, Loop
from lesionbrush.training.trainings import Run
from lesionbrush.training.workers import Workers

Start = Callable[[dict[str, Tensor]], object]


def run_training(
    trainer: Loop[BatchT],
    seen: Draws[BatchT],
    held_out: Draws[BatchT],
    run: Run,
    start: Start | None = None,
) -> None:
    """On from where `run.out` stands, else with the weights of `run.start_from`, else from nothing.

    start: takes those weights, where `Loop.start_from` would not. Raises UnknownModel, InvalidRequest.
    """
    steps, trainer.snapshots = trainer.recipe.steps, run.snapshots
    if trainer.resume(run.out):
        print(f"going on from step {trainer.progress.step} of {steps}")
    elif run.start_from:
        (start or trainer.start_from)(load_file(find_model(run.start_from).weights))
    if run.workers:
        seen = Workers(seen, trainer.numpy_rng, run.workers)
    limit_s = float("inf") if run.minutes is None else 60 * run.minutes
    trainer.fit(seen, held_out, run.out, stop_after_s=limit_s)
    print(f"step {trainer.progress.step} of {steps}: {run.out / 'checkpoint.pt'}, {trainer.draw(run.out)}")


def make_once(path: Path, write: Callable[[Path], object]) -> Path:
    """The file, written unless it is there: half a pack never passes for one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_files(path) as (draft,):
            write(draft)
    return path
