"""Boxes, uploads and events, one by one."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest
from job_fake import AFFINE, BOX, CT, OFFSET, VOXELS
from lesionbrush.core.volume import Volume
from LesionBrushLib.client import Cancelled, WrongReference
from LesionBrushLib.client.answers import JobStatus, ServerFacts, StoredReference
from LesionBrushLib.client.boxes import Box, compose, voxel_sha256
from LesionBrushLib.client.events import parse
from LesionBrushLib.client.nifti import read_nifti, write_nifti
from LesionBrushLib.client.patience import watched
from LesionBrushLib.client.uploads import Upload, ct_upload, mask_upload
from LesionBrushLib.client.wire import BrokenAnswer

BOXED = Box(BOX, OFFSET, VOXELS)
WRITTEN = write_nifti(BOX, AFFINE)
OBLIQUE = np.array([[-0.6, 0.1, 0, 12], [0.1, 0.6, 0, -7], [0, 0, 1.5, 100], [0, 0, 0, 1]])


@pytest.mark.parametrize("turn", [lambda a: a, np.ascontiguousarray, lambda a: a[::-1, :, ::2]])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "f4", "u1"])
def test_the_hash_is_the_servers(turn: Any, dtype: str) -> None:
    array = turn(CT.astype(dtype))
    assert voxel_sha256(array) == Volume(array.astype(array.dtype.newbyteorder("<")), np.eye(4)).voxel_sha256


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_composing_changes_the_box_alone(dtype: str, layout: str) -> None:
    reference = CT.astype(dtype, order=layout)
    before = reference.copy()
    made = compose(reference, BOXED)
    assert np.array_equal(reference, before)
    assert (made.dtype, made.strides) == (reference.dtype, reference.strides)
    assert np.array_equal(made[BOXED.place], BOX)
    made[BOXED.place] = CT[BOXED.place]
    assert np.array_equal(made, CT)


def test_another_reference_is_refused() -> None:
    other = CT.copy(order="F")
    other[0, 0, 0] += 1
    with pytest.raises(WrongReference, match="synthesize again"):
        compose(other, BOXED)
    with pytest.raises(WrongReference, match="does not fit"):
        compose(CT[:5], BOXED)
    with pytest.raises(WrongReference):
        compose(CT, BOXED, voxels="0" * 64)
    with pytest.raises(WrongReference):
        compose(CT + 0.5, BOXED)
    with pytest.raises(ValueError, match="16-bit"):
        compose(CT.astype(np.uint16), BOXED)
    assert compose(other, BOXED, voxels=VOXELS)[0, 0, 0] == other[0, 0, 0]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4"])
def test_a_ct_from_memory_is_a_nifti_like_any_other(compress: bool, dtype: str, tmp_path: Path) -> None:
    upload = ct_upload(CT.astype(dtype), OBLIQUE, compress)
    assert upload == ct_upload(CT, OBLIQUE, compress)
    path = tmp_path / f"ct.{upload.format}"
    path.write_bytes(upload.source)
    read = nib.load(path)
    assert read.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(read.dataobj), CT)
    assert np.allclose(read.affine, OBLIQUE, atol=1e-5)
    assert np.allclose(read.header.get_zooms(), np.linalg.norm(OBLIQUE[:3, :3], axis=0))
    assert read.header.get_xyzt_units()[0] == "mm"


def test_a_mask_is_cut_to_its_bounding_box(tmp_path: Path) -> None:
    mask = np.zeros(CT.shape)
    mask[3:6, 2, 4:6] = 7
    upload = mask_upload(mask, OBLIQUE)
    (tmp_path / "mask.nii.gz").write_bytes(upload.source)
    read = nib.load(tmp_path / "mask.nii.gz")
    assert read.shape == (3, 1, 2)
    assert np.array_equal(np.unique(read.dataobj), [1])
    assert np.allclose(read.affine[:3, 3], (OBLIQUE @ (3, 2, 4, 1))[:3], atol=1e-4)
    with pytest.raises(ValueError, match="paint a lesion"):
        mask_upload(np.zeros(CT.shape), OBLIQUE)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (CT + 0.5, "round"),
        (CT.astype("f4") * np.nan, "no HU"),
        (CT.astype("i4") + 40000, "no HU"),
        (CT[0], "no volume"),
    ],
)
def test_what_is_no_ct_is_not_sent(array: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ct_upload(array, OBLIQUE)


def test_a_series_goes_as_the_same_bytes_each_time(tmp_path: Path) -> None:
    (tmp_path / "b.dcm").write_bytes(b"2")
    (tmp_path / "a.IMA").write_bytes(b"1")
    hashes = []
    for _ in range(2):
        with Upload.of(tmp_path).packed() as packed:
            hashes.append(packed.sha256())
            assert packed.format == "zip"
            assert ZipFile(packed.source).namelist() == ["00000.ima", "00001.dcm"]
        assert not packed.source.exists()
    assert hashes[0] == hashes[1]


EVENTS = (
    ': alive\r\n\r\nid: 1\nevent: status\ndata: {"ä":\ndata: 1}\n\n',
    "data:x\rid\r\rretry: 5\n\nevent: lost\n\nid: 3\0\ndata\n\n",
    "event: unfinished\ndata: 1",
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_cut_anywhere(size: int) -> None:
    whole = "".join(EVENTS).encode()
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    found = [(event.name, event.data, event.id) for event in parse(pieces)]
    assert found == [("status", '{"ä":\n1}', "1"), ("message", "x", ""), ("message", "", "")]


def test_an_endless_event_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("LesionBrushLib.client.events.LONGEST_EVENT", 100)
    for piece in (b"data: xxxxxxxx\n", b"x" * 10):
        with pytest.raises(BrokenAnswer, match="does not end"):
            list(parse(piece for _ in range(100)))


STATUS = {"id": "a", "model": "lung", "state": "running"}


def test_what_servers_say_is_checked() -> None:
    status = JobStatus.from_json({**STATUS, "step": 2, "steps": 8, "accepted": {"1": "x"}, "news": 1})
    assert (status.fraction, status.finished, status.accepted) == (0.25, False, {1: "x"})
    assert JobStatus.from_json({**STATUS, "state": "done"}).fraction == 1.0
    for wrong in (
        {},
        [],
        None,
        {**STATUS, "state": "bored"},
        {**STATUS, "step": "x"},
        {**STATUS, "error": 3},
    ):
        with pytest.raises(BrokenAnswer):
            JobStatus.from_json(wrong)
    for wrong in ({}, [], {"reference": "a", "voxel_sha256": "b", "shape": [1, 2], "bytes": 1}):
        with pytest.raises(BrokenAnswer):
            StoredReference.from_json(wrong)
    with pytest.raises(BrokenAnswer):
        ServerFacts.from_json([])


def test_progress_is_told_by_the_waiting_thread() -> None:
    told: list[tuple[int, int]] = []

    def work(report: Any) -> str:
        report(1, 2)
        report(2, 2)
        return "done"

    assert watched(work, lambda *now: told.append(now)) == "done"
    assert told[-1] == (2, 2)
    with pytest.raises(ZeroDivisionError):
        watched(lambda _: 1 / 0, None)
    with pytest.raises(Cancelled):
        watched(lambda _: __import__("time").sleep(1), None, lambda: True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_a_nifti_comes_back_as_it_was_written(dtype: type) -> None:
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(dtype))
    content = write_nifti(array, AFFINE)
    for packed in (content, gzip.compress(content)):
        voxels, affine = read_nifti(packed)
        assert voxels.dtype == dtype
        assert np.array_equal(voxels, array)
        assert np.allclose(affine, AFFINE, atol=1e-6)
    read = nib.Nifti1Image.from_bytes(content)
    assert np.array_equal(np.asanyarray(read.dataobj), array)
    assert np.allclose(read.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {70: b"\x10\0"},  # floats
        {40: b"\4\0"},  # four axes
        {112: struct.pack("<f", 2.0)},  # a slope
        {116: struct.pack("<f", 1.0)},  # an intercept
        {254: b"\0\0"},  # no place
        {344: b"ni1\0"},  # its voxels are in another file
    ],
)
def test_a_header_that_says_more_than_voxels_and_place_is_refused(changes: dict[int, bytes]) -> None:
    content = bytearray(WRITTEN)
    for at, value in changes.items():
        content[at : at + len(value)] = value
    with pytest.raises(BrokenAnswer, match="no NIfTI of whole numbers"):
        read_nifti(bytes(content))


@pytest.mark.parametrize(
    "content",
    [WRITTEN[:-1], WRITTEN + b"\0\0", WRITTEN[:200], b"", b"NRRD0004" * 100, gzip.compress(WRITTEN)[:-20]],
)
def test_a_torn_file_is_no_answer(content: bytes) -> None:
    with pytest.raises(BrokenAnswer, match="no NIfTI of whole numbers"):
        read_nifti(content)
