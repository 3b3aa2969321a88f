"""The CTs of a cohort, found by names alone: none is read before its cases are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionbrush.cohorts.specification import ReferenceRule
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.files.dicom.headers import START_BYTES, is_dicom, read_header, text_of
from lesionbrush.files.records import stem_of

_LOOKED_AT = 20
"""How many files of a folder are looked at for a DICOM slice."""


@dataclass(frozen=True)
class CohortReference:
    """One CT. name: unique in the cohort; path: a file, or the folder of a series; labels, lesions: on its
    grid; names: a JSON table of what labels mean.
    """

    name: str
    path: Path
    patient: str
    license: str
    labels: Path | None = None
    names: Path | None = None
    lesions: Path | None = None


def find_references(rules: Sequence[ReferenceRule]) -> list[CohortReference]:
    """All of them by name. Raises InvalidRequest (a folder without any, two of one name, no patient)."""
    found: dict[str, CohortReference] = {}
    for number, rule in enumerate(rules):
        where = f"references.{number}"
        mine = list(_of_rule(rule, where))
        if not mine:
            raise InvalidRequest(
                f"{where}: no CT in {rule.folder.name!r} is called {rule.files!r}: name files, or a folder "
                "with a DICOM series in each folder"
            )
        for one in mine:
            if one.name in found:
                raise InvalidRequest(
                    f"{where}: two CTs are called {one.name!r}; names are ids: rename one of them"
                )
            found[one.name] = one
    return [found[name] for name in sorted(found)]


def _of_rule(rule: ReferenceRule, where: str) -> Iterator[CohortReference]:
    folder = rule.folder
    if not folder.exists():
        raise InvalidRequest(f"{where}.folder: there is no {folder.name!r}: write where the CTs are")
    if folder.is_file() or _has_slices(folder):
        yield _reference(rule, folder, stem_of(folder), where)
        return
    paths = [path for path in sorted(folder.glob(rule.files)) if _may_be_a_ct(path)]
    beside = {path for ct in paths for path in (_beside(rule.labels, ct), _beside(rule.lesions, ct))}
    for path in paths:
        if path not in beside:
            relative = path.relative_to(folder)
            yield _reference(rule, path, "__".join((*relative.parts[:-1], stem_of(relative))), where)


def _may_be_a_ct(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and (_has_slices(path) if path.is_dir() else stem_of(path) != path.name)


def _has_slices(folder: Path) -> bool:
    return _first_slice(folder) is not None


def _first_slice(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.is_file())[:_LOOKED_AT]
    return next((path for path in files if _is_slice(path)), None)


def _is_slice(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(START_BYTES))


def _reference(rule: ReferenceRule, path: Path, name: str, where: str) -> CohortReference:
    return CohortReference(
        name,
        path,
        _patient_of(rule, path, name, where),
        rule.license,
        _beside(rule.labels, path),
        rule.label_names,
        _beside(rule.lesions, path),
    )


def _beside(pattern: str | None, ct: Path) -> Path | None:
    return None if pattern is None else ct.parent / pattern.replace("{name}", stem_of(ct))


def _patient_of(rule: ReferenceRule, path: Path, name: str, where: str) -> str:
    if rule.patient is not None:
        match = re.search(rule.patient, name)
        if match is None:
            raise InvalidRequest(
                f"{where}.patient: {rule.patient!r} says nothing of {name!r}: write an expression that finds "
                "the patient in every name, or leave it out"
            )
        return match.group(1)
    slice_ = _first_slice(path)
    if slice_ is None:
        return name
    try:
        return text_of(read_header(slice_, ["PatientID"]), "PatientID") or name
    except LesionBrushError:  # told when the series is read
        return name
