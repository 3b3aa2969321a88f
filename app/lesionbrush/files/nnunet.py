"""CTs with the labels of all that is in them, as a dataset that nnU-Net v2 trains on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.durable import new_folder
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout

ENDING = ".nii.gz"


@dataclass(frozen=True)
class DatasetCase:
    """name: of the case in the dataset; ct, labels: files on one grid."""

    name: str
    ct: Path
    labels: Path


def write_nnunet(cases: Sequence[DatasetCase], out: Path) -> dict[str, int]:
    """Whole or not at all, into a folder that is new. Returns what each name is called in all of its cases:
    numbers from 0, background, without a gap, as nnU-Net wants them.

    Raises InvalidRequest (two cases of one name, labels without names), GeometryMismatch, NotACT.
    """
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRequest(f"{twice[0]} is the name of two CTs: give each file its own")
    numbers = _number_all(cases)
    with new_folder(out) as draft:
        for folder in ("imagesTr", "labelsTr"):
            (draft / folder).mkdir(parents=True)
        for case in cases:
            ct, layout = require_ct(read_volume(case.ct)), read_layout(case.labels)
            ct.require_same_grid(layout.labels, "labels")
            write_volume(ct, draft / "imagesTr" / f"{case.name}_0000{ENDING}", ct.note, lasting=False)
            labels = Volume(_renumbered(layout, numbers), ct.affine)
            write_volume(labels, draft / "labelsTr" / f"{case.name}{ENDING}", ct.note, lasting=False)
        about = _describe(out.name, numbers, len(cases))
        (draft / "dataset.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return numbers


def _number_all(cases: Sequence[DatasetCase]) -> dict[str, int]:
    names: set[str] = set()
    for case in cases:
        layout = read_layout(case.labels)
        layout.require_named()
        present = set(np.unique(layout.labels.array).tolist()) - {0}
        names |= {layout.names[number] for number in present}
    return {"background": 0, **{name: number for number, name in enumerate(sorted(names), start=1)}}


def _renumbered(layout: Layout, numbers: Mapping[str, int]) -> np.ndarray:
    """uint8, or uint16 where there are more than 255."""
    labels = layout.labels.array
    found = np.zeros(labels.shape, np.uint8 if len(numbers) <= 256 else np.uint16, order="F")
    for number, name in layout.names.items():
        if number and name in numbers:
            found[labels == number] = numbers[name]
    return found


def _describe(folder: str, numbers: Mapping[str, int], count: int) -> dict[str, object]:
    return {
        "channel_names": {"0": "CT"},
        "labels": dict(numbers),
        "numTraining": count,
        "file_ending": ENDING,
        "name": folder.partition("_")[2],
        "description": "CTs with the layouts they were generated from, by LesionBrush",
    }
