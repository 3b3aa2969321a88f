"""A raw dataset of nnU-Net v2 as it lies in its folder: CTs, labels, and what their numbers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionbrush.errors import InvalidRequest

CHANNEL, TOLD = "_0000", 3
ABOUT, IMAGES, LABELS = "dataset.json", "imagesTr", "labelsTr"


@dataclass(frozen=True)
class RawCase:
    """name: of the case; ct, labels: files."""

    name: str
    ct: Path
    labels: Path


@dataclass(frozen=True)
class RawDataset:
    """cases: by name, sorted; labels: the values in label files of each name, without the background."""

    folder: Path
    cases: tuple[RawCase, ...]
    labels: Mapping[str, frozenset[int]]

    def values(self, name: str, option: str) -> frozenset[int]:
        """The values of a label. InvalidRequest, which names the option, where there is none such."""
        if name not in self.labels:
            raise InvalidRequest(
                f"{option} {name}: labels of {self.folder.name} are {', '.join(self.labels)}"
            )
        return self.labels[name]


def is_raw_dataset(folder: Path) -> bool:
    return any((folder / name).exists() for name in (ABOUT, IMAGES, LABELS))


def find_raw_dataset(folder: Path) -> RawDataset:
    """No voxel is read. InvalidRequest for what nnU-Net v2 would not train on, and for what is no CT."""
    for name, there in ((ABOUT, Path.is_file), (IMAGES, Path.is_dir), (LABELS, Path.is_dir)):
        if not there(folder / name):
            raise InvalidRequest(f"{folder.name} has no {name}: a raw dataset of nnU-Net v2 has one")
    about = _read(folder / ABOUT)
    ending = about.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise InvalidRequest(f"{folder.name}/{ABOUT}: file_ending is {ending!r}: write it as '.nii.gz'")
    _require_ct(folder, about)
    return RawDataset(folder, _pairs(folder, ending), _labels(folder, about))


def _read(path: Path) -> dict[str, Any]:
    where = f"{path.parent.name}/{path.name}"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{where} is no JSON: {error}") from error
    if not isinstance(about, dict) or "channel_names" not in about or "labels" not in about:
        raise InvalidRequest(
            f"{where} has no channel_names or no labels: it is not of nnU-Net v2 (nnU-Net has "
            "nnUNetv2_convert_MSD_dataset for older ones)"
        )
    if "dataset" in about:
        raise InvalidRequest(f"{where}: files named by 'dataset' are not read: put them into {IMAGES}")
    return about


def _require_ct(folder: Path, about: Mapping[str, Any]) -> None:
    channels = about["channel_names"]
    names = list(channels.values()) if isinstance(channels, dict) else [channels]
    if len(names) != 1 or str(names[0]).upper() != "CT":
        shown = ", ".join(str(name) for name in names) or "none"
        raise InvalidRequest(f"{folder.name}: channels are {shown}: this needs one, CT in HU")


def _labels(folder: Path, about: Mapping[str, Any]) -> dict[str, frozenset[int]]:
    labels = about["labels"]
    if not isinstance(labels, dict) or not all(_is_value(value) for value in labels.values()):
        raise InvalidRequest(
            f"{folder.name}/{ABOUT}: labels are {labels!r}: write a number, or a list of them, for each name"
        )
    sets = {name: frozenset(v if isinstance(v, list) else [v]) for name, v in labels.items()}
    return {name: values for name, values in sets.items() if values != {0} and name != "ignore"}


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_value(one) for one in value)
    return isinstance(value, int) and not isinstance(value, bool)


def _pairs(folder: Path, ending: str) -> tuple[RawCase, ...]:
    images, labels = _stems(folder / IMAGES, ending), _stems(folder / LABELS, ending)
    if several := [name for name in images if not name.endswith(CHANNEL)]:
        raise InvalidRequest(
            f"{folder.name}/{IMAGES}: {_some(several)}: CTs are called CASE{CHANNEL}{ending}"
        )
    names = {name.removesuffix(CHANNEL): path for name, path in images.items()}
    if alone := sorted(names.keys() - labels.keys()):
        raise InvalidRequest(
            f"{folder.name}/{LABELS} has no labels of {_some(alone)}: add {alone[0]}{ending}"
        )
    if alone := sorted(labels.keys() - names.keys()):
        raise InvalidRequest(
            f"{folder.name}/{IMAGES} has no CT of {_some(alone)}: add {alone[0]}{CHANNEL}{ending}"
        )
    if not names:
        raise InvalidRequest(f"{folder.name}/{IMAGES} has no file *{CHANNEL}{ending}")
    return tuple(RawCase(name, names[name], labels[name]) for name in sorted(names))


def _stems(folder: Path, ending: str) -> dict[str, Path]:
    files = (path for path in folder.iterdir() if path.name.endswith(ending) and path.name[0] != ".")
    return {path.name.removesuffix(ending): path for path in files}


def _some(names: list[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
