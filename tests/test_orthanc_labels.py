"""The lesion of an accepted case, back from a real Orthanc: its SEG as a label on the CT's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_kit import Case
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.errors import ArchiveUnreachable
from lesionbrush.server.storage.references import read_ct
from orthanc_fixtures import accepted

pytest_plugins = "orthanc_fixtures"
pytestmark = pytest.mark.server


class TestLabels:
    def label(self, studies: DicomWebStudies, uid: str, tag: str = "final") -> Volume | None:
        studies.fetch(uid)
        studies.fetch_label(uid, tag)
        path = studies.get_label_uri(uid, tag)
        return read_volume(Path(path)) if path else None

    def test_the_lesion_comes_back_on_the_grid_of_its_ct(self, case: Case, studies: DicomWebStudies) -> None:
        uid = studies.take(accepted(case))
        label = self.label(studies, uid)
        assert label is not None
        assert np.array_equal(label.array, case.mask.array)
        assert np.allclose(label.affine, read_ct(studies.locate(uid)).affine)

    def test_each_accepted_case_has_its_own(
        self, case: Case, studies: DicomWebStudies, tmp_path: Path
    ) -> None:
        """Both are in the study of the original, whose series has none."""
        first = studies.take(accepted(case))
        half = case.mask.array.copy()
        half[:, :, : half.shape[2] // 2] = 0
        moved = replace(accepted(case, key="another"), mask=case.mask.with_array(half))
        second = studies.take(moved)
        for uid, wanted in ((first, case.mask.array), (second, half)):
            label = self.label(studies, uid)
            assert label is not None
            assert np.array_equal(label.array, wanted)
        assert self.label(studies, case.reference.series_uid) is None

    def test_only_under_the_tag_of_what_is_done(self, case: Case, studies: DicomWebStudies) -> None:
        uid = studies.take(accepted(case))
        assert self.label(studies, uid, "original") is None
        assert studies.get_label_info(uid, "final")["source"] == "DICOM SEG"

    def test_one_that_was_fetched_serves_while_the_archive_is_away(
        self, case: Case, studies: DicomWebStudies, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uid = studies.take(accepted(case))
        before = self.label(studies, uid)

        def gone(*_: object) -> None:
            raise ArchiveUnreachable("gone")

        monkeypatch.setattr(studies.archive, "find_seg", gone)
        after = self.label(studies, uid)
        assert before is not None
        assert after is not None
        assert np.array_equal(before.array, after.array)
        other = case.reference.series_uid
        studies.fetch(other)
        with pytest.raises(ArchiveUnreachable):
            studies.fetch_label(other, "final")
