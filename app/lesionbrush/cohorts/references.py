"""The CTs of a cohort, found by names; no voxel of a CT is read before its cases are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lesionbrush.cohorts.headers import read_facts
from lesionbrush.cohorts.specification import CohortSpecification, ReferenceRule
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.files.dicom.headers import START_BYTES, is_dicom, read_header, text_of
from lesionbrush.files.peek import holds_labels
from lesionbrush.files.records import stem_of

_TOLD = 5
_LOOKED_AT = 20
"""How many files of a folder are looked at for a DICOM slice."""


@dataclass(frozen=True)
class CohortReference:
    """One CT. name: unique in the cohort; path: a file, or the folder of a series; labels, lesions: on its
    grid; names: a JSON table of what labels mean; facts: of its header, where cohorts are balanced by them.
    """

    name: str
    path: Path
    patient: str
    license: str
    labels: Path | None = None
    names: Path | None = None
    lesions: Path | None = None
    facts: dict[str, str | float] = field(default_factory=dict)


def references_of(specification: CohortSpecification) -> list[CohortReference]:
    """All of a cohort, with facts of their headers where its hosts are balanced. Raises InvalidRequest."""
    found = find_references(specification.references)
    if specification.balance.hosts is None:
        return found
    return [replace(one, facts=_facts_of(one.path)) for one in found]


def _facts_of(path: Path) -> dict[str, str | float]:
    slice_ = _first_slice(path)
    try:
        return {} if slice_ is None else read_facts(slice_)
    except LesionBrushError:  # told when the series is read
        return {}


def find_references(rules: Sequence[ReferenceRule]) -> list[CohortReference]:
    """All of them by name. Raises InvalidRequest (a folder without any, two of one name, no patient)."""
    found: dict[str, CohortReference] = {}
    for number, rule in enumerate(rules):
        where = f"references.{number}"
        mine = list(_of_rule(rule, where))
        if not mine and (labels := find_left_out([rule])):
            raise InvalidRequest(f"{where}: {left_out_remark(labels)}")
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
    named = {stem_of(folder): folder} if folder.is_file() or _has_slices(folder) else _in_folder(rule)
    for unknown in [name for name in rule.ids or () if name not in named]:
        raise InvalidRequest(
            f"{where}.ids: {folder.name!r} has no CT {unknown!r}: it has {_some(sorted(named))}"
        )
    for name, path in named.items():
        if rule.ids is None or name in rule.ids:
            yield _reference(rule, path, name, where)


def _in_folder(rule: ReferenceRule) -> dict[str, Path]:
    """The CTs by name, without label maps."""
    paths = [path for path in _not_beside(rule) if path.is_dir() or not holds_labels(path)]
    return {_name_in(rule.folder, path): path for path in paths}


def _not_beside(rule: ReferenceRule) -> list[Path]:
    """What a rule finds, without what it says to lie beside CTs."""
    paths = [path for path in sorted(rule.folder.glob(rule.files)) if _may_be_a_ct(path)]
    beside = {path for ct in paths for path in (_beside(rule.labels, ct), _beside(rule.lesions, ct))}
    return [path for path in paths if path not in beside]


def find_left_out(rules: Sequence[ReferenceRule]) -> list[str]:
    """Names of files that `find_references` passes over as label maps, of which the rules say nothing."""
    folders = [rule for rule in rules if rule.ids is None and rule.folder.is_dir()]
    folders = [rule for rule in folders if not _has_slices(rule.folder)]
    found = (path for rule in folders for path in _not_beside(rule) if path.is_file())
    return [path.name for path in found if holds_labels(path)]


def left_out_remark(names: Sequence[str]) -> str:
    return (
        f"left out, for they are label maps and no CTs: {_some(names)}. Name the CTs alone, as files: "
        '"*_ct.nii.gz", or what lies beside them, as labels: "{name}_organs.nii.gz", lesions: '
        '"{name}_lesion.nii.gz"'
    )


def _name_in(folder: Path, path: Path) -> str:
    relative = path.relative_to(folder)
    return "__".join((*relative.parts[:-1], stem_of(relative)))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more if names else "none"


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
        _beside(rule.lesions, path) if rule.lesion_tag is None else _of_tag(rule.lesion_tag, path, name),
    )


def _of_tag(tag: str, ct: Path, name: str) -> Path | None:
    """A label as MONAI Label's datastore keeps it; None for a CT without one."""
    files = sorted((ct.parent / "labels" / tag).glob("*"))
    return next((path for path in files if path.is_file() and stem_of(path) == name), None)


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
