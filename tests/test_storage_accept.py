"""Accepting a variant: a completed case with its record; once, whole, and under a safe name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest, LesionBrushError
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import read_sidecar
from lesionbrush.server.errors import AlreadyStored
from lesionbrush.server.storage import accept
from lesionbrush.server.storage.accept import AcceptedCase, AcceptedRecord, accept_case
from lesionbrush.server.storage.uploads import store
from storage_kit import Folder, assert_nothing_new, assert_whole, contents, made_case, restarted, where

pytest_plugins = "storage_fixtures"


def test_a_case_has_an_image_a_final_label_and_a_record(studies: Folder) -> None:
    case = made_case("job-1")
    image = accept_case(studies, case)
    assert_whole(where(studies), image, case)
    assert contents(where(studies)) == {
        f"{image}.nii.gz",
        f"labels/final/{image}.nii.gz",
        f"{image}.provenance.json",
    }
    assert studies.noticed == [image]
    assert np.allclose(read_volume(where(studies) / f"{image}.nii.gz").affine, case.synthetic.affine)


def test_the_record_says_where_it_comes_from(studies: Folder) -> None:
    case = made_case("job-1")
    image = accept_case(studies, case)
    record = AcceptedRecord.model_validate_json((where(studies) / f"{image}.provenance.json").read_text())
    assert record.synthetic
    assert (record.reference_id, record.reference_sha256) == ("made from job-1", "2" * 64)
    assert (record.model, record.weights_sha256, record.weights_license) == ("tiny", "1" * 64, "Apache-2.0")
    assert record.request == case.provenance.request
    assert (record.seed, record.user) == (case.provenance.seed, "reader")
    assert record.accepted >= record.created
    assert record.versions == case.provenance.versions
    assert read_sidecar(where(studies) / f"{image}.nii.gz") == case.provenance


def test_a_quick_look_says_so_in_record_and_index(studies: Folder) -> None:
    """Also what was painted into one."""
    case = made_case("plain")
    quick = case.provenance.model_copy(update={"request": {**case.provenance.request, "quality": "fast"}})
    painted = case.provenance.model_copy(update={"made_from": quick})
    for key, record, said in (
        ("plain", case.provenance, False),
        ("quick", quick, True),
        ("in", painted, True),
    ):
        image = accept_case(studies, replace(made_case(key), provenance=record))
        stored = (where(studies) / f"{image}.provenance.json").read_text()
        assert AcceptedRecord.model_validate_json(stored).quick_look is said


def test_the_same_key_is_the_same_case(studies: Folder) -> None:
    """Also with another name, also after a restart; another key is another case."""
    image = accept_case(studies, made_case("job-1", "first"))
    before = contents(where(studies))
    assert accept_case(studies, made_case("job-1", "second")) == image == "first"
    again = restarted(studies)
    assert accept_case(again, made_case("job-1")) == "first"
    assert_nothing_new(again, before)
    assert accept_case(again, made_case("job-2")) != "first"
    assert len(contents(where(studies))) == 6


def test_studies_may_store_a_case_in_their_own_way() -> None:
    class Archive:
        def take(self, accepted: AcceptedCase) -> str:
            return f"pushed {accepted.key}"

    assert accept_case(Archive(), made_case("job")) == "pushed job"
    with pytest.raises(InvalidRequest):
        accept_case(Archive(), made_case("job", "../evil"))


def test_many_at_once_with_one_key_make_one_case(studies: Folder) -> None:
    barrier = Barrier(8)

    def accepted(number: int) -> str:
        barrier.wait()
        return accept_case(studies, made_case(f"job-{number % 2}"))

    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(accepted, range(8)))
    assert len(set(images)) == 2
    assert len(contents(where(studies))) == 6
    assert accept._ONE_PER_KEY._locks == {}


def test_of_many_keys_that_want_one_name_one_gets_it(studies: Folder) -> None:
    barrier = Barrier(6)

    def accepted(number: int) -> str:
        barrier.wait()
        try:
            return accept_case(studies, made_case(f"job-{number}", "wanted"))
        except AlreadyStored:
            return ""

    with ThreadPoolExecutor(6) as threads:
        images = list(threads.map(accepted, range(6)))
    assert sorted(images) == [""] * 5 + ["wanted"]
    assert_whole(where(studies), "wanted", made_case(f"job-{images.index('wanted')}"))
    assert_nothing_new(studies, contents(where(studies)))


@pytest.mark.parametrize(
    ("one", "other"), [("1.2.840.10", "1.2.840.11"), ("1.2.840", "1.2.840.1"), ("a.b", "a"), ("a-b", "a_b")]
)
def test_ids_with_dots_do_not_collapse(studies: Folder, one: str, other: str) -> None:
    cases = {image: made_case(image, image) for image in (one, other)}
    assert {image: accept_case(studies, case) for image, case in cases.items()} == {one: one, other: other}
    for image, case in cases.items():
        assert_whole(where(studies), image, case)


@pytest.mark.parametrize(
    "image",
    [
        "../evil",
        "/etc/evil",
        "a/b",
        "a\\b",
        ".hidden",
        "a..b",
        "",
        "a\0b",
        "a b",
        "ct.nii",
        "a" * 129,
        "ä",
        "a\n",
    ],
)
def test_a_name_that_is_not_safe_is_refused(studies: Folder, image: str) -> None:
    with pytest.raises(InvalidRequest, match="use up to 128 letters"):
        accept_case(studies, made_case("job", image))
    assert_nothing_new(studies, set())


def with_mask(case: AcceptedCase, array: np.ndarray) -> AcceptedCase:
    return replace(case, mask=replace(case.mask, array=array))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda case: replace(case, user=""), InvalidRequest),
        (lambda case: replace(case, user="a\nb"), InvalidRequest),
        (lambda case: replace(case, key="k" * 257), InvalidRequest),
        (lambda case: replace(case, reference_id="\x1b[31m"), InvalidRequest),
        (lambda case: with_mask(case, np.zeros(case.mask.shape, np.uint8)), EmptyMask),
        (lambda case: with_mask(case, np.ones((2, 2, 2), np.uint8)), GeometryMismatch),
    ],
)
def test_what_is_no_case_is_refused(studies: Folder, change: Any, error: type[LesionBrushError]) -> None:
    with pytest.raises(error):
        accept_case(studies, change(made_case("job")))
    assert_nothing_new(studies, set())


@pytest.mark.parametrize("taken", ["ct.nii.gz", "ct.nrrd", "labels/final/ct.mha"])
def test_nothing_is_overwritten(studies: Folder, taken: str) -> None:
    path = where(studies) / taken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"somebody's")
    with pytest.raises(AlreadyStored, match="'ct' is stored already"):
        accept_case(studies, made_case("job", "ct"))
    assert_nothing_new(studies, {taken})
    assert path.read_bytes() == b"somebody's"


def test_an_upload_does_not_take_the_name_of_a_case(studies: Folder, tmp_path: Path) -> None:
    """The upload was checked before the case came, and is put in place after it."""
    accept_case(studies, made_case("job", "ct"))
    before = contents(where(studies))
    for name in ("ct.nii.gz", "ct.nrrd"):
        write_volume(made_case("upload").synthetic, tmp_path / name)
        with (tmp_path / name).open("rb") as stream, pytest.raises(AlreadyStored):
            store(stream, where(studies) / name)
    assert_nothing_new(studies, before)


def test_a_case_that_was_removed_by_hand_can_be_accepted_again(studies: Folder) -> None:
    case = made_case("job", "ct")
    accept_case(studies, case)
    (where(studies) / "ct.nii.gz").unlink()
    with pytest.raises(AlreadyStored):  # its label is still there
        accept_case(studies, case)
    (where(studies) / "labels" / "final" / "ct.nii.gz").unlink()
    assert accept_case(studies, case) == "ct"
    assert_whole(where(studies), "ct", case)
