"""Fixtures of tests with a real Orthanc. Load with `pytest_plugins = "orthanc_fixtures"`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_kit import Case, make_case
from lesionbrush.server.archive.dicomweb import Archive
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.storage.accept import AcceptedCase
from orthanc_kit import Orthanc, orthanc


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def archive(pacs: Orthanc) -> Archive:
    return Archive(pacs.address, pacs.environ)


@pytest.fixture
def case(tmp_path: Path, pacs: Orthanc) -> Case:
    """A series that is in the archive, by STOW-RS."""
    made = make_case(tmp_path / "in")
    header = made.reference.slices[0]
    study = pydicom.dcmread(header.filename).StudyInstanceUID
    stored = Archive(pacs.address, pacs.environ)
    assert stored.store(study, sorted((tmp_path / "in").iterdir())) == {}
    return made


@pytest.fixture
def studies(archive: Archive, tmp_path: Path) -> DicomWebStudies:
    return DicomWebStudies(archive, new_folder(tmp_path, "cache"))


def accepted(case: Case, key: str = "key", reference: str | None = None) -> AcceptedCase:
    return AcceptedCase(
        synthetic=case.synthetic,
        mask=case.mask,
        provenance=case.provenance,
        reference_id=case.reference.series_uid if reference is None else reference,
        user="tester",
        key=key,
    )


def new_folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name
