"""What every part of an evaluation works with: the nodules, the model, how much to do, where to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from lesionbrush.evaluation.cases import Nodule, load_nodules
from lesionbrush.evaluation.features import features
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.results import Picture
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems.lesion_inpainting.request import Attributes, Sampler

Kind = Literal["mask_only", "readers", "measured"]
KINDS: tuple[Kind, ...] = ("mask_only", "readers", "measured")
KIND_TEXT = {
    "mask_only": "mask alone",
    "readers": "readers' scores",
    "measured": "readers' scores, mean and spread of HU",
}


@dataclass(frozen=True)
class Plan:
    """How much is done. cases 0: every held-out nodule; the other counts are nodules, values or seeds.

    painted_places: in each chest CT;
    least_steps: of any network that is trained here, however few patches there are.
    """

    cases: int = 0
    training_nodules: int = 0
    sweep_cases: int = 6
    sweep_values: int = 4
    texture_cases: int = 10
    diversity_cases: int = 10
    diversity_seeds: int = 4
    copied_cases: int = 16
    steps: tuple[int, ...] = (2, 4, 8, 12, 16, 32)
    samplers: tuple[Sampler, ...] = ("ddpm", "ddim", "dpm_solver_pp_2m")
    step_cases: int = 4
    removal_cases: int = 16
    painted_places: int = 4
    grid_seeds: int = 3
    critic_epochs: int = 20
    critic_folds: int = 5
    least_steps: int = 120
    reader_epochs: int = 12
    halvings: int = 40


FULL = Plan()
QUICK = Plan(
    cases=16,
    training_nodules=96,
    sweep_cases=2,
    sweep_values=3,
    texture_cases=3,
    diversity_cases=3,
    diversity_seeds=3,
    copied_cases=4,
    steps=(2, 8, 16),
    samplers=("ddpm", "ddim", "dpm_solver_pp_2m"),
    step_cases=2,
    removal_cases=3,
    painted_places=2,
    grid_seeds=2,
    critic_epochs=8,
    critic_folds=3,
    least_steps=40,
    reader_epochs=6,
    halvings=20,
)


@dataclass(frozen=True, eq=False)
class Bench:
    """Nodules are loaded, and syntheses made, when first asked for; see `syntheses.Maker` for their cache."""

    data: Path
    out: Path
    maker: Maker
    plan: Plan
    _features: dict[str, np.ndarray] = field(default_factory=dict)
    _arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @cached_property
    def nodules(self) -> list[Nodule]:
        """Of held-out patients."""
        return load_nodules(self.data, validation=True, count=self.plan.cases)

    @cached_property
    def training(self) -> list[Nodule]:
        """Of training patients: for memorisation, and to train the evaluation's own small networks."""
        return load_nodules(self.data, validation=False, count=self.plan.training_nodules)

    @cached_property
    def patients(self) -> list[str]:
        return [nodule.patient for nodule in self.nodules]

    def make(self, kind: Kind) -> list[np.ndarray]:
        """HU on each held-out nodule's own grid, the nodule made anew under its mask."""
        if kind not in self._arrays:
            asked = [attributes_of(nodule, kind) for nodule in self.nodules]
            self._arrays[kind] = self.maker.all(self.nodules, asked, KIND_TEXT[kind])
        return self._arrays[kind]

    @property
    def real(self) -> list[np.ndarray]:
        return [nodule.case.crop.array for nodule in self.nodules]

    def patches(self, kind: Kind) -> list[Patch]:
        return [nodule.patch(array) for nodule, array in zip(self.nodules, self.make(kind), strict=True)]

    @cached_property
    def real_patches(self) -> list[Patch]:
        return [nodule.real for nodule in self.nodules]

    def features(self, kind: Kind | Literal["real"]) -> np.ndarray:
        """(N, F) radiomic features of the held-out nodules."""
        if kind not in self._features:
            patches = self.real_patches if kind == "real" else self.patches(kind)
            self._features[kind] = np.array([features(patch) for patch in patches])
        return self._features[kind]

    @cached_property
    def training_patches(self) -> list[Patch]:
        return [nodule.real for nodule in tqdm(self.training, desc="training nodules", unit="nodule")]

    @cached_property
    def training_features(self) -> np.ndarray:
        return np.array([features(patch) for patch in tqdm(self.training_patches, desc="features")])

    def spread(self, count: int, among: list[Nodule] | None = None) -> list[Nodule]:
        """`count` of the nodules, spread evenly over their sizes."""
        nodules = self.nodules if among is None else among
        return [nodules[k] for k in np.unique(np.linspace(0, len(nodules) - 1, count).round().astype(int))]

    def picture(self, image: Image.Image, file: str, caption: str) -> Picture:
        """Write a PNG beside the report."""
        image.save(self.out / file)
        return Picture(file=file, caption=caption)


def attributes_of(nodule: Nodule, kind: Kind) -> Attributes:
    """What is asked for in each of the three kinds of request."""
    if kind == "mask_only":
        return Attributes()
    return nodule.readers if kind == "readers" else nodule.measured
