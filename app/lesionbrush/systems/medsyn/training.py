"""What `run.py train` does for MedSyn: chests laid out once, a text encoder, and both networks in one run."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lesionbrush.systems.medsyn.data import MedSynBatches, learn_expectation
from lesionbrush.systems.medsyn.pack import read_chests, write_chests
from lesionbrush.systems.medsyn.recipes import RECIPES, MedSynRecipe
from lesionbrush.systems.medsyn.text.bert import BertFolder
from lesionbrush.systems.medsyn.text.encoder import TextEncoder, WordEncoder
from lesionbrush.systems.medsyn.text.pretraining import pretrain
from lesionbrush.systems.medsyn.text.prompts import write_prompt
from lesionbrush.systems.medsyn.trainer import MedSynTrainer
from lesionbrush.systems.running import pick_device
from lesionbrush.training.runs import make_once, run_training
from lesionbrush.training.trainings import Run, Training


class MedSynTraining(Training[MedSynRecipe]):
    """The encoder is pretrained first, once for each `--out`, unless one is named."""

    recipes = RECIPES

    def add_arguments(self, group: _ArgumentGroup) -> None:
        group.add_argument(
            "--text-encoder",
            type=Path,
            metavar="PATH",
            help="text.safetensors of another run, or a local folder of a Hugging Face BERT (default: "
            "pretrained on written reports, a few minutes)",
        )
        group.add_argument(
            "--reports", type=Path, metavar="DIR", help="pretrain it on your reports, text files, instead"
        )
        group.add_argument(
            "--without",
            type=lambda text: tuple(text.split(",")),
            default=(),
            metavar="A,B",
            help="patients that are not trained on, such as those whose licence is not known",
        )
        group.add_argument(
            "--ct-alone", action="store_true", help="without lobes, airways and vessels, to compare"
        )
        group.add_argument("--low-share", type=_share, metavar="S", help="of steps for the low resolution")

    def adapt(self, recipe: MedSynRecipe, options: Namespace) -> MedSynRecipe:
        self.encoder_path, self.reports = options.text_encoder, options.reports
        self.without: tuple[str, ...] = options.without
        share = recipe.low_share if options.low_share is None else options.low_share
        return replace(recipe, low_share=share, ct_alone=options.ct_alone)

    def run(self, recipe: MedSynRecipe, run: Run) -> None:
        encoder = self._encoder(run.out)
        low = replace(recipe.network.low, text_width=encoder.width)
        recipe = replace(recipe, network=replace(recipe.network, low=low))
        path = make_once(run.out / "chests.npz", partial(write_chests, run.data))
        stored = encoder if isinstance(encoder, WordEncoder) else None
        seen, held_out = (
            MedSynBatches(chests, recipe, rng, write_prompt, encoder.encode)
            for chests, rng in (
                (read_chests(path, validation=False, without=self.without), np.random.default_rng(run.seed)),
                (read_chests(path, validation=True), np.random.default_rng(1)),
            )
        )
        expectation = learn_expectation(seen) if recipe.residual else None
        seen.expectation = held_out.expectation = expectation
        trainer = MedSynTrainer(recipe, pick_device(run.device), run.seed, stored, expectation)
        seen.rng = trainer.numpy_rng
        run_training(trainer, seen, held_out, run)

    def _encoder(self, out: Path) -> TextEncoder:
        if self.encoder_path is not None and self.encoder_path.is_dir():
            return BertFolder(self.encoder_path)
        path = self.encoder_path or out / "text.safetensors"
        if not path.is_file():
            pretrain(path, self.reports)
        return WordEncoder.load(path)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{text} is no share: 0 (tiles alone) to 1 (whole chests alone)")
    return share
