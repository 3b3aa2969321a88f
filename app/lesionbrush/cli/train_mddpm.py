"""Train the unconditional model behind mDDPM. `train` passes on to here."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from functools import partial
from pathlib import Path

import numpy as np

from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.data import side_of_split
from lesionbrush.systems.mddpm.data import SIDES, SliceBatches
from lesionbrush.systems.mddpm.network import DDPMUNetConfig
from lesionbrush.systems.mddpm.sheets import slice_sheet
from lesionbrush.systems.mddpm.training import SliceTrainer, SliceTrainingConfig
from lesionbrush.systems.running import pick_device
from lesionbrush.training.runs import run_training


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
    trainer = SliceTrainer(config, pick_device(options.device))
    trainer.sheet = partial(slice_sheet, trainer)
    seen = _batches(pack, config, trainer.numpy_rng, validation=False, scale=options.batch_scale)
    held_out = _batches(pack, config, np.random.default_rng(1), validation=True)
    run_training(trainer, seen, held_out, out, options)


def _batches(
    path: Path,
    config: SliceTrainingConfig,
    generator: np.random.Generator,
    *,
    validation: bool,
    scale: int = 1,
) -> SliceBatches:
    pack = side_of_split(path, validation=validation)
    return SliceBatches(pack, config.window, generator, config.sides, scale)
