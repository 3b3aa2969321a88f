"""Files that claim to be what they are not, or to hold more than a server can take."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import Series, write_series
from doors_kit import gzip_bomb, nifti_header
from lesionbrush.errors import DamagedFile, StorageFull
from lesionbrush.files.io import write_volume
from lesionbrush.server.doors import limits as limits_module
from lesionbrush.server.doors.limits import SizeLimits, check_volume
from lesionbrush.server.errors import TooLarge
from lesionbrush.server.storage import uploads
from lesionbrush.server.storage.references import read_ct
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from server_kit import make_ct

MB = 1 << 20
FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")
META = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = %d %d %d\n"
    b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
NRRD = b"NRRD0004\ntype: short\ndimension: 3\nsizes: %d %d %d\nencoding: gzip\nendian: little\n\n"


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"ct{suffix}"
    write_volume(make_ct(), path)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_honest_file_is_let_through(tmp_path: Path, suffix: str) -> None:
    check_volume(written(tmp_path, suffix))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_what_itk_writes_is_let_through(tmp_path: Path, suffix: str, compressed: bool) -> None:
    image = sitk.GetImageFromArray(make_ct().array.T)
    sitk.WriteImage(image, str(tmp_path / f"ct{suffix}"), useCompression=compressed)
    check_volume(tmp_path / f"ct{suffix}")


def test_nifti_2_and_the_other_byte_order(tmp_path: Path) -> None:
    array = make_ct().array
    nib.save(nib.Nifti2Image(array, np.eye(4), dtype=np.int16), tmp_path / "two.nii.gz")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == struct.pack(">i", 348)
    for name in ("two.nii.gz", "big.nii"):
        check_volume(tmp_path / name)
        with pytest.raises(TooLarge):
            check_volume(tmp_path / name, SizeLimits(voxels=array.size - 1))


class TestMagic:
    @pytest.mark.parametrize("claimed", FORMATS)
    @pytest.mark.parametrize("content", [*FORMATS, "script", "zip", "png", "nothing", "pickle"])
    def test_a_type_that_is_not_what_is_claimed(self, tmp_path: Path, claimed: str, content: str) -> None:
        if content == claimed:
            return
        path = tmp_path / f"claimed{claimed}"
        path.write_bytes(
            {
                "script": b"#!/usr/bin/env python\nimport os\n" + b"#" * 600,
                "zip": b"PK\x03\x04" + b"\0" * 600,
                "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 600,
                "pickle": b"\x80\x04\x95" + b"c" * 600,
                "nothing": b"",
            }.get(content)
            or (b"" if content == "nothing" else written(tmp_path, content).read_bytes())
        )
        with pytest.raises(DamagedFile, match=rf"claimed{claimed} cannot be read, it is damaged or misnamed"):
            check_volume(path)

    def test_a_pair_of_files_is_no_single_one(self, tmp_path: Path) -> None:
        header = nifti_header((4, 4, 4)).replace(b"n+1\0", b"ni1\0")
        (tmp_path / "pair.nii").write_bytes(header)
        with pytest.raises(DamagedFile, match="first bytes"):
            check_volume(tmp_path / "pair.nii")

    def test_only_dicom_leaves_an_archive(self, tmp_path: Path) -> None:
        (slice_,) = write_series(tmp_path / "series", Series(make_ct().array[:8, :8, :1]))
        with ZipFile(tmp_path / "a.zip", "w") as zipped:
            zipped.write(slice_, "IM0001")
            zipped.writestr("run.py", "import os")
            zipped.writestr("payload", b"MZ" + b"\0" * 500)
            zipped.writestr("named.dcm", b"not DICOM at all")
        uploads.unpack(tmp_path / "a.zip", tmp_path / "out")
        kept = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert sorted(kept) == ["00000", "00003.dcm"]
        assert kept["00000"][128:132] == b"DICM"
        (tmp_path / "out" / "00000").unlink()
        with pytest.raises(DamagedFile, match="named like a DICOM file and is none"):
            read_ct(tmp_path / "out")


class TestPromises:
    """The header says how large it is; that is believed only to refuse."""

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.nii", nifti_header((32767, 32767, 32767))),
            ("a.nii.gz", gzip.compress(nifti_header((32767, 32767, 32767)), mtime=0)),
            ("a.nrrd", NRRD % (99999, 99999, 99999)),
            ("a.mha", META % (99999, 99999, 99999)),
            ("double.nrrd", (NRRD % (4, 4, 4)).replace(b"type", b"sizes: 99999 99999 99999\ntype")),
            (
                "double.mha",
                (META % (4, 4, 4)).replace(b"BinaryData", b"DimSize = 99999 99999 9\nBinaryData"),
            ),
            ("vector.mha", (META % (999, 999, 999)).replace(b"Bin", b"ElementNumberOfChannels = 999\nBin")),
        ],
    )
    def test_too_many_voxels(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content + b"\0" * 100)
        with pytest.raises(TooLarge, match=rf"{name} says it holds \d+ voxels; this server takes up to"):
            check_volume(tmp_path / name)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.nrrd", b"NRRD0004\ntype: short\n\n"),
            ("b.nrrd", b"NRRD0004\nsizes: a b c\n\n"),
            ("c.nrrd", b"NRRD0004\nsizes:\n\n"),
            ("a.mha", b"ObjectType = Image\nElementDataFile = LOCAL\n"),
            ("b.mha", (META % (1, 2, 3)).replace(b"1 2 3", b"-1 2 3")),
            ("a.nii", nifti_header((-4, 4, 4))),
            ("b.nii", nifti_header((4, 4, 4), bits=-16)),
            ("c.nii", nifti_header((4, 4, 4))[:200]),
        ],
    )
    def test_no_size_at_all(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFile):
            check_volume(tmp_path / name)

    def test_wide_voxels_count_by_their_bytes(self, tmp_path: Path) -> None:
        nib.save(nib.Nifti1Image(np.zeros((10, 10, 10)), np.eye(4)), tmp_path / "wide.nii")
        check_volume(tmp_path / "wide.nii", SizeLimits(unpacked_bytes=8400))
        with pytest.raises(TooLarge):
            check_volume(tmp_path / "wide.nii", SizeLimits(unpacked_bytes=8000))


class TestBombs:
    @pytest.mark.parametrize("members", [1, 40])
    def test_gzip(self, tmp_path: Path, members: int) -> None:
        """One large member, or many that each look harmless."""
        header = nifti_header((4, 4, 4)) + b"\0" * 128
        bomb = gzip_bomb(tmp_path / "bomb.nii.gz", header, 200 * MB // members, members)
        assert bomb.stat().st_size < MB
        peak = memory_of(lambda: refused(bomb))
        assert peak < 20 * MB

    def test_metaimage(self, tmp_path: Path) -> None:
        (tmp_path / "bomb.mha").write_bytes(META % (4, 4, 4) + zlib.compress(b"\0" * 200 * MB))
        assert memory_of(lambda: refused(tmp_path / "bomb.mha")) < 20 * MB

    def test_a_header_that_never_ends(self, tmp_path: Path) -> None:
        (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(b"\0" * 200 * MB))
        with pytest.raises(DamagedFile):
            check_volume(tmp_path / "bomb.nii.gz")

    def test_padding_is_none(self, tmp_path: Path) -> None:
        path = written(tmp_path, ".nii.gz")
        path.write_bytes(path.read_bytes() + b"\0" * 1000)
        check_volume(path)

    def test_zip_by_its_own_words(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LESIONBRUSH_UNPACKED_GB", "0.01")
        with ZipFile(tmp_path / "bomb.zip", "w", ZIP_DEFLATED) as zipped:
            for number in range(20):
                zipped.writestr(f"{number}.dcm", b"\0" * MB)
        with pytest.raises(TooLarge, match=r"20 files of 0\.0 GB"):
            uploads.unpack(tmp_path / "bomb.zip", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_zip_that_lies(self, tmp_path: Path) -> None:
        """It says 100 bytes and holds 50 MB: no more than it says is ever written."""
        whole = io.BytesIO()
        with ZipFile(whole, "w", ZIP_DEFLATED) as zipped:
            zipped.writestr("1.dcm", b"\0" * 128 + b"DICM" + b"\0" * 50 * MB)
        size = struct.pack("<I", 132 + 50 * MB)
        lie = whole.getvalue().replace(size, struct.pack("<I", 140))
        (tmp_path / "lie.zip").write_bytes(lie)
        with pytest.raises(DamagedFile):
            uploads.unpack(tmp_path / "lie.zip", tmp_path / "out")
        assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 140

    def test_a_deflated_dicom_file(self, tmp_path: Path) -> None:
        (path,) = write_series(tmp_path / "series", Series(make_ct().array[:8, :8, :1]))
        slice_ = dcmread(path)
        slice_.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        slice_.save_as(path)
        check_volume(tmp_path / "series")
        with pytest.raises(TooLarge, match="deflated slice of more than 100 bytes"):
            check_volume(tmp_path / "series", SizeLimits(unpacked_bytes=100))

    @pytest.mark.parametrize("lies", [False, True])
    def test_a_deflated_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies: bool) -> None:
        """A slice that unpacks to far more than it is long is refused, and never held in memory."""
        (path,) = write_series(tmp_path / "series", Series(make_ct().array[:8, :8, :1]))
        slice_ = dcmread(path)
        slice_.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        slice_.PixelData = bytes(60 * MB)
        slice_.save_as(path)
        raw = bytearray(path.read_bytes())
        assert len(raw) < MB
        if lies:
            raw[140:144] = struct.pack("<I", 1 << 20)  # how long the file header says it is
            path.write_bytes(raw)
        monkeypatch.setattr(limits_module, "_DEFLATED_SLICE_BYTES", 50 * MB)

        def refuse() -> None:
            with pytest.raises(TooLarge, match="deflated slice of more than"):
                check_volume(tmp_path / "series")

        assert memory_of(refuse) < 5 * MB

    def test_a_series_that_promises_too_much(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path / "series", Series(make_ct().array[:8, :8, :3]))
        check_volume(tmp_path / "series", SizeLimits(voxels=192))
        with pytest.raises(TooLarge, match="more than 191 voxels"):
            check_volume(tmp_path / "series", SizeLimits(voxels=191))
        slice_ = dcmread(paths[0])
        slice_.Rows = slice_.Columns = 65535
        slice_.save_as(paths[0])
        with pytest.raises(TooLarge):
            check_volume(tmp_path / "series")


def refused(path: Path) -> None:
    with pytest.raises(TooLarge, match="unpacks to more than the"):
        check_volume(path)


def memory_of(call: Any) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_disk_keeps_its_reserve(tmp_path: Path) -> None:
    SizeLimits(free_bytes=0).require_room(1, tmp_path)
    with pytest.raises(StorageFull):
        SizeLimits(free_bytes=1 << 62).require_room(1, tmp_path)
