"""A recipe: everything that fixes how a network is trained, as data. The loop and the batches follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from lesionbrush.core.hu import HUWindow
from lesionbrush.errors import InvalidRequest
from lesionbrush.training.levels import EVEN, Levels

Prediction = Literal["eps", "x0", "v"]


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """adam adds the decay of weights to the gradient, adamw takes it off the weights (arXiv:1711.05101).

    The rate rises over `warmup_steps`, stays, and falls to nothing over the last share of the steps (Hagele
    et al. 2024, arXiv:2405.18392); with neither it is constant. clip_norm: of the gradient; None: as it is.
    """

    kind: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 6e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 200
    cooldown_share: float = 0.3
    clip_norm: float | None = 1.0

    def rate(self, done: int, steps: int) -> float:
        """Of the step after `done` of `steps`. On the plateau the number of steps may still be changed."""
        rise = (done + 1) / self.warmup_steps if self.warmup_steps else 1.0
        fall = (steps - done) / (self.cooldown_share * steps) if self.cooldown_share else 1.0
        return self.learning_rate * max(0.0, min(1.0, rise, fall))


def plain_adam(learning_rate: float) -> Optimiser:
    """Adam by its defaults at one rate, without anything added: of papers that state no more."""
    return Optimiser(
        kind="adam",
        learning_rate=learning_rate,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        warmup_steps=0,
        cooldown_share=0.0,
        clip_norm=None,
    )


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """Exponential, of the weights: what is kept of it at each update, every so many steps.

    young: at first less is kept, half over a twentieth of the steps so far, so that the beginning is
    forgotten.
    """

    decay: float = 0.5 ** (1 / 300)
    every_steps: int = 1
    young: bool = True

    def keep(self, step: int) -> float:
        """After this many steps; 1 where it is left alone."""
        if step % self.every_steps:
            return 1.0
        return min(self.decay, 0.5 ** (1 / (0.05 * step + 1))) if self.young else self.decay


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is scored in each voxel.

    of: what the network says, or the clean image that follows from it; the latter weighted per noise level
    so that every level counts alike (Karras et al. 2022, arXiv:2206.00364, Sec. 5: lambda = 1 / c_out^2).
    weighted: whether scans with little noise count more, and the places that a batch says do.
    """

    error: Literal["squared", "absolute"] = "squared"
    of: Literal["prediction", "x0"] = "prediction"
    weighted: bool = True


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Sides in voxels, how often each is drawn, and how many patches of it make a batch.

    counts: for each side; empty: as many as have `voxels_per_batch` together, in two dimensions.
    scale: how many times larger the batches are made, for a GPU.
    """

    sides: tuple[int, ...]
    shares: tuple[float, ...]
    counts: tuple[int, ...] = ()
    voxels_per_batch: int = 0
    scale: int = 1

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """A side and the number of patches."""
        k = int(rng.choice(len(self.sides), p=self.shares))
        side = self.sides[k]
        if self.counts:
            return side, self.scale * self.counts[k]
        return side, max(1, self.scale * self.voxels_per_batch // side**2)

    def unscaled(self) -> Patches:
        """As on a CPU, for validation: its loss is the same whatever the scale."""
        return replace(self, scale=1)

    def resize(self, sides: Sequence[int]) -> Patches:
        """Of other sides, each as often; the smallest count is kept."""
        if tuple(sides) == self.sides:
            return self
        shares, counts = (1 / len(sides),) * len(sides), (min(self.counts, default=0),) * len(sides)
        return replace(self, sides=tuple(sides), shares=shares, counts=counts if self.counts else ())


NetworkT = TypeVar("NetworkT")


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[NetworkT]):
    """The same recipe, seed, pack and machine give the same weights.

    source: where its numbers are from. differs: what is not as its source has it, a sentence each.
    prediction: what the network says. data_spread: of the images, which v and the error of x_0 are scaled by.
    accumulate: batches whose gradients make one step.
    """

    name: str
    source: str
    differs: tuple[str, ...] = ()
    network: NetworkT
    prediction: Prediction
    data_spread: float = 1.0
    loss: Loss = field(default_factory=Loss)
    schedule: str = "cosine"
    timesteps: int = 1000
    levels: Levels = EVEN
    window: HUWindow = field(default_factory=lambda: HUWindow(-1000.0, 1000.0))
    patches: Patches
    accumulate: int = 1
    optimiser: Optimiser = field(default_factory=Optimiser)
    average: MovingAverage = field(default_factory=MovingAverage)
    steps: int
    validate_every: int = 500
    validation_batches: int = 12
    validations_per_sheet: int = 4

    def cost(self) -> str:
        """In a few words, for those who choose."""
        sides = ", ".join(map(str, self.patches.sides))
        batches = f" of {self.accumulate} batches each" if self.accumulate > 1 else ""
        return f"{self.steps} steps{batches}, patches of {sides} voxels a side ({self.source})"


RecipeT = TypeVar("RecipeT", bound=Recipe)


def by_name(*recipes: RecipeT) -> Mapping[str, RecipeT]:
    return {recipe.name: recipe for recipe in recipes}


def changes(before: object, after: object) -> Iterator[str]:
    """One line for each fact in which two recipes differ."""
    old, new = dict(_facts(before)), dict(_facts(after))
    for name, value in new.items():
        if value != old.get(name):
            yield f"{name} {value} instead of {old.get(name)}"


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not is_dataclass(value):
        yield name, value
        return
    for one in fields(value):
        yield from _facts(getattr(value, one.name), f"{name}.{one.name}" if name else one.name)


class UNetSizes(Protocol):
    """What the networks on MONAI's `DiffusionModelUNet` have in common."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    norm_groups: int

    @property
    def multiple(self) -> int: ...


def resize(recipe: RecipeT, sides: Sequence[int] | None, channels: Sequence[int] | None) -> RecipeT:
    """With patches and a network of other sizes; the deepest levels keep their attention.

    InvalidRequest for sizes that do not fit each other.
    """
    network = recipe.network
    if channels:
        attention = ((False,) * len(channels) + network.attention)[-len(channels) :]
        network = replace(network, channels=tuple(channels), attention=attention)
    sides = tuple(sides or recipe.patches.sides)
    require_sizes(network, sides)
    return replace(recipe, network=network, patches=recipe.patches.resize(sides))


def require_sizes(network: UNetSizes, sides: Sequence[int]) -> None:
    """Raises InvalidRequest."""
    wrong = [side for side in sides if side < 1 or side % network.multiple]
    if wrong:
        raise InvalidRequest(f"--sides {wrong[0]}: sides must be multiples of {network.multiple}")
    wrong = [width for width in network.channels if width < 1 or width % network.norm_groups]
    if wrong:
        raise InvalidRequest(f"--channels {wrong[0]}: widths must be multiples of {network.norm_groups}")
