"""Does it matter how HU become what Palette sees? The same short training on three scales.

    python tests/benchmarks/palette_scales.py DATA OUT [--steps 400] [--holes 48]

The thesis (Sedykh 2024, Sec. 3.4) found that raw HU fail and a CT window works. Here a third way stands
beside them: all HU, compressed around soft tissue. Every network has the same seed, steps and patches of 64
pixels, and fills the same held-out holes; HU are compared in the range of the soft tissue window.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lesionbrush.core.hu import HUScale, HUWindow
from lesionbrush.evaluation.statistics import Estimate, by_patient, median
from lesionbrush.montage import Panel, sheet
from lesionbrush.systems.palette.data import SPACING_MM, HoledSlice, PaletteBatches
from lesionbrush.systems.palette.pack import load_side, prepare_pack
from lesionbrush.systems.palette.recipes import RECIPES, PaletteRecipe
from lesionbrush.systems.palette.scale import FULL, SOFT_TISSUE
from lesionbrush.systems.palette.sheets import SOFT_TISSUE_SHOWN, fill_slices
from lesionbrush.systems.palette.trainer import PaletteTrainer
from lesionbrush.training.trainings import Run

SIDE, PIXELS_PER_STEP, SHOWN = 64, 32_768, 6
SCALES: dict[str, HUScale] = {
    "window": SOFT_TISSUE,
    "compressed": FULL,
    "raw": HUWindow(-1024.0, 3071.0),
}


def short_recipe(scale: HUScale, steps: int) -> PaletteRecipe:
    ours = RECIPES["ours"]
    patches = replace(ours.patches, sides=(SIDE,), shares=(1.0,), voxels_per_batch=PIXELS_PER_STEP)
    return replace(ours, scale=scale, steps=steps, patches=patches, validate_every=steps)


def train(pack: Path, recipe: PaletteRecipe, out: Path) -> PaletteTrainer:
    trainer = PaletteTrainer(recipe, torch.device("cpu"))
    seen = PaletteBatches(
        load_side(pack, validation=False),
        recipe.scale,
        trainer.numpy_rng,
        recipe.patches,
        recipe.drop_fill,
    )
    held_out = PaletteBatches(
        load_side(pack, validation=True),
        recipe.scale,
        np.random.default_rng(1),
        recipe.patches,
        recipe.drop_fill,
    )
    if not trainer.resume(out):
        trainer.fit(seen, held_out, out)
    return trainer


def held_out_holes(pack: Path, count: int) -> list[HoledSlice]:
    """The same for all: what the window can hold."""
    recipe = short_recipe(SOFT_TISSUE, 1)
    cts, rng = load_side(pack, validation=True), np.random.default_rng(2)
    batches = PaletteBatches(cts, SOFT_TISSUE, rng, recipe.patches, 0.0)
    return [batches.sample(SIDE) for _ in range(count)]


def measure(holes: Sequence[HoledSlice], made_hu: np.ndarray) -> tuple[Estimate, Estimate]:
    """Medians over holes, resampled by hole: of the error of the mean, and of each pixel."""
    bias, error = [], []
    for one, made in zip(holes, made_hu, strict=True):
        real, ours = (hu.clip(SOFT_TISSUE.lo_hu, SOFT_TISSUE.hi_hu)[one.scored] for hu in (one.hu, made))
        bias.append(abs(float(ours.mean() - real.mean())))
        error.append(float(np.abs(ours - real).mean()))
    names = [str(k) for k in range(len(holes))]
    found = [by_patient(median, names, np.array(values)) for values in (bias, error)]
    return found[0], found[1]


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--holes", type=int, default=48)
    options = parser.parse_args()
    os.environ.setdefault("LESIONBRUSH_ENGINE", "pytorch")  # the weights are used once
    pack = prepare_pack(Run(data=options.data, out=options.out))
    holes = held_out_holes(pack, options.holes)
    panels = [Panel(one.hu, (SPACING_MM, SPACING_MM), SOFT_TISSUE_SHOWN, "real", one.hole) for one in holes]
    rows = [panels[:SHOWN]]
    for name, scale in SCALES.items():
        trainer = train(pack, short_recipe(scale, options.steps), options.out / name)
        made = fill_slices(trainer, holes)
        bias, error = measure(holes, made)
        print(
            f"{name}: mean {bias.value} HU off ({bias.low} to {bias.high}), each pixel {error.value} HU "
            f"({error.low} to {error.high}); {len(holes)} holes, {options.steps} steps"
        )
        rows.append([Panel(hu, (SPACING_MM, SPACING_MM), SOFT_TISSUE_SHOWN, name) for hu in made[:SHOWN]])
    sheet([panel for row in rows for panel in row], SHOWN).save(options.out / "scales.png")


if __name__ == "__main__":
    main()
