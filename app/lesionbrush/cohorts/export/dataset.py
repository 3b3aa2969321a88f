"""Write a cohort as a dataset, whole or not at all: image and label of each case, and what lies beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.cohorts.export.card import CARD, licenses_of, write_card
from lesionbrush.cohorts.export.contact_sheet import CONTACT, ContactSheet
from lesionbrush.cohorts.export.dicom import write_dicom
from lesionbrush.cohorts.export.layouts import DATASET_FORMS, DatasetForm, Form, check_name
from lesionbrush.cohorts.export.names import ExportedCase, name_all, write_mapping
from lesionbrush.cohorts.export.tables import TRUTH, provenance_of, write_provenance, write_truth
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.records import BOX, MASK, TWIN, CaseRecord
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.verifying import verify
from lesionbrush.core.provenance import MARK, MARK_GENERATED
from lesionbrush.core.volume import Array, SourceHeader, Volume, require_ct
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.durable import new_folder
from lesionbrush.files.io import read_volume, write_volume

OnCase = Callable[[int, int], None]
"""(images written, images in all)."""


@dataclass(frozen=True)
class ExportOptions:
    """whole: CTs, not boxes; mapping: where names are kept with what they stand for."""

    form: Form
    out: Path
    mapping: Path
    whole: bool = True


def export_dataset(
    folder: CohortFolder, options: ExportOptions, on_case: OnCase = lambda done, total: None
) -> list[ExportedCase]:
    """What was written. Outside edit regions its CTs are bit by bit those of the references.

    Raises InvalidRequest (nothing to export, a name nnU-Net would not take, a folder that is there, a
    reference that has changed), DamagedFile (a case that is not whole), StorageFull.
    """
    check_name(options.form, options.out.name)
    cases = name_all(folder, _whole_records(folder))
    form, sheet = DATASET_FORMS[options.form], ContactSheet.of(cases)
    with new_folder(options.out) as draft:
        writer = _Writer(folder, options, form, draft, sheet)
        done = 0
        for reference in folder.references:
            mine = [case for case in cases if case.record.reference == reference.name]
            ct = _read_again(reference, mine) if mine else None
            for case in mine:
                assert ct is not None
                writer.write(case, ct)
                done += 1
                on_case(done, len(cases))
        _write_beside(folder, options, cases, draft, sheet)
        write_mapping(cases, folder, options.mapping)
    return cases


def _whole_records(folder: CohortFolder) -> list[CaseRecord]:
    verdict = verify(folder)
    if verdict.wrong:
        more = f", and {len(verdict.wrong) - 1} more" if len(verdict.wrong) > 1 else ""
        raise DamagedFile(f"the cohort is not whole: {verdict.wrong[0]}{more}; see `cohort verify`")
    records = list(folder.records())
    if not records:
        raise InvalidRequest(f"{folder.path.name} has no case yet: run it first")
    return records


def _read_again(reference: CohortReference, cases: Sequence[ExportedCase]) -> Volume:
    ct = require_ct(read_volume(reference.path))
    if any(case.record.reference_sha256 != ct.voxel_sha256 for case in cases):
        raise InvalidRequest(
            f"the CT {reference.name!r} has changed since its cases were made: bring the old one back, or "
            "make the cohort anew"
        )
    return ct


@dataclass(frozen=True)
class _Writer:
    folder: CohortFolder
    options: ExportOptions
    form: DatasetForm
    draft: Path
    sheet: ContactSheet

    def write(self, case: ExportedCase, reference: Volume) -> None:
        mask = self._put(np.zeros(reference.shape, np.uint8), case, MASK)
        image = reference.array
        if not case.healthy or case.record.twin is not None:
            image = self._put(reference.array.copy(), case, TWIN if case.healthy else BOX)
        self.sheet.show(case, reference, reference.with_array(image), reference.with_array(mask))
        label = np.zeros_like(mask) if case.healthy else (mask > 0).astype(np.uint8)
        ct, lesions = (self._volume(case, reference, array) for array in (image, label))
        if self.options.form == "dicom":
            write_dicom(case, ct, lesions, _mark_of(reference), self.draft / case.name)
        else:
            made = provenance_of(case)
            note = made.note if made else _mark_of(reference)
            for volume, place in ((ct, self.form.image(case)), (lesions, self.form.label(case))):
                path = self.draft / place
                path.parent.mkdir(parents=True, exist_ok=True)
                write_volume(volume, path, note, lasting=False)
        write_provenance(case, self.draft / "provenance" / f"{case.name}.json")

    def _volume(self, case: ExportedCase, reference: Volume, array: Array) -> Volume:
        """Whole, or the box of the case."""
        volume = _without_source(reference.with_array(array))
        return volume if self.options.whole else volume.crop(case.record.box)

    def _put(self, into: Array, case: ExportedCase, name: str) -> Array:
        """The box of a case, in its place."""
        into[case.record.box] = read_volume(self.folder.folder_of(case.record.id) / name).array
        return into


def _mark_of(reference: Volume) -> str:
    """Of a reference that is synthetic itself, in our words: its own may name anything."""
    if not reference.note:
        return ""
    return MARK_GENERATED if reference.note.startswith(MARK_GENERATED) else MARK


def _without_source(volume: Volume) -> Volume:
    """Of the header of its file the pixel type stays alone: texts in it may name a patient."""
    source = volume.source
    kept = None if source is None else SourceHeader(source.dtype, volume.affine)
    return Volume(volume.array, volume.affine, kept)


def _write_beside(
    folder: CohortFolder,
    options: ExportOptions,
    cases: Sequence[ExportedCase],
    draft: Path,
    sheet: ContactSheet,
) -> None:
    form = DATASET_FORMS[options.form]
    for name, content in form.manifests(folder.specification, cases, licenses_of(folder)).items():
        text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
        (draft / name).write_text(text, encoding="utf-8", newline="\n")
    write_truth(cases, draft / TRUTH)
    (draft / CARD).write_text(write_card(folder, cases, options.whole), encoding="utf-8")
    picture = sheet.draw(f"{folder.specification.name}: worst first, by seam and HU")
    if picture is not None:
        picture.save(draft / CONTACT, optimize=True)
