"""Train the starters of Lung-DDPM and Lung-DDPM+. `train` passes on to here."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lesionbrush.networks.lung_ddpm import LungDDPMConfig
from lesionbrush.registry import find_model
from lesionbrush.systems.devices import pick_device
from lesionbrush.training.data import side_of_split
from lesionbrush.training.loop import Draws
from lesionbrush.training.lung_ddpm import LayoutBatch, LayoutConfig, LayoutTrainer
from lesionbrush.training.lung_ddpm_data import NoduleBatches
from lesionbrush.training.lung_ddpm_pack import read_lungs, write_lungs
from lesionbrush.training.lung_ddpm_sheets import layout_sheet
from lesionbrush.training.lung_ddpm_volumes import LungBatches

VALIDATIONS_PER_SHEET = 4
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
    """Train from the beginning or on from where `out` stands. InvalidRequest for fewer than one step."""
    config = training_config(options)
    held_out = _batches(options, pack, out, np.random.default_rng(1), validation=True)
    trainer = TrainerWithSheets(config, pick_device(options.device), held_out)
    if trainer.resume(out):
        print(f"going on from step {trainer.progress.step} of {config.steps}")
    elif options.start_from:
        taken = trainer.start_from_similar(load_file(find_model(options.start_from).weights))
        print(f"{taken:.0%} of the weights are those of {options.start_from}")
    seen = _batches(options, pack, out, trainer.numpy_rng, validation=False)
    limit_s = float("inf") if options.minutes is None else 60 * options.minutes
    trainer.fit(seen, held_out, out, stop_after_s=limit_s)
    print(f"step {trainer.progress.step} of {config.steps}: {out / 'checkpoint.pt'}, {trainer.draw(out)}")


def training_config(options: Namespace) -> LayoutConfig:
    config = replace(CONFIGS[options.model], seed=options.seed)
    if options.steps is None:
        return config
    return replace(config, steps=options.steps)


def _batches(
    options: Namespace, pack: Path, out: Path, generator: np.random.Generator, *, validation: bool
) -> Draws[LayoutBatch]:
    nodules, window = side_of_split(pack, validation=validation), CONFIGS[options.model].window
    if options.model == "lung_ddpm_plus":
        return NoduleBatches(nodules, window, generator)
    chests = read_lungs(packed_lungs(options.data, out), validation=validation)
    return LungBatches(nodules, chests, window, generator)


def packed_lungs(data: Path, out: Path) -> Path:
    """The chests with their lung masks, resampled, in one file that is made once per run."""
    path = out / "lungs.npz"
    if not path.exists():
        draft = out / "lungs.draft.npz"  # half a pack must not pass for one
        write_lungs(data, draft)
        os.replace(draft, path)
    return path


class TrainerWithSheets(LayoutTrainer):
    """Draws samples every few validations; `draw` is for the end of the run."""

    def __init__(self, config: LayoutConfig, device: torch.device, held_out: Draws[LayoutBatch]) -> None:
        super().__init__(config, device)
        self.held_out = held_out

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.progress.history and len(self.progress.history) % VALIDATIONS_PER_SHEET == 0:
            self.draw(folder)

    def draw(self, folder: Path) -> Path:
        """Write samples-<step>.png, unless this step has one."""
        path = folder / f"samples-{self.progress.step:06d}.png"
        if not path.exists():
            layout_sheet(self, self.held_out, path)
        return path
