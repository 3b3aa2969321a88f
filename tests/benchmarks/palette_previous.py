"""What makes slices agree: shared noise and averages (the slab), or the previous slice as a condition?

    python tests/benchmarks/palette_previous.py DATA OUT [--steps 200] [--slices 5]

The thesis (Sedykh 2024) suggests the previous slice as a condition for future work. Here the weights of
`palette` are trained so many steps more twice, on the same batches: as they are, and with the real slice
below as a further channel. Then organs of the held-out abdomen are filled, from below upwards, each slice
shown the one made before. The aim is the real difference of neighbouring slices at the least error.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lesionbrush.core.hu import unit_ends
from lesionbrush.core.registry import find_model
from lesionbrush.diffusion.samplers import dpm_solver_pp_2m
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.evaluation.measures import difference_hu
from lesionbrush.evaluation.statistics import by_patient, median
from lesionbrush.montage import Panel, sheet
from lesionbrush.systems.palette.data import (
    SPACING_MM,
    HoledSlice,
    PaletteBatch,
    PaletteBatches,
    PatchView,
    SlicePlace,
)
from lesionbrush.systems.palette.filler import HoleFiller, Holes
from lesionbrush.systems.palette.fills import FILLS, fill_number
from lesionbrush.systems.palette.network import PaletteUNet
from lesionbrush.systems.palette.pack import KnownCT, load_side, prepare_pack
from lesionbrush.systems.palette.recipes import RECIPES, PaletteRecipe
from lesionbrush.systems.palette.scale import SOFT_TISSUE
from lesionbrush.systems.palette.sheets import SOFT_TISSUE_SHOWN
from lesionbrush.systems.palette.trainer import PaletteTrainer
from lesionbrush.systems.running import visited_timesteps
from lesionbrush.systems.slab import Agreement, MadeSlices, calm
from lesionbrush.training.trainings import Run
from safetensors.torch import load_file
from torch import Tensor, nn

SIDE, STEPS, COARSE_NOISE = 128, 20, 0.3
LEFT_OUT, NOISE = 0.15, 0.1
"""How often there is no previous slice, as at the lower end of a CT; and what is added to a real one, so
that a made one is not strange."""
ALONE = Agreement(alike_mm=0.0, neighbour_weight=0.0)
SHARED_NOISE = replace(Agreement(), neighbour_weight=0.0)


@dataclass(frozen=True, eq=False)
class FollowingSlice(HoledSlice):
    """previous: (Y, X) HU of the slice below on the same pixels, None at the end of the CT."""

    previous: np.ndarray | None


class FollowingBatches(PaletteBatches):
    """The same patches, with the slice below as a second channel of `masked`."""

    def _holed(self, view: PatchView, hole: np.ndarray, fill: int) -> FollowingSlice:
        drawn, place = super()._holed(view, hole, fill), view.place
        previous = None
        if place.z > 0 and self.rng.random() >= LEFT_OUT:
            below = PatchView.of(
                SlicePlace(place.ct, place.z - 1, place.centre_mm), len(hole), view.spacing_mm
            )
            previous = below.hu + (drawn.hu - view.hu)  # the same shift of HU
        return FollowingSlice(drawn.hu, drawn.hole, drawn.scored, fill, previous)

    def _flip(self, drawn: HoledSlice) -> FollowingSlice:
        assert isinstance(drawn, FollowingSlice)
        axes = (1,) if self.rng.random() < 0.3 else ()
        hu, hole, scored = (np.flip(part, axes) for part in (drawn.hu, drawn.hole, drawn.scored))
        previous = None if drawn.previous is None else np.flip(drawn.previous, axes)
        return FollowingSlice(hu, hole, scored, drawn.fill, previous)

    def collate(self, samples: Sequence[HoledSlice]) -> PaletteBatch:
        batch = super().collate(samples)
        shown = [one.previous for one in samples if isinstance(one, FollowingSlice)]
        units = [np.zeros(one.hu.shape) if p is None else self.scale.to_unit(p.astype(np.float32))
                 for one, p in zip(samples, shown, strict=True)]  # fmt: skip
        noisy = np.stack(units) + NOISE * self.rng.standard_normal(np.shape(units))
        below = torch.from_numpy(noisy.astype(np.float32))[:, None]
        return replace(batch, masked=torch.cat((batch.masked, below), dim=1))


class Plain(PaletteTrainer):
    """Goes on with the weights that ship."""

    def build(self) -> PaletteUNet:
        network = PaletteUNet(self.recipe.network)
        network.load_state_dict(load_file(find_model("palette").weights))
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Following(Plain):
    """The same with one more channel, which begins as nothing."""

    def build(self) -> PaletteUNet:
        network = super().build()
        old = network.first
        network.first = nn.Conv2d(old.in_channels + 1, old.out_channels, 3, padding=1)
        with torch.no_grad():
            network.first.weight.zero_()
            network.first.weight[:, [0, 1, 3]] = old.weight
            network.first.bias.copy_(old.bias)  # type: ignore[union-attr,arg-type]
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def further(steps: int) -> PaletteRecipe:
    ours = RECIPES["ours"]
    patches = replace(ours.patches, sides=(96,), shares=(1.0,), voxels_per_batch=32_768)
    optimiser = replace(ours.optimiser, learning_rate=2e-4, warmup_steps=20)
    return replace(ours, steps=steps, patches=patches, optimiser=optimiser, validate_every=steps)


def train(
    kind: type[Plain], batches: type[PaletteBatches], pack: Path, recipe: PaletteRecipe, out: Path
) -> HoleFiller:
    trainer = kind(recipe, torch.device("cpu"))
    shown = (recipe.scale, trainer.numpy_rng, recipe.patches, recipe.drop_fill)
    seen = batches(load_side(pack, validation=False), *shown)
    held_out = batches(load_side(pack, validation=True), *shown)
    if not trainer.resume(out):
        trainer.fit(seen, held_out, out)
    print(f"{out.name}: loss {trainer.progress.history[-1]['validation_loss']:.3f}")
    spread, ends = recipe.data_spread, unit_ends(recipe.scale)
    return HoleFiller(Evaluator(trainer.average), trainer.schedule, recipe.prediction, spread, ends)


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of an organ to fill, and one more at each end. hu, hole: (Z, Y, X)."""

    hu: np.ndarray
    hole: np.ndarray
    fill: str
    slice_mm: float

    @property
    def unit(self) -> np.ndarray:
        return SOFT_TISSUE.to_unit(self.hu.astype(np.float32))


