"""What a DICOM header says of a host, as far as cohorts are balanced by it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

from lesionbrush.cohorts.shares import Facts
from lesionbrush.files.dicom.headers import number, read_header, text_of

_KEYWORDS = (
    "PatientSex", "PatientAge", "PatientBirthDate", "StudyDate", "Manufacturer", "ManufacturerModelName",
    "ConvolutionKernel", "SliceThickness",
)  # fmt: skip
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def read_facts(slice_: Path) -> dict[str, str | float]:
    """By the fields of `HostShares`; what is absent or makes no sense is not there. Raises DamagedFile."""
    header = read_header(slice_, _KEYWORDS)
    scanner = f"{text_of(header, 'Manufacturer')} {text_of(header, 'ManufacturerModelName')}".strip()
    said: Facts = {
        "sex": text_of(header, "PatientSex"),
        "age_years": _age_years(header),
        "scanner": scanner,
        "kernel": text_of(header, "ConvolutionKernel"),
        "slice_mm": _number(text_of(header, "SliceThickness")),
    }
    return {name: value for name, value in said.items() if value not in ("", -1.0)}


def _age_years(header: Dataset) -> float:
    """Years at the study, -1 where nobody says; of dates, where the age itself is not said."""
    age = text_of(header, "PatientAge")
    if age[:-1].isdigit() and age[-1:] in _YEARS:
        return int(age[:-1]) * _YEARS[age[-1]]
    try:
        born, at = (
            datetime.strptime(text_of(header, name), "%Y%m%d") for name in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return -1.0
    return (at - born).days / 365.25


def _number(text: str) -> float:
    try:
        return number(text)
    except ValueError:
        return -1.0
