"""Train a model from a folder of data, go on with a run that was stopped, or turn a run into a model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from lesionbrush.cli import train_mddpm
from lesionbrush.cli.outputs import check_folder
from lesionbrush.core.hu import HUWindow
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.data import Batches, side_of_split
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.pack import write_pack
from lesionbrush.systems.lesion_inpainting.sheets import sample_sheet
from lesionbrush.systems.lesion_inpainting.training import Trainer, TrainingConfig
from lesionbrush.systems.running import pick_device
from lesionbrush.training.export import export
from lesionbrush.training.runs import made_once, run_training

ELSEWHERE = {"mddpm": "train_mddpm", "lung_ddpm": "train_lung_ddpm", "lung_ddpm_plus": "train_lung_ddpm"}
"""The modules beside this one that train other systems."""
TRAINABLE = ("lung_lesion", *ELSEWHERE)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", choices=TRAINABLE)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the training data; needed but for --export")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: training_output/<model>")
    parser.add_argument("--steps", type=int, metavar="N", help=f"default: {TrainingConfig.steps}")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after this time, to go on later")
    parser.add_argument("--start-from", metavar="MODEL", help="begin a run with the weights of this model")
    parser.add_argument(
        "--learning-rate", type=float, metavar="R", help="default: the model's own; less for a few more steps"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--export", type=Path, metavar="DIR", help="put the run into a model folder")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that make batches (default: none)"
    )
    parser.add_argument(
        "--batch-scale", type=int, default=1, metavar="K", help="so many times larger batches, for a GPU"
    )
    train_mddpm.add_arguments(parser.add_argument_group("mddpm"))


def run(options: Namespace) -> int:
    out = options.out or Path("training_output") / options.model
    if options.export:
        check_folder(options.export)
        card = export(out / "checkpoint.pt", options.export)
        print(f"{options.export}: {card.name} with weights {card.weights_sha256[:12]}...")
        return 0
    if options.data is None:
        raise InvalidRequest("name the folder with the training data: --data DIR")
    if options.steps is not None and options.steps < 1:
        raise InvalidRequest(f"--steps {options.steps}: give the number of steps in all, 1 or more")
    if options.workers < 0:
        raise InvalidRequest(f"--workers {options.workers}: give a number of processes, 0 for none")
    if options.batch_scale < 1:
        raise InvalidRequest(f"--batch-scale {options.batch_scale}: give a whole number, 1 or more")
    if options.learning_rate is not None and not 0 < options.learning_rate < 1:
        raise InvalidRequest(f"--learning-rate {options.learning_rate}: give a number between 0 and 1")
    elsewhere = ELSEWHERE.get(options.model)
    other = import_module(f"lesionbrush.cli.{elsewhere}") if elsewhere else None
    if other is not None:
        other.training_config(options)  # refuses what cannot be before the data are packed
    require_start(options, out)
    pack = packed(options.data, out)
    if other is not None:
        other.run(options, pack, out)
    else:
        train(training_config(options.steps, options.seed), pack, out, options)
    return 0


def require_start(options: Namespace, out: Path) -> None:
    """Raises InvalidRequest, UnknownModel, WeightsError: what would stop a run once its data are packed."""
    check_folder(out)
    pick_device(options.device)
    if options.start_from:
        verify_weights(find_model(options.start_from))


def training_config(steps: int | None, seed: int) -> TrainingConfig:
    """What `lung_lesion` is trained with."""
    network = LesionUNetConfig(attributes=len(ATTRIBUTES), blocks=3)
    config = TrainingConfig(network=network, window=HUWindow(-1000.0, 1000.0), seed=seed)
    return config if steps is None else replace(config, steps=steps)


def packed(data: Path, out: Path) -> Path:
    """The data, resampled, in one file."""
    return made_once(out / "pack.npz", partial(write_pack, data))


def train(config: TrainingConfig, pack: Path, out: Path, options: Namespace) -> None:
    seen, held_out = (side_of_split(pack, validation=flag) for flag in (False, True))
    trainer = Trainer(config, pick_device(options.device))
    trainer.sheet = partial(sample_sheet, trainer, held_out)
    batches = Batches(seen, config.window, trainer.numpy_rng, options.batch_scale)
    validation = Batches(held_out, config.window, np.random.default_rng(1))
    run_training(trainer, batches, validation, out, options)
