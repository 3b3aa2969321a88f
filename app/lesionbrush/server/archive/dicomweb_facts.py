"""What is said of a series in an archive."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lesionbrush.core.provenance import MARK, MARK_GENERATED
from lesionbrush.server.archive.dicomweb import ListedSeries


def synthetic(found: ListedSeries) -> bool:
    return found.description.startswith((MARK, MARK_GENERATED))


def describe_series(found: ListedSeries) -> dict[str, Any]:
    """As the datastore lists it."""
    return {**asdict(found), "synthetic": synthetic(found)}


def in_dicom_words(found: ListedSeries) -> dict[str, str]:
    """As MONAI Label's OHIF plugin shows the next sample."""
    return {
        "PatientID": found.patient,
        "Modality": found.modality,
        "StudyDate": found.date,
        "StudyInstanceUID": found.study,
        "SeriesInstanceUID": found.series,
    }
