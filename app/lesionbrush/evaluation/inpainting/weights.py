"""Where a baseline's weights are kept, and how they come there: trained once, for as long as one says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lesionbrush.errors import WeightsError
from lesionbrush.evaluation.inpainting.baselines import Baseline
from lesionbrush.evaluation.inpainting.gan import GanTrainer
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.lesion_inpainting.soft_tissue import pack as soft_tissue
from lesionbrush.systems.palette import pack as palette
from lesionbrush.systems.running import pick_device
from lesionbrush.training.runs import make_once

SEED = 0
SLICE_PACK, CUBE_PACK = "palette_pack.npz", "soft_tissue_pack.npz"


@dataclass(frozen=True)
class TrainedBaseline:
    """A generator with the weights of a file, and how long it learned."""

    baseline: Baseline
    generator: nn.Module
    steps: int
    minutes: float
    path: Path


def weights_path(baseline: Baseline, out: Path) -> Path:
    return out / f"{baseline.name}.safetensors"


def slice_pack(data: Path, out: Path) -> Path:
    """The pack of Palette, made once. FileNotFoundError when the data is not there."""
    return make_once(out / SLICE_PACK, partial(palette.write_pack, data))


def _pack_of(baseline: Baseline, data: Path, out: Path) -> Path:
    if baseline.dims == 2:
        return slice_pack(data, out)
    return make_once(out / CUBE_PACK, partial(soft_tissue.write_pack, data))


def train_baseline(
    baseline: Baseline, data: Path, out: Path, minutes: float, say: Callable[[str], None]
) -> None:
    """Unless `out` holds its weights. Also when it is interrupted, what was learned is kept."""
    path = weights_path(baseline, out)
    if path.exists():
        say(f"{baseline.title}: {path.name} is there and is used as it is; delete it to train anew")
        return
    pack = _pack_of(baseline, data, out)
    examples = baseline.examples(pack, np.random.default_rng(SEED), baseline.patches)
    trainer = GanTrainer(baseline, torch.Generator().manual_seed(SEED), pick_device(None))
    try:
        trainer.fit(examples, minutes=minutes)
    finally:
        if trainer.steps:
            save_baseline(trainer, path)
            say(f"{baseline.title}: {trainer.steps} steps in {trainer.seconds / 60:.1f} minutes, {path.name}")


def save_baseline(trainer: GanTrainer, path: Path) -> None:
    """The generator alone: the discriminator has done its work."""
    facts = {"steps": str(trainer.steps), "seconds": f"{trainer.seconds:.1f}"}
    with whole_files(path) as (draft,):
        save_file(trainer.generator.state_dict(), draft, metadata=facts)


def load_baseline(baseline: Baseline, out: Path) -> TrainedBaseline | None:
    """None without weights. WeightsError for a file that is no such baseline's."""
    path = weights_path(baseline, out)
    if not path.exists():
        return None
    generator = baseline.generator()
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
        generator.load_state_dict(load_file(path))
        steps, minutes = int(facts["steps"]), float(facts["seconds"]) / 60
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path.name} holds no weights of {baseline.title}: delete it and take --train-baselines MINUTES "
            f"({str(error).splitlines()[0]})"
        ) from error
    return TrainedBaseline(baseline, generator.to(pick_device(None)), steps, minutes, path)
