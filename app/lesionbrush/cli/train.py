"""Train a model from a folder of data, go on with a run that was stopped, or turn a run into a model."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lesionbrush.attributes import ATTRIBUTES
from lesionbrush.cli import train_mddpm
from lesionbrush.errors import InvalidRequest
from lesionbrush.hu import HUWindow
from lesionbrush.networks.lesion_unet import LesionUNetConfig
from lesionbrush.registry import find_model
from lesionbrush.systems.devices import pick_device
from lesionbrush.training.data import Batches, Pack, side_of_split
from lesionbrush.training.export import export
from lesionbrush.training.pack import write_pack
from lesionbrush.training.sheets import sample_sheet
from lesionbrush.training.train import Trainer, TrainingConfig

ELSEWHERE = {"mddpm": "train_mddpm", "lung_ddpm": "train_lung_ddpm", "lung_ddpm_plus": "train_lung_ddpm"}
"""The modules beside this one that train other systems."""
TRAINABLE = ("lung_lesion", *ELSEWHERE)
VALIDATIONS_PER_SHEET = 4


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", choices=TRAINABLE)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the training data; needed but for --export")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: training_output/<model>")
    parser.add_argument("--steps", type=int, metavar="N", help=f"default: {TrainingConfig.steps}")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after this time, to go on later")
    parser.add_argument("--start-from", metavar="MODEL", help="begin a run with the weights of this model")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--export", type=Path, metavar="DIR", help="put the run into a model folder")
    train_mddpm.add_arguments(parser.add_argument_group("mddpm"))


def run(options: Namespace) -> int:
    out = options.out or Path("training_output") / options.model
    if options.export:
        card = export(out / "checkpoint.pt", options.export)
        print(f"{options.export}: {card.name} with weights {card.weights_sha256[:12]}...")
        return 0
    if options.data is None:
        raise InvalidRequest("name the folder with the training data: --data DIR")
    if options.steps is not None and options.steps < 1:
        raise InvalidRequest(f"--steps {options.steps}: give the number of steps in all, 1 or more")
    pack = packed(options.data, out)
    if options.model in ELSEWHERE:
        import_module(f"lesionbrush.cli.{ELSEWHERE[options.model]}").run(options, pack, out)
    else:
        train(training_config(options.steps, options.seed), pack, out, options)
    return 0


def training_config(steps: int | None, seed: int) -> TrainingConfig:
    """What `lung_lesion` is trained with."""
    network = LesionUNetConfig(attributes=len(ATTRIBUTES))
    config = TrainingConfig(network=network, window=HUWindow(-1000.0, 1000.0), seed=seed)
    return config if steps is None else replace(config, steps=steps)


def packed(data: Path, out: Path) -> Path:
    """The data, resampled, in one file that is made once per run."""
    path = out / "pack.npz"
    if not path.exists():
        draft = out / "pack.draft.npz"  # half a pack must not pass for one
        write_pack(data, draft)
        os.replace(draft, path)
    return path


def train(config: TrainingConfig, pack: Path, out: Path, options: Namespace) -> None:
    seen, held_out = (side_of_split(pack, validation=flag) for flag in (False, True))
    trainer = TrainerWithSheets(config, pick_device(options.device), held_out)
    if trainer.resume(out):
        print(f"going on from step {trainer.progress.step} of {config.steps}")
    elif options.start_from:
        trainer.start_from(load_file(find_model(options.start_from).weights))
    batches = Batches(seen, config.window, trainer.numpy_rng)
    validation = Batches(held_out, config.window, np.random.default_rng(1))
    limit_s = float("inf") if options.minutes is None else 60 * options.minutes
    trainer.fit(batches, validation, out, stop_after_s=limit_s)
    print(f"step {trainer.progress.step} of {config.steps}: {out / 'checkpoint.pt'}, {trainer.draw(out)}")


class TrainerWithSheets(Trainer):
    """Draws samples on held-out nodules every few validations; `draw` is for the end of the run."""

    def __init__(self, config: TrainingConfig, device: torch.device, held_out: Pack) -> None:
        super().__init__(config, device)
        self.held_out = held_out

    def save(self, folder: Path) -> None:
        super().save(folder)
        if len(self.progress.history) % VALIDATIONS_PER_SHEET == 0:
            self.draw(folder)

    def draw(self, folder: Path) -> Path:
        """Write samples-<step>.png, unless this step has one."""
        path = folder / f"samples-{self.progress.step:06d}.png"
        if not path.exists():
            sample_sheet(self, self.held_out, path)
        return path
