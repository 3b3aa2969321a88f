"""A case as DICOM: a study of its own with new UIDs, that names no patient, and a SEG of its lesions."""

from __future__ import annotations

from pathlib import Path

from lesionbrush.cohorts.export.names import ExportedCase
from lesionbrush.cohorts.export.tables import provenance_of
from lesionbrush.core.generate import LESION
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom_export.case import CT, DicomCase, write_series
from lesionbrush.files.dicom_export.seg import Segments
from lesionbrush.files.dicom_export.series import DicomOptions, copy_series


def write_dicom(case: ExportedCase, image: Volume, label: Volume, mark: str, folder: Path) -> None:
    """`ct/`, and where there are lesions `seg/`, in a folder that is new; its patient is the case's name.

    label: 0/1 on the grid of the image; mark: how a CT that nothing was put into says that it is synthetic,
    "" where it is not. Raises GeometryMismatch (axes at an angle), InvalidRequest (a real lesion),
    DamagedFile, OSError.
    """
    made = provenance_of(case)
    if made is None and label.array.any():
        raise InvalidRequest(
            f"{case.name} has a real lesion in a CT that nothing was put into, of which no SEG is written: "
            "export cohorts with removals in another format"
        )
    if made is None:
        copied = copy_series(image, mark)
        for header in copied.headers:
            header.PatientID = case.name
        write_series(copied, folder / CT)
        return
    segments = Segments(label, (LESION,)) if label.array.any() else None
    prepared = DicomCase.prepare_alone(image, segments, made, DicomOptions(deidentify=True))
    for header in prepared.series.headers:
        header.PatientID = case.name
    folder.mkdir()
    prepared.write(folder)
