"""Pushing, the cache and the routes of an archive that fails when it is told to."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pydicom
import pytest
from archive_kit import FakeArchive
from dicom_kit import Case, make_case, record
from fastapi import FastAPI
from lesionbrush.errors import DamagedFile, InvalidRequest, NotACT
from lesionbrush.files.dicom_export.case import DicomCase
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.server.archive import dicomweb_push, dicomweb_studies
from lesionbrush.server.archive.dicomweb_push import push
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.archive.fetching import FetchFirst, fetch_first
from lesionbrush.server.errors import PushFailed, TooLarge, UnknownImage
from lesionbrush.server.storage.accept import AcceptedCase
from lesionbrush.server.storage.retention import Bounds, size_of
from lesionbrush.server.storage.studies import Studies
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from starlette.testclient import TestClient


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "in")


@pytest.fixture
def archive(case: Case) -> FakeArchive:
    fake = FakeArchive()
    for path in case.folder.iterdir():
        fake.add(path)
    return fake


def studies_in(folder: Path, archive: FakeArchive, **options: object) -> DicomWebStudies:
    folder.mkdir(exist_ok=True)
    return DicomWebStudies(archive, folder, **options)  # type: ignore[arg-type]


def prepared(case: Case, key: str = "key") -> DicomCase:
    options = DicomOptions(uids=Uids(key))
    return DicomCase.prepare(case.synthetic, case.mask, case.provenance, case.reference, options)


class TestPush:
    def test_stores_everything_with_the_seg_last(self, case: Case, tmp_path: Path) -> None:
        archive = FakeArchive()
        (tmp_path / "work").mkdir()
        push(archive, prepared(case), tmp_path / "work")  # type: ignore[arg-type]
        assert [len(there) for there in archive.held.values()] == [6, 1]

    @pytest.mark.parametrize("deletes", [True, False])
    def test_that_breaks_off_is_taken_back_where_the_archive_lets_us(
        self, case: Case, tmp_path: Path, monkeypatch, deletes: bool
    ) -> None:
        monkeypatch.setattr(dicomweb_push, "BATCH_BYTES", 1)
        archive = FakeArchive(deletes)
        archive.fails_after = 3
        (tmp_path / "work").mkdir()
        with pytest.raises(PushFailed) as caught:
            push(archive, prepared(case), tmp_path / "work")  # type: ignore[arg-type]
        text, left = str(caught.value), sum(map(len, archive.held.values()))
        assert (left, "was removed from the archive again" in text) == ((0, True) if deletes else (3, False))
        assert ("3 of 7 instances are in the archive" in text) != deletes

    def test_never_takes_back_what_another_push_brought(
        self, case: Case, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(dicomweb_push, "BATCH_BYTES", 1)
        archive = FakeArchive(deletes=True)
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        made = prepared(case)
        archive.add(made.write(tmp_path / "a")[0])
        archive.fails_after = 3
        with pytest.raises(PushFailed, match="3 of 7"):
            push(archive, prepared(case), tmp_path / "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("of_archive", [True, False])
def test_the_mask_of_an_accepted_case_is_the_lesion_whatever_its_label_was(
    case: Case, archive: FakeArchive, tmp_path: Path, of_archive: bool
) -> None:
    """The request said label 2; what is accepted is that lesion, as 0 and something."""
    made = record(
        case.reference.volume, case.synthetic, request=SynthesisRequest(label=2).model_dump(mode="json")
    )
    accepted = AcceptedCase(
        synthetic=case.synthetic,
        mask=case.mask.with_array(case.mask.array * 7),
        provenance=made,
        reference_id=case.reference.series_uid if of_archive else "ab" * 32,
        user="tester",
        key="k",
    )
    uid = studies_in(tmp_path / "cache", archive).take(accepted)
    (ct,) = [there for (_, series), there in archive.held.items() if series == uid]
    (seg,) = [h for there in archive.held.values() for h in there.values() if h.Modality == "SEG"]
    assert len(ct) == 6
    assert int(seg.pixel_array.sum()) == int(case.mask.array.sum())


def test_a_generated_ct_is_refused(case: Case, archive: FakeArchive, tmp_path: Path) -> None:
    made = record(case.reference.volume, case.synthetic)
    accepted = AcceptedCase(case.synthetic, case.mask, made, None, "tester", "k")
    before = {place: set(there) for place, there in archive.held.items()}
    with pytest.raises(InvalidRequest, match="generated as a whole, and this archive takes edits"):
        studies_in(tmp_path / "cache", archive).take(accepted)
    assert {place: set(there) for place, there in archive.held.items()} == before


class TestCache:
    def test_drops_what_was_used_longest_ago(self, case: Case, archive: FakeArchive, tmp_path: Path) -> None:
        other = make_case(tmp_path / "other")
        for path in other.folder.iterdir():
            archive.add(path)
        studies = studies_in(tmp_path / "cache", archive)
        size = size_of(studies.fetch(case.reference.series_uid).parent)
        small = studies_in(tmp_path / "small", archive, bounds=Bounds(int(size * 1.5), 1e9))
        first = small.fetch(case.reference.series_uid)
        second = small.fetch(other.reference.series_uid)
        assert (first.exists(), second.exists()) == (False, True)
        with pytest.raises(UnknownImage):
            small.locate(case.reference.series_uid)
        assert small.fetch(case.reference.series_uid).exists()

    def test_forgets_what_the_archive_has_deleted(
        self, case: Case, archive: FakeArchive, tmp_path: Path
    ) -> None:
        uid = case.reference.series_uid
        clock = iter(range(0, 10**6, 100))
        studies = studies_in(tmp_path / "cache", archive, clock=lambda: float(next(clock)))
        path = studies.fetch(uid)
        archive.held.clear()
        with pytest.raises(UnknownImage):
            studies.fetch(uid)
        assert not path.exists()

    def test_outlives_a_restart(self, case: Case, archive: FakeArchive, tmp_path: Path, monkeypatch) -> None:
        path = studies_in(tmp_path / "cache", archive).fetch(case.reference.series_uid)
        again = studies_in(tmp_path / "cache", archive)
        monkeypatch.setattr(archive, "retrieve", lambda *_: pytest.fail("fetched again"))
        assert again.fetch(case.reference.series_uid) == path

    @pytest.mark.parametrize("limit", ["bytes", "slices"])
    def test_takes_no_endless_series(
        self, case: Case, archive: FakeArchive, tmp_path: Path, monkeypatch, limit: str
    ) -> None:
        if limit == "bytes":
            monkeypatch.setenv("LESIONBRUSH_UNPACKED_GB", "3e-9")
        else:
            monkeypatch.setattr(dicomweb_studies, "MAX_SLICES", 3)
        studies = studies_in(tmp_path / "cache", archive)
        with pytest.raises(TooLarge):
            studies.fetch(case.reference.series_uid)
        assert list(studies.shelf.folder.iterdir()) == list(studies.private.tmp.iterdir()) == []

    def test_takes_nothing_that_is_no_ct_series(self, archive: FakeArchive, tmp_path: Path) -> None:
        make_case(tmp_path / "mr")
        uid = ""
        for path in (tmp_path / "mr").iterdir():
            header = pydicom.dcmread(path)
            header.Modality, uid = "MR", str(header.SeriesInstanceUID)
            header.save_as(path)
            archive.add(path)
        studies = studies_in(tmp_path / "cache", archive)
        with pytest.raises((NotACT, DamagedFile)):
            studies.fetch(uid)
        assert list(studies.shelf.folder.iterdir()) == []

    def test_asks_for_one_series_once_when_many_want_it(
        self, case: Case, archive: FakeArchive, tmp_path: Path
    ) -> None:
        studies = studies_in(tmp_path / "cache", archive)
        paths: list[Path] = []
        threads = [
            threading.Thread(target=lambda: paths.append(studies.fetch(case.reference.series_uid)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(paths)) == 1
        assert (len(paths), archive.asked) == (8, 1)


class TestFetchFirst:
    def client(self, studies: Studies) -> TestClient:
        front = FastAPI()

        @front.get("/datastore/")
        async def listing() -> list[str]:
            return studies.list_images()

        @front.get("/datastore/image")
        async def image(image: str) -> str:
            return studies.locate(image).name

        fetch_first(front, studies)
        return TestClient(front)

    def test_the_routes_find_what_the_archive_has(
        self, case: Case, archive: FakeArchive, tmp_path: Path
    ) -> None:
        client = self.client(studies_in(tmp_path / "cache", archive))
        uid = case.reference.series_uid
        assert client.get("/datastore/").json() == [uid]
        assert client.get("/datastore/image", params={"image": uid}).json() == f"{uid}.nrrd"
        assert client.get("/datastore/image", params={"image": "1.2.3"}).status_code == 404
        assert client.get("/datastore/image", params={"image": "../x"}).status_code == 422

    def test_the_event_loop_is_free_meanwhile(self, archive: FakeArchive, tmp_path: Path) -> None:
        studies = studies_in(tmp_path / "cache", archive)
        began, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            began.set()
            assert go_on.wait(10)

        studies.update = slow  # type: ignore[method-assign]

        async def nothing(*_: object) -> None:
            pass

        async def both() -> None:
            scope = {"type": "http", "path": "/datastore/", "query_string": b""}
            waiting = asyncio.create_task(FetchFirst(nothing, studies)(scope, nothing, nothing))  # type: ignore[arg-type]
            while not began.is_set():
                await asyncio.sleep(0.01)
            go_on.set()
            await waiting

        asyncio.run(both())

    def test_a_folder_has_nothing_to_fetch(self, tmp_path: Path) -> None:
        front = FastAPI()
        fetch_first(front, Studies(str(tmp_path)))
        assert front.user_middleware == []
