"""A real PACS: series listed and fetched from Orthanc, results pushed to it, and read back voxel by voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_kit import Case, make_case
from lesionbrush.files.dicom_export.case import DicomCase
from lesionbrush.files.dicom_export.seg import read_seg
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.files.io import read_dicom_series
from lesionbrush.server.archive import dicomweb_push
from lesionbrush.server.archive.dicomweb import Archive
from lesionbrush.server.archive.dicomweb_push import push
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.errors import ArchiveRefused, ArchiveUnreachable, PushFailed, UnknownImage
from lesionbrush.server.storage.references import read_ct
from orthanc_fixtures import accepted, new_folder
from orthanc_kit import Orthanc
from pydicom.uid import RLELossless

pytest_plugins = "orthanc_fixtures"
pytestmark = pytest.mark.server


def prepared(case: Case, key: str) -> DicomCase:
    options = DicomOptions(uids=Uids(key))
    return DicomCase.prepare(case.synthetic, case.mask, case.provenance, case.reference, options)


class TestListing:
    def test_names_every_ct_series(self, case: Case, studies: DicomWebStudies) -> None:
        uid = case.reference.series_uid
        assert studies.list_images() == []  # nothing is asked for at start
        studies.update()
        assert uid in studies.list_images()
        info = studies.json()["objects"][uid]["image"]["info"]
        assert (info["instances"], info["patient"], info["synthetic"]) == (6, "4711", False)
        assert studies.status()["total"] == len(studies.list_images())

    def test_goes_on_where_a_page_ends(self, case: Case, studies: DicomWebStudies, monkeypatch) -> None:
        from lesionbrush.server.archive import dicomweb

        studies.update()
        monkeypatch.setattr(dicomweb, "PAGE", 1)
        assert {one.series for one in studies.archive.find_ct()} == set(studies.list_images())
        uid = case.reference.series_uid
        assert len(studies.archive.instances(studies._listed[uid].study, uid)) == 6


class TestFetching:
    def test_brings_the_same_voxels_to_the_same_place(self, case: Case, studies: DicomWebStudies) -> None:
        volume = read_ct(studies.fetch(case.reference.series_uid))
        assert np.array_equal(volume.array, case.reference.volume.array)
        assert np.allclose(volume.affine, case.reference.volume.affine, atol=1e-9)
        assert volume.voxel_sha256 == case.reference.volume.voxel_sha256

    def test_keeps_no_pixels_twice_and_nothing_for_others_to_read(
        self, case: Case, studies: DicomWebStudies
    ) -> None:
        path = studies.fetch(case.reference.series_uid)
        assert "PixelData" not in pydicom.dcmread(next((path.parent / "slices").iterdir()))
        assert studies.private.path.stat().st_mode & 0o077 == 0
        assert list(studies.private.tmp.iterdir()) == []

    def test_takes_compressed_series(self, pacs: Orthanc, studies: DicomWebStudies, tmp_path: Path) -> None:
        made = make_case(tmp_path / "in")
        for path in made.folder.iterdir():
            header = pydicom.dcmread(path)
            header.compress(RLELossless)
            header.save_as(path)
        pacs.put(iter(sorted(made.folder.iterdir())))
        volume = read_ct(studies.fetch(made.reference.series_uid))
        assert np.array_equal(volume.array, made.reference.volume.array)
        uid = studies.take(accepted(made))
        assert np.array_equal(
            read_dicom_series(pacs.files(uid, tmp_path / "back")).array, made.synthetic.array
        )

    def test_is_done_once(self, case: Case, studies: DicomWebStudies, pacs: Orthanc, monkeypatch) -> None:
        first = studies.fetch(case.reference.series_uid)
        monkeypatch.setattr(Archive, "retrieve", lambda *_: pytest.fail("asked again"))
        assert studies.fetch(case.reference.series_uid) == first == studies.locate(case.reference.series_uid)

    def test_notices_that_a_series_has_grown(self, archive: Archive, pacs: Orthanc, tmp_path: Path) -> None:
        whole = make_case(tmp_path / "in")
        paths = [Path(header.filename) for header in whole.reference.slices]
        pacs.put(iter(paths[:4]))
        clock = iter(np.arange(0, 1e6, 100.0))
        studies = DicomWebStudies(archive, new_folder(tmp_path, "cache"), clock=lambda: float(next(clock)))
        assert read_ct(studies.fetch(whole.reference.series_uid)).shape[2] == 4
        pacs.put(iter(paths[4:]))
        assert read_ct(studies.fetch(whole.reference.series_uid)).shape[2] == 6

    def test_an_unknown_series_is_unknown(self, studies: DicomWebStudies) -> None:
        with pytest.raises(UnknownImage):
            studies.fetch("1.2.3.4")


class TestAccepting:
    def test_puts_series_and_mask_into_the_study(
        self, case: Case, studies: DicomWebStudies, pacs: Orthanc, tmp_path: Path
    ) -> None:
        uid = studies.take(accepted(case))
        original = pydicom.dcmread(case.reference.slices[0].filename)
        back = pacs.files(uid, tmp_path / "back")
        volume = read_dicom_series(back)
        assert np.array_equal(volume.array, case.synthetic.array)
        assert np.array_equal(volume.affine, case.reference.volume.affine)
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(back)))
        assert np.array_equal(sitk.GetArrayFromImage(image).T, case.synthetic.array)
        header = pydicom.dcmread(next(back.iterdir()))
        assert header.StudyInstanceUID == original.StudyInstanceUID
        assert header.FrameOfReferenceUID == original.FrameOfReferenceUID
        assert header[0x0008, 0x001C].value == "YES"
        assert str(header.PatientName) == str(original.PatientName)

    def test_the_mask_reads_back_from_the_archive(
        self, case: Case, studies: DicomWebStudies, archive: Archive, pacs: Orthanc, tmp_path: Path
    ) -> None:
        studies.take(accepted(case))
        same = prepared(case, "unused")
        study = same.series.study_uid
        items = archive._client.search_for_series(study, search_filters={"Modality": "SEG"})
        assert len(items) == 1
        back = pacs.files(items[0]["0020000E"]["Value"][0], tmp_path / "seg")
        seg = next(back.iterdir())
        ct = pydicom.dcmread(seg).ReferencedSeriesSequence[0].SeriesInstanceUID
        headers = [pydicom.dcmread(p) for p in pacs.files(ct, tmp_path / "ct").iterdir()]
        headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
        assert np.array_equal(read_seg(seg, same.series.volume, headers).array, case.mask.array)

    def test_twice_makes_one_case(self, case: Case, studies: DicomWebStudies, pacs: Orthanc) -> None:
        first = studies.take(accepted(case))
        before = pacs.get("/statistics").json()["CountInstances"]
        assert studies.take(accepted(case)) == first
        assert pacs.get("/statistics").json()["CountInstances"] == before
        assert studies.take(accepted(case, key="another")) != first

    def test_of_an_upload_starts_a_study_of_its_own(
        self, case: Case, studies: DicomWebStudies, pacs: Orthanc, tmp_path: Path
    ) -> None:
        uid = studies.take(accepted(case, reference="ab" * 32))
        back = pacs.files(uid, tmp_path / "back")
        assert np.array_equal(read_dicom_series(back).array, case.synthetic.array)
        header = pydicom.dcmread(next(back.iterdir()))
        assert header.PatientID.startswith("SYNTHETIC-")

    def test_shows_up_as_synthetic(self, case: Case, studies: DicomWebStudies) -> None:
        studies.update()
        uid = studies.take(accepted(case))
        studies.update()
        assert uid in studies.get_labeled_images()
        assert case.reference.series_uid in studies.get_unlabeled_images()


class TestFailures:
    def test_half_a_push_is_completed_by_the_next(
        self, case: Case, archive: Archive, pacs: Orthanc, tmp_path: Path, monkeypatch
    ) -> None:
        """The archive goes away after the first batch, and comes back."""
        monkeypatch.setattr(dicomweb_push, "BATCH_BYTES", 1)
        calls: list[int] = []
        store = Archive.store

        def fails_at_the_third(self, study, paths):
            calls.append(len(paths))
            if len(calls) == 3:
                raise ArchiveUnreachable("the archive does not answer")
            return store(self, study, paths)

        monkeypatch.setattr(Archive, "store", fails_at_the_third)
        whole = prepared(case, "half")
        with pytest.raises(PushFailed) as caught:
            push(archive, whole, new_folder(tmp_path, "one"))
        there = archive.instances(whole.series.study_uid, whole.series.series_uid)
        # Debian's Orthanc 1.10 offers no DELETE over DICOMweb: what had arrived is named, and stays.
        assert len(there) in (0, 2)
        assert ("2 of 7 instances are in the archive" in str(caught.value)) == (len(there) == 2)
        push(archive, whole, new_folder(tmp_path, "two"))
        assert len(calls) == 3 + 7 - len(there)
        assert len(archive.instances(whole.series.study_uid, whole.series.series_uid)) == 6

    def test_what_the_archive_refuses_is_said(
        self, case: Case, archive: Archive, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(Archive, "store", lambda *_: {"1.2.3": 0xA700})
        with pytest.raises(PushFailed, match=r"refused 1 instances \(reason A700\)"):
            push(archive, prepared(case, "no"), new_folder(tmp_path, "one"))

    def test_what_the_archive_loses_is_said(
        self, case: Case, archive: Archive, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(Archive, "store", lambda *_: {})
        with pytest.raises(PushFailed, match="does not have them"):
            push(archive, prepared(case, "lost"), new_folder(tmp_path, "one"))

    def test_wrong_credentials_are_named_and_not_told(
        self, pacs: Orthanc, case: Case, tmp_path: Path
    ) -> None:
        environ = {**pacs.environ, "LESIONBRUSH_DICOMWEB_PASSWORD": "a-wrong-secret"}
        wrong = Archive(pacs.address, environ)
        with pytest.raises(ArchiveRefused, match="LESIONBRUSH_DICOMWEB_USER") as caught:
            wrong.find_ct()
        assert "a-wrong-secret" not in str(caught.value)
        studies = DicomWebStudies(wrong, new_folder(tmp_path, "cache"))
        with pytest.raises(ArchiveRefused):
            studies.fetch(case.reference.series_uid)

    def test_a_cached_series_is_used_while_the_archive_is_away(
        self, case: Case, pacs: Orthanc, tmp_path: Path
    ) -> None:
        clock = iter(np.arange(0, 1e6, 100.0))
        studies = DicomWebStudies(
            Archive(pacs.address, pacs.environ),
            new_folder(tmp_path, "cache"),
            clock=lambda: float(next(clock)),
        )
        path = studies.fetch(case.reference.series_uid)
        studies.archive = Archive("http://127.0.0.1:9/dicom-web", {})
        assert studies.fetch(case.reference.series_uid) == path
        with pytest.raises(ArchiveUnreachable):
            studies.fetch("1.2.3")

    def test_an_address_that_is_no_dicomweb(self, pacs: Orthanc) -> None:
        with pytest.raises(ArchiveUnreachable, match="no DICOMweb"):
            Archive(f"{pacs.root}/app", pacs.environ).find_ct()