def held_out_stacks(pack: Path, slices: int) -> Iterator[Stack]:
    """Of the abdomen nobody trained on, every organ where it is largest."""
    ct = next(one for one in load_side(pack, validation=True) if one.name == "CRLM-CT-1004")
    for fill in FILLS:
        areas = np.count_nonzero(ct.labels == fill_number(fill), axis=(1, 2))
        if areas.any() and fill != "lung":
            low = int(np.clip(areas.argmax() - slices // 2, 1, len(areas) - slices - 1))
            yield cut_stack(ct, range(low - 1, low + slices + 1), fill)


def cut_stack(ct: KnownCT, slices: range, fill: str) -> Stack:
    number = fill_number(fill)
    places = np.argwhere(ct.labels[slices.start : slices.stop] == number)[:, 1:]
    centre_mm = places.mean(axis=0) * ct.spacing_mm[1:]
    views = [PatchView.of(SlicePlace(ct, z, centre_mm), SIDE, SPACING_MM) for z in slices]
    hole = np.stack([view.covered_by(number) for view in views])
    hole[0] = hole[-1] = False
    return Stack(np.stack([view.hu for view in views]), hole, fill, float(ct.spacing_mm[0]))


def fill_slab(filler: HoleFiller, stack: Stack, agreement: Agreement, seed: int) -> np.ndarray:
    """(Z, Y, X) HU: all slices side by side, as the system does it."""
    slab = MadeSlices.of(stack.unit[None], stack.hole[None], stack.slice_mm, agreement)
    cpu, noise = torch.device("cpu"), slab.noise([seed])
    image, inside = slab.lay_out(stack.unit[None], [0], cpu), slab.lay_out(stack.hole[None], [0], cpu) > 0
    veil, start = noise(image.shape, torch.float32), noise(image.shape, torch.float32)
    fill = torch.full((len(image),), fill_number(stack.fill))
    holes, schedule = Holes.of(image, inside, veil, fill), filler.schedule
    denoise = filler.denoiser(holes)

    def agreeing(x: Tensor, t: int) -> Tensor:
        return holes.put(slab.agree(denoise(x, t), [0], schedule.sigma(t) / schedule.alpha(t)))

    made = solve(filler, holes, start, agreeing)
    return SOFT_TISSUE.from_unit(slab.put_back(made, [0])[0].numpy())


def fill_upwards(filler: HoleFiller, stack: Stack, agreement: Agreement, seed: int) -> np.ndarray:
    """(Z, Y, X) HU: slice after slice, each shown the one below, real or made. Of the agreement, only the
    noise that slices share."""
    slab = MadeSlices.of(stack.unit[None], stack.hole[None], stack.slice_mm, agreement)
    noise, unit = slab.noise([seed]), stack.unit.copy()
    shape = (slab.depth.stop - slab.depth.start, 1, SIDE, SIDE)
    veils, starts = noise(shape, torch.float32), noise(shape, torch.float32)
    for number, z in enumerate(range(slab.depth.start, slab.depth.stop)):
        image, below = (torch.from_numpy(unit[k])[None, None] for k in (z, z - 1))
        inside = torch.from_numpy(stack.hole[z])[None, None]
        plain = Holes.of(image, inside, veils[number][None], torch.tensor([fill_number(stack.fill)]))
        holes = replace(plain, masked=torch.cat((plain.masked, below), dim=1))
        unit[z] = solve(filler, holes, starts[number][None], filler.denoiser(holes))[0, 0].numpy()
    return SOFT_TISSUE.from_unit(unit)


@torch.inference_mode()
def solve(
    filler: HoleFiller, holes: Holes, start: Tensor, denoise: Callable[[Tensor, int], Tensor]
) -> Tensor:
    x, times = holes.put(calm(start, COARSE_NOISE)), visited_timesteps(filler.schedule, STEPS)
    return dpm_solver_pp_2m(denoise, x, filler.schedule, times, after_step=[holes.keep_clean()])


def describe(name: str, stacks: Sequence[Stack], made: Sequence[np.ndarray]) -> str:
    """Medians over organs, resampled by organ; HU in the range of the window."""
    lo, hi = SOFT_TISSUE.lo_hu, SOFT_TISSUE.hi_hu
    real = [stack.hu.clip(lo, hi) for stack in stacks]
    error = [np.abs(m - r)[s.hole].mean() for m, r, s in zip(made, real, stacks, strict=True)]
    mean = [abs((m - r)[s.hole].mean()) for m, r, s in zip(made, real, stacks, strict=True)]
    apart = [
        difference_hu(m, s.hole) / difference_hu(r, s.hole)
        for m, r, s in zip(made, real, stacks, strict=True)
    ]
    names = [stack.fill for stack in stacks]
    figures = [by_patient(median, names, np.array(values)) for values in (apart, error, mean)]
    words = ("neighbours differ, of the real", "HU a voxel", "HU of the mean")
    told = [
        f"{each.value:.2f} ({each.low:.2f} to {each.high:.2f}) {word}"
        for each, word in zip(figures, words, strict=True)
    ]
    return f"{name}: " + "; ".join(told)


def read_options() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--slices", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    os.environ.setdefault("LESIONBRUSH_ENGINE", "pytorch")  # the weights are used once
    pack, recipe = prepare_pack(Run(data=options.data, out=options.out)), further(options.steps)
    plain = train(Plain, PaletteBatches, pack, recipe, options.out / "plain")
    following = train(Following, FollowingBatches, pack, recipe, options.out / "previous")
    ways: dict[str, Callable[[Stack, int], np.ndarray]] = {
        "each on its own": lambda stack, seed: fill_slab(plain, stack, ALONE, seed),
        "slab": lambda stack, seed: fill_slab(plain, stack, Agreement(), seed),
        "previous slice": lambda stack, seed: fill_upwards(following, stack, ALONE, seed),
        "previous slice, shared noise": lambda stack, seed: fill_upwards(
            following, stack, SHARED_NOISE, seed
        ),
    }
    stacks = list(held_out_stacks(pack, options.slices))
    columns = [[stack.hu for stack in stacks]]
    for name, way in ways.items():
        columns.append([way(stack, seed) for seed, stack in enumerate(stacks)])
        print(describe(name, stacks, columns[-1]), f"; {len(stacks)} organs, {options.steps} further steps")
    draw(stacks, columns, ["real", *ways], options.out / "previous.png")


def draw(
    stacks: Sequence[Stack], columns: Sequence[Sequence[np.ndarray]], names: Sequence[str], path: Path
) -> None:
    """Coronal, where slices that do not agree are seen: a row an organ, head up."""
    panels = []
    for number, stack in enumerate(stacks):
        row = int(stack.hole.sum(axis=(0, 2)).argmax())
        for name, made in zip(names, columns, strict=True):
            shown = made[number][::-1, row, ::-1]
            panels.append(
                Panel(shown, (stack.slice_mm, SPACING_MM), SOFT_TISSUE_SHOWN, f"{stack.fill}, {name}")
            )
    sheet(panels, len(names)).save(path)


if __name__ == "__main__":
    main()
