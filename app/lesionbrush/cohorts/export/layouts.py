"""Where images and labels go, and what others read beside them: nnU-Net v2, MSD (decathlon), MONAI, BIDS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lesionbrush.cohorts.export import bids
from lesionbrush.cohorts.export.names import ENDING, ExportedCase
from lesionbrush.cohorts.specification import CohortSpecification
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom_export.case import CT, SEG

Form = Literal["nnunet", "msd", "monai", "bids", "dicom"]
FORMS: tuple[Form, ...] = get_args(Form)
_NNUNET_FOLDER = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
_LESION = "lesion"


@dataclass(frozen=True)
class DatasetForm:
    """image, label: paths in the dataset of a case, of folders where they are DICOM; manifests: files and
    what is in them, as text or as what becomes JSON.
    """

    image: Callable[[ExportedCase], str]
    label: Callable[[ExportedCase], str]
    manifests: Callable[[CohortSpecification, Sequence[ExportedCase], str], Mapping[str, Any]]


def check_name(form: Form, folder: str) -> None:
    """InvalidRequest for a folder whose name nnU-Net would not take."""
    if form == "nnunet" and not _NNUNET_FOLDER.fullmatch(folder):
        raise InvalidRequest(
            f"{folder}: nnU-Net finds its data by the folder's name: call it DatasetNNN_Name, say "
            "Dataset501_Lesions"
        )


def _in_tr_or_ts(kind: str, ending: str) -> Callable[[ExportedCase], str]:
    def place(case: ExportedCase) -> str:
        return f"{kind}{'Ts' if case.record.split == 'test' else 'Tr'}/{case.name}{ending}"

    return place


def _of(cases: Sequence[ExportedCase], *splits: str) -> list[ExportedCase]:
    return [case for case in cases if case.record.split in splits]


def _nnunet(
    specification: CohortSpecification, cases: Sequence[ExportedCase], license_: str
) -> Mapping[str, Any]:
    folds = {name: [case.name for case in _of(cases, name)] for name in ("train", "val")}
    about = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, _LESION: 1},
        "numTraining": len(_of(cases, "train", "val")),
        "file_ending": ENDING,
        "name": specification.name,
        "description": specification.description,
        "licence": license_,
    }
    return {"dataset.json": about, **({"splits_final.json": [folds]} if folds["val"] else {})}


def _msd(
    specification: CohortSpecification, cases: Sequence[ExportedCase], license_: str
) -> Mapping[str, Any]:
    form = DATASET_FORMS["msd"]
    training, test = _of(cases, "train", "val"), _of(cases, "test")
    about = {
        "name": specification.name,
        "description": specification.description,
        "reference": "made by LesionBrush, see README.md",
        "licence": license_,
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": _LESION},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [
            {"image": f"./{form.image(case)}", "label": f"./{form.label(case)}"} for case in training
        ],
        "test": [f"./{form.image(case)}" for case in test],
    }
    splits = {name: [case.name for case in _of(cases, name)] for name in ("train", "val", "test")}
    return {"dataset.json": about, "splits.json": splits}


def _monai(
    specification: CohortSpecification, cases: Sequence[ExportedCase], license_: str
) -> Mapping[str, Any]:
    form = DATASET_FORMS["monai"]
    lists = {
        key: [{"image": form.image(case), "label": form.label(case)} for case in _of(cases, split)]
        for key, split in (("training", "train"), ("validation", "val"), ("testing", "test"))
    }
    about = {"name": specification.name, "description": specification.description, "licence": license_}
    return {"datalist.json": {**about, "labels": {"0": "background", "1": _LESION}, **lists}}


DATASET_FORMS: Mapping[Form, DatasetForm] = {
    "nnunet": DatasetForm(_in_tr_or_ts("images", f"_0000{ENDING}"), _in_tr_or_ts("labels", ENDING), _nnunet),
    "msd": DatasetForm(_in_tr_or_ts("images", ENDING), _in_tr_or_ts("labels", ENDING), _msd),
    "monai": DatasetForm(
        lambda case: f"images/{case.name}{ENDING}", lambda case: f"labels/{case.name}{ENDING}", _monai
    ),
    "bids": DatasetForm(bids.image, bids.mask, bids.manifests),
    "dicom": DatasetForm(lambda case: f"{case.name}/{CT}", lambda case: f"{case.name}/{SEG}", lambda *_: {}),
}
