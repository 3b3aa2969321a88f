"""Train the unconditional model behind mDDPM. `train` passes on to here."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.errors import InvalidRequest
from lesionbrush.networks.ddpm_unet import DDPMUNetConfig
from lesionbrush.registry import find_model
from lesionbrush.systems.devices import pick_device
from lesionbrush.training.data import side_of_split
from lesionbrush.training.mddpm import SliceTrainer, SliceTrainingConfig
from lesionbrush.training.mddpm_data import SIDES, SliceBatches
from lesionbrush.training.mddpm_sheets import slice_sheet

VALIDATIONS_PER_SHEET = 3


def add_arguments(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--sides", type=int, nargs="+", metavar="VOXELS", help=f"patches, up to 512; default: {SIDES}"
    )
    group.add_argument("--channels", type=int, nargs="+", metavar="N", help="widths, multiples of 8")
    group.add_argument("--schedule", choices=sorted(SCHEDULES), default="cosine")
    group.add_argument("--prediction", choices=("v", "x0", "eps"), default="v")
    group.add_argument("--variance", choices=("learned_range", "fixed_small"), default="learned_range")


def training_config(options: Namespace) -> SliceTrainingConfig:
    """Raises InvalidRequest for sizes that do not fit the network."""
    channels = tuple(options.channels or DDPMUNetConfig.channels)
    network = DDPMUNetConfig(
        channels=channels,
        attention=(False,) * len(channels),
        prediction=options.prediction,
        variance=options.variance,
    )
    sides = tuple(options.sides or SIDES)
    wrong = [side for side in sides if side < 1 or side % network.multiple]
    if wrong:
        raise InvalidRequest(f"--sides {wrong[0]}: sides must be multiples of {network.multiple}")
    wrong = [width for width in channels if width < 1 or width % network.norm_groups]
    if wrong:
        raise InvalidRequest(f"--channels {wrong[0]}: widths must be multiples of {network.norm_groups}")
    steps = SliceTrainingConfig.steps if options.steps is None else options.steps
    return SliceTrainingConfig(
        network=network, steps=steps, seed=options.seed, schedule=options.schedule, sides=sides
    )


def run(options: Namespace, pack: Path, out: Path) -> None:
    """Train on the pack's training side, from the beginning or on from where `out` stands."""
    config = training_config(options)
    trainer = TrainerWithSheets(config, pick_device(options.device))
    if trainer.resume(out):
        print(f"going on from step {trainer.progress.step} of {config.steps}")
    elif options.start_from:
        trainer.start_from(load_file(find_model(options.start_from).weights))
    seen, held_out = (_batches(pack, config, trainer, validation=flag) for flag in (False, True))
    limit_s = float("inf") if options.minutes is None else 60 * options.minutes
    trainer.fit(seen, held_out, out, stop_after_s=limit_s)
    print(f"step {trainer.progress.step} of {config.steps}: {out / 'checkpoint.pt'}, {trainer.draw(out)}")


def _batches(
    path: Path, config: SliceTrainingConfig, trainer: SliceTrainer, *, validation: bool
) -> SliceBatches:
    generator = np.random.default_rng(1) if validation else trainer.numpy_rng
    return SliceBatches(side_of_split(path, validation=validation), config.window, generator, config.sides)


class TrainerWithSheets(SliceTrainer):
    """Draws samples every few validations; `draw` is for the end of the run."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        if len(self.progress.history) % VALIDATIONS_PER_SHEET == 0:
            self.draw(folder)

    def draw(self, folder: Path) -> Path:
        """Write samples-<step>.png, unless this step has one."""
        path = folder / f"samples-{self.progress.step:06d}.png"
        if not path.exists():
            slice_sheet(self, path)
        return path
