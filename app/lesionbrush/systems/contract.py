"""What a system is. Only what `load`, `train` and `evaluate` import, when they are used, needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionbrush.core.generate import GenerateHooks
from lesionbrush.core.inputs import Input
from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.request import BaseRequest
from lesionbrush.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from lesionbrush.training.trainings import Training

Makes = Literal["edit", "volume"]
CardT = TypeVar("CardT", bound="SystemCard")
_FLAT = frozenset(
    {"schedule", "timesteps", "scaling", "field", "inputs", "temperature", "grain_temperature"}
    | {"outline_of_blur", "outline_if_sharp_mm", "core_hu", "ground_glass_above_lung_hu", "calcium"}
    | {"small_solid", "network", "attributes"}
)
"""Cards without a section had all of these, whatever their system."""


class SystemCard(BaseModel):
    """What a system alone knows of one of its models: `ModelCard.section`, typed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls: type[CardT], card: ModelCard) -> CardT:
        """WeightsError names what is wrong with the section."""
        known = cls.model_fields
        section = {name: v for name, v in card.section.items() if name in known or name not in _FLAT}
        try:
            return cls.model_validate(section)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise WeightsError(f"the card of {card.name!r} does not fit {card.system!r}: {wrong}") from error


class DiffusionCard(SystemCard):
    """How the noise of a diffusion model is."""

    schedule: str
    timesteps: int = Field(1000, description="levels of the noise schedule, T")
    temperature: float = Field(1.0, ge=0, description="on the noise that `ddpm` draws; below 1 is calmer")


class DiffusionUNetShape(BaseModel):
    """What fixes the tensors of a network on MONAI's `DiffusionModelUNet`, and how its output is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dims: Literal[2, 3]
    in_channels: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int = 1
    norm_groups: int = 32
    prediction: Literal["eps", "x0", "v"]
    data_spread: float = Field(1.0, gt=0, description="of the images that v is scaled for")
    variance: Literal["fixed_small", "fixed_large", "learned_range"] = "fixed_small"


@dataclass(frozen=True)
class NetworkWords:
    """A model's network in the words of a MONAI bundle: its class with its arguments, and its `forward`."""

    definition: Mapping[str, Any]
    data_format: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of a system as their publishers store them.

    convert: from what their file holds to a state dict of ours; WeightsError names what does not fit. facts:
    of a card, that follow from the publication.
    """

    convert: Callable[[Any], Mapping[str, Tensor]]
    facts: Mapping[str, Any]


Load = Callable[[InstalledModel, "str | None"], Any]
Evaluate = Callable[[Any, Path, int, Path], Mapping[str, float]]


def late(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported, with the torch it needs, when it is first called."""

    def call(*given: Any, **named: Any) -> Any:
        return attrgetter(name)(import_module(module))(*given, **named)

    return call


@dataclass(frozen=True)
class System:
    """One published way to make CT.

    hooks: what is done before the network is asked, and the inputs. load: a ready `core.model.Model` or
    `core.generate.VolumeModel` on a device (None: CUDA when there is one). train: how its networks are
    trained. bundle: see `NetworkWords`. evaluate: (model, folder of data, cases, folder for pictures) to
    figures for its card, where those of a lesion model are not what to measure. published: weights that users
    may add.
    """

    name: str
    title: str
    request: type[BaseRequest]
    card: type[SystemCard]
    hooks: EditHooks | GenerateHooks
    load: Load
    train: Callable[[], Training] | None = None
    bundle: Callable[[ModelCard], NetworkWords] | None = None
    evaluate: Evaluate | None = None
    published: Callable[[], PublishedWeights] | None = None

    @property
    def makes(self) -> Makes:
        """An edit keeps the CT outside its region bit by bit; a volume is a whole new CT."""
        return "edit" if isinstance(self.hooks, EditHooks) else "volume"

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.hooks.inputs
