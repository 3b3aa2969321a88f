"""A dataset as BIDS lays them out: subjects, sidecars and tables, and the masks as a derivative in it.

BIDS has no CT yet: the folder `ct` and the ending `_ct` are those of its proposal BEP024, and `.bidsignore`
says so to validators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lesionbrush import __version__
from lesionbrush.cohorts.export.names import ENDING, ExportedCase
from lesionbrush.cohorts.export.tables import provenance_of
from lesionbrush.cohorts.specification import CohortSpecification

VERSION = "1.10.0"
DERIVATIVE = "derivatives/lesionbrush"
_DESCRIPTION = "dataset_description.json"
_GENERATED_BY = [{"Name": "LesionBrush", "Version": __version__}]
_CT_FOLDERS = "**/ct\n"
_IGNORED = _CT_FOLDERS + "truth.csv\ncontact_sheet.png\nprovenance\n"
"""Without a slash behind folders: the validator looks at their names alone."""
_COLUMNS: Mapping[str, str | Mapping[str, str]] = {
    "participant_id": "one for each image; a healthy twin is one of its own",
    "name": "of the same image in truth.csv and provenance/",
    "split": {"train": "training", "val": "validation", "test": "test"},
    "healthy": {"0": "with synthetic lesions", "1": "without any lesion of ours"},
}


def subject(case: ExportedCase) -> str:
    """Letters and digits alone, as BIDS wants them."""
    return "sub-" + "".join(letter for letter in case.name if letter.isalnum())


def image(case: ExportedCase) -> str:
    return f"{subject(case)}/ct/{subject(case)}_ct{ENDING}"


def mask(case: ExportedCase) -> str:
    return f"{DERIVATIVE}/{subject(case)}/ct/{subject(case)}_label-lesion_mask{ENDING}"


def manifests(
    specification: CohortSpecification, cases: Sequence[ExportedCase], license_: str
) -> Mapping[str, Any]:
    """Every file but images, masks, and what each export has beside them."""
    about = {"BIDSVersion": VERSION, "License": license_, "GeneratedBy": _GENERATED_BY}
    title = specification.description or specification.name
    found: dict[str, Any] = {
        _DESCRIPTION: {"Name": title, "DatasetType": "raw", **about},
        f"{DERIVATIVE}/{_DESCRIPTION}": {
            "Name": f"Lesion masks of {title}",
            "DatasetType": "derivative",
            "DatasetLinks": {"images": "../.."},
            **about,
        },
        ".bidsignore": _IGNORED,
        f"{DERIVATIVE}/.bidsignore": _CT_FOLDERS,
        "participants.tsv": _participants(cases),
        "participants.json": {name: _explained(said) for name, said in _COLUMNS.items()},
    }
    for case in cases:
        found[image(case).replace(ENDING, ".json")] = _of_image(case)
        found[mask(case).replace(ENDING, ".json")] = _of_mask(case)
    return found


def _participants(cases: Sequence[ExportedCase]) -> str:
    rows = [tuple(_COLUMNS)]
    for case in cases:
        healthy = case.healthy or not case.record.lesions
        rows.append((subject(case), case.name, case.record.split, str(int(healthy))))
    return "".join("\t".join(row) + "\n" for row in rows)


def _explained(said: str | Mapping[str, str]) -> Mapping[str, Any]:
    return {"Description": said} if isinstance(said, str) else {"Levels": said}


def _of_image(case: ExportedCase) -> Mapping[str, Any]:
    made = provenance_of(case)
    about: dict[str, Any] = {"Modality": "CT", "Units": "HU"}
    if made is not None:
        about |= {"Synthetic": True, "Description": f"{made.mark}. {made.notice}"}
    return about


def _of_mask(case: ExportedCase) -> Mapping[str, Any]:
    return {"Type": "Lesion", "Sources": [f"bids:images:{image(case)}"]}
