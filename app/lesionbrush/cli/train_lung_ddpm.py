"""Train the starters of Lung-DDPM and Lung-DDPM+. `train` passes on to here."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from lesionbrush.systems.lesion_inpainting.data import side_of_split
from lesionbrush.systems.lung_ddpm.cubes import NoduleBatches
from lesionbrush.systems.lung_ddpm.network import LungDDPMConfig
from lesionbrush.systems.lung_ddpm.pack import write_lungs
from lesionbrush.systems.lung_ddpm.sheets import layout_sheet
from lesionbrush.systems.lung_ddpm.training import LayoutBatch, LayoutConfig, LayoutTrainer
from lesionbrush.systems.lung_ddpm.volumes import LungBatches, read_lungs
from lesionbrush.systems.running import pick_device
from lesionbrush.training.loop import Draws
from lesionbrush.training.runs import made_once, run_training

WIDTHS = (16, 32, 64, 96)
CONFIGS = {
    "lung_ddpm_plus": LayoutConfig(
        network=LungDDPMConfig(2, WIDTHS, (False, False, True, False), norm_groups=8), steps=4000
    ),
    # At 128³ only the middle block's attention, over 16³ voxels, is affordable.
    "lung_ddpm": LayoutConfig(
        network=LungDDPMConfig(3, WIDTHS, (False, False, False, False), norm_groups=8), steps=2000
    ),
}


def run(options: Namespace, pack: Path, out: Path) -> None:
    """Train from the beginning or on from where `out` stands."""
    config = training_config(options)
    held_out = _batches(options, pack, out, np.random.default_rng(1), validation=True)
    trainer = LayoutTrainer(config, pick_device(options.device))
    trainer.sheet = partial(layout_sheet, trainer, held_out)
    seen = _batches(options, pack, out, trainer.numpy_rng, validation=False)

    def start(weights: dict[str, Tensor]) -> None:
        print(f"{trainer.start_from_similar(weights):.0%} of the weights are those of {options.start_from}")

    run_training(trainer, seen, held_out, out, options, start)


def training_config(options: Namespace) -> LayoutConfig:
    config = replace(CONFIGS[options.model], seed=options.seed)
    if options.steps is None:
        return config
    return replace(config, steps=options.steps)


def _batches(
    options: Namespace, pack: Path, out: Path, generator: np.random.Generator, *, validation: bool
) -> Draws[LayoutBatch]:
    nodules, window = side_of_split(pack, validation=validation), CONFIGS[options.model].window
    scale = 1 if validation else options.batch_scale
    if options.model == "lung_ddpm_plus":
        return NoduleBatches(nodules, window, generator, scale)
    chests = read_lungs(packed_lungs(options.data, out), validation=validation)
    return LungBatches(nodules, chests, window, generator, scale)


def packed_lungs(data: Path, out: Path) -> Path:
    """The chests with their lung masks, resampled, in one file."""
    return made_once(out / "lungs.npz", partial(write_lungs, data))
