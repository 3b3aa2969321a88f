"""Where published weights that a user has added came from. Imports no torch.

A folder `models/<name>/` like any other (see `registry`), with `configs/published.json` beside the card.
"""

from __future__ import annotations

import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionbrush.core.registry import METADATA, WEIGHTS, load_card, model_folders, models_dir
from lesionbrush.errors import InvalidRequest, UnknownModel, WeightsError
from lesionbrush.published.catalogue import KnownModel

PUBLISHED = Path("configs") / "published.json"
_REMOVED = ".removed-"


class Origin(BaseModel):
    """Where weights came from, and what was known about them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="the URL without its query, or the name of the file; of each of several")
    size_bytes: int
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="of the file as published, of several one after the other"
    )
    sha256_expected: bool = Field(description="was compared with a value known before; else only recorded")


class PublishedCard(BaseModel):
    """What was added, from where, under which terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: KnownModel
    origin: Origin
    license_accepted: str
    added_on: str = Field(description="a day, ISO 8601")


@dataclass(frozen=True)
class PublishedModel:
    """A card and where its folder is."""

    card: PublishedCard
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def list_published(root: Path | None = None) -> list[PublishedModel]:
    """All added models by name. WeightsError for a folder whose card is damaged."""
    return [PublishedModel(_card(folder), folder) for folder in model_folders(root, PUBLISHED)]


def find_published(name: str, root: Path | None = None) -> PublishedModel:
    """One added model. UnknownModel when it is not there."""
    folder = (root or models_dir()) / name
    if Path(name).name != name or name.startswith(".") or not (folder / PUBLISHED).is_file():
        raise UnknownModel(f"no published model {name!r} has been added (see: run.py models list)")
    return PublishedModel(_card(folder), folder)


def check_removable(name: str, root: Path | None = None) -> Path:
    """The folder of an installed model. InvalidRequest for one that ships with LesionBrush; UnknownModel.

    A folder whose card is damaged can be removed: that is what one does with it.
    """
    folder = (root or models_dir()) / name
    plain = name not in ("", ".", "..") and Path(name).name == name and not name.startswith(".")
    if not plain or not any((folder / card).is_file() for card in (METADATA, PUBLISHED)):
        raise UnknownModel(f"no model is called {name!r} (see: run.py models list)")
    if _is_shipped(folder):
        raise InvalidRequest(f"{name!r} ships with LesionBrush and is not removed; nothing was changed")
    return folder


def _is_shipped(folder: Path) -> bool:
    """Models of this repository: they are not ours to remove from a user's checkout."""
    try:
        return load_card(folder).shipped
    except WeightsError:
        return False


def remove(name: str, root: Path | None = None) -> int:
    """Delete a model: gone at once, then its bytes go. Returns how many. See `check_removable`."""
    folder = check_removable(name, root)
    if folder.is_symlink():
        folder.unlink()  # what it points to is somebody else's
        return 0
    size = sum(about.st_size for about in map(Path.stat, folder.rglob("*")) if stat.S_ISREG(about.st_mode))
    away = folder.with_name(f"{_REMOVED}{name}-{secrets.token_hex(4)}")
    folder.rename(away)
    shutil.rmtree(away)
    return size


def _card(folder: Path) -> PublishedCard:
    try:
        return PublishedCard.model_validate_json((folder / PUBLISHED).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise WeightsError(
            f"model folder {folder.name!r} has no valid {PUBLISHED.as_posix()}: {error}"
        ) from error
