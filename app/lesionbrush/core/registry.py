"""The models that are installed: typed cards in MONAI Bundle folders. Imports no torch.

A model is a folder `models/<name>/` with `configs/metadata.json`, whose key `lesionbrush` holds the card, and
`models/model.safetensors`. `bundle` writes what else MONAI wants in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lesionbrush.errors import UnknownModel, WeightsError

METADATA = Path("configs") / "metadata.json"
WEIGHTS = Path("models") / "model.safetensors"
_CHUNK = 1 << 20


ModelName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Tissue(BaseModel):
    """What a model makes lesions in: tissue that is under a mask or around it, see `surroundings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="in a sentence, after 'lesions in'")
    hu: tuple[float, float] = Field(description="from, to")
    least_share: float = Field(
        gt=0, le=1, description="of the voxels under a mask, or around it, that have such HU"
    )


class ModelCard(BaseModel):
    """What a model is, what it may be used for, and what its weights need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ModelName
    system: str
    title: str
    makes: str = Field(description="what it makes, in one sentence")
    window_hu: tuple[float, float]
    spacing_mm: float
    roi_voxels: tuple[int, ...] = Field(description="sides of the cubes it is run on, smallest first")
    roi_multiple: int = Field(
        description="sides of larger boxes are multiples of this; they are run in tiles"
    )
    tissue: Tissue | None = Field(
        None, description="where its lesions were; a mask elsewhere gets a remark. null: none does"
    )
    section: dict[str, Any] = Field(
        default_factory=dict, description="what its system alone knows, of the type that the system gives it"
    )
    weights_from: ModelName | None = Field(None, description="the model whose weights this one uses as well")
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    weights_license: str
    attribution: str
    trained: dict[str, float] = Field(description="steps taken and hours of work")
    training_data: str
    split: str
    figures: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        description="measured on validation patients; units in the names"
    )
    limits: tuple[str, ...]
    recommended: bool = Field(False, description="the model to begin with in its tissue; it is named first")
    shipped: bool = Field(False, description="comes with LesionBrush, whose folder it stays in")

    @model_validator(mode="before")
    @classmethod
    def _flat_before(cls, values: Any) -> Any:
        """Cards had no sections at first: what is not common to all systems is its system's."""
        if not isinstance(values, Mapping) or "section" in values:
            return values
        own = {name: value for name, value in values.items() if name not in cls.model_fields}
        return {**{name: value for name, value in values.items() if name not in own}, "section": own}


@dataclass(frozen=True)
class InstalledModel:
    """A card and where its folder is."""

    card: ModelCard
    folder: Path

    @property
    def weights(self) -> Path:
        """Its own, or those of the model beside it that the card names."""
        owner = self.card.weights_from
        return (self.folder if owner is None else self.folder.parent / owner) / WEIGHTS


def models_dir() -> Path:
    """`LESIONBRUSH_MODELS`, or the folder `models` of this checkout."""
    chosen = os.environ.get("LESIONBRUSH_MODELS")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[3] / "models"


def load_card(folder: Path) -> ModelCard:
    """The card of one model folder. WeightsError when it is missing or not valid."""
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        return ModelCard.model_validate(metadata["lesionbrush"])
    except (OSError, ValueError, KeyError, TypeError) as error:  # ValueError: no text, no JSON, no card
        raise WeightsError(
            f"model folder {folder.name!r} has no valid {METADATA.as_posix()}: {error}"
        ) from error


def list_models(root: Path | None = None) -> list[InstalledModel]:
    """All installed models by name. WeightsError for a folder whose card is damaged."""
    return [InstalledModel(load_card(folder), folder) for folder in model_folders(root)]


def model_folders(root: Path | None = None, part: Path = METADATA) -> list[Path]:
    """The models' folders that hold `part`, by name. Those with a dot are on their way in or out."""
    found = sorted(path.parent.parent for path in (root or models_dir()).glob(f"*/{part.as_posix()}"))
    return [folder for folder in found if folder.name[0] != "."]


def find_model(name: str, root: Path | None = None) -> InstalledModel:
    """One installed model. UnknownModel lists the names there are."""
    models = {model.card.name: model for model in list_models(root)}
    if name not in models:
        raise UnknownModel(f"no model is called {name!r}; installed are: {', '.join(models) or 'none'}")
    return models[name]


def verify_weights(model: InstalledModel) -> None:
    """WeightsError unless the weights are there and are the ones the card names."""
    try:
        found = file_sha256(model.weights)
    except OSError as error:
        raise WeightsError(
            f"the weights of {model.card.name!r} are missing: restore its {WEIGHTS.name} from the repository"
        ) from error
    if found != model.card.weights_sha256:
        raise WeightsError(
            f"the weights of {model.card.name!r} have SHA-256 {found[:12]}..., the card names "
            f"{model.card.weights_sha256[:12]}...: the file is damaged or another version; restore it"
        )


def file_sha256(*paths: Path) -> str:
    """Of a file, or of several one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
