"""Voxels of NRRD and MetaImage files: exactly as many as the header says, each as it is in the file."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.errors import DamagedFile
from lesionbrush.files.io import read_volume
from volume_fixtures import affine_of, by_itk, itk_image, metaimage, nrrd, random_hu

AFFINE = affine_of(np.eye(3), (0.7, 0.9, 1.25))
RAW = random_hu().tobytes(order="F")
NRRD, META = nrrd(AFFINE)[: -len(RAW)], metaimage(AFFINE)[: -len(RAW)]
WORDS = [str(value).encode() for value in random_hu().ravel(order="F")]
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def zipped(raw: bytes = RAW, size: int | str = "", packed: bytes | None = None) -> bytes:
    """A compressed .mha; size: what its CompressedDataSize says, "" for the truth, "none" for no line."""
    packed = zlib.compress(raw) if packed is None else packed
    line = "" if size == "none" else f"CompressedDataSize = {len(packed) if size == '' else size}\n"
    new = f"CompressedData = True\n{line}ElementType".encode()
    return META.replace(b"ElementType", new) + packed


def encoded(name: str, data: bytes, header: bytes = NRRD) -> bytes:
    return header.replace(b"encoding: raw", b"encoding: " + name.encode()) + data


def text(words: list[bytes], type_name: bytes = b"MET_SHORT") -> bytes:
    header = META.replace(b"BinaryData = True", b"BinaryData = False").replace(b"MET_SHORT", type_name)
    return header + b" ".join(words)


def saved(folder: Path, suffix: str, content: bytes, beside: bytes | None = None) -> Path:
    path = folder / f"a.{suffix}"
    path.write_bytes(content)
    if beside is not None:
        (folder / "a.raw").write_bytes(beside)
    return path


def detached_nrrd(extra: str = "") -> bytes:
    return nrrd(AFFINE, f"{extra}data file: a.raw\n")[: -len(RAW)]


def detached_meta(extra: str = "") -> bytes:
    return META.replace(b"LOCAL", b"a.raw").replace(b"ElementType", extra.encode() + b"ElementType")


SOUND = {
    "nrrd": (NRRD + RAW, None),
    "nrrd, a line break behind": (NRRD + RAW + b"\n", None),
    "nrrd, lines of Windows": (NRRD.replace(b"\n", b"\r\n") + RAW, None),
    "nrrd, gzip": (encoded("gzip", gzip.compress(RAW)), None),
    "nrrd, gzip of two members": (encoded("gz", gzip.compress(RAW[:99]) + gzip.compress(RAW[99:])), None),
    "nrrd, ascii": (encoded("ascii", b" ".join(WORDS)), None),
    "nrrd, text with commas": (encoded("text", b",\n".join(WORDS) + b"\n"), None),
    "nrrd, hex": (encoded("hex", RAW.hex("\n", 20).encode()), None),
    "nrrd, big": (NRRD.replace(b"little", b"big") + random_hu().astype(">i2").tobytes(order="F"), None),
    "nrrd, at the end": (nrrd(AFFINE, "byte skip: -1\n"), None),
    "nhdr": (detached_nrrd(), RAW),
    "nhdr, skips": (detached_nrrd("line skip: 1\nbyte skip: 3\n"), b"a line\nxyz" + RAW),
    "nhdr, at the end": (detached_nrrd("byte skip: -1\n"), b"any header" + RAW),
    "mha": (META + RAW, None),
    "mha, zeros behind": (META + RAW + bytes(20), None),
    "mha, zlib": (zipped(), None),
    "mha, zlib, size left out": (zipped(size="none"), None),
    "mha, zlib, size 0": (zipped(size=0), None),
    "mha, ascii": (text([*WORDS, b"\n"]), None),
    "mha, ascii without a line break": (text(WORDS), None),
    "mha, whole numbers with a point": (text([*(word + b".0" for word in WORDS), b"\n"]), None),
    "mha, big": (
        META.replace(b"MSB = False", b"MSB = True") + random_hu().astype(">i2").tobytes(order="F"), None,
    ),
    "mhd": (detached_meta(), RAW),
    "mhd, header of n bytes": (detached_meta("HeaderSize = 6\n"), b"header" + RAW),
    "mhd, at the end": (detached_meta("HeaderSize = -1\n"), b"header" + RAW),
    "mhd, zlib": (
        detached_meta("CompressedData = True\n"), zlib.compress(RAW),
    ),
}  # fmt: skip
ITK_CANNOT = ("size left out", "size 0", "without a line break")  # it reads other voxels there, or none


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_read(tmp_path: Path, name: str) -> None:
    content, beside = SOUND[name]
    path = saved(tmp_path, name.partition(",")[0], content, beside)
    volume = read_volume(path)
    assert np.array_equal(volume.array, random_hu())
    assert volume.array.dtype == np.dtype("i2")
    assert volume.array.flags.f_contiguous
    assert np.allclose(volume.affine, AFFINE)
    assert volume.source.remarks == ()
    if not name.endswith(ITK_CANNOT):
        assert np.array_equal(by_itk(path).array, random_hu())


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_comes_back_with_its_extremes(
    tmp_path: Path, kind: str, suffix: str, compressed: bool
) -> None:
    limits = np.iinfo(kind) if kind[0] in "iu" else np.finfo(kind)
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    array[0, 0, 0], array[-1, -1, -1] = limits.min, limits.max
    sitk.WriteImage(itk_image(array, AFFINE), str(tmp_path / f"a.{suffix}"), useCompression=compressed)
    volume = read_volume(tmp_path / f"a.{suffix}")
    assert volume.array.dtype == np.dtype(kind)
    assert np.array_equal(volume.array, array)


FEWER, MORE = "fewer voxels than its header says", "more voxels than its header says"
FALSE = {
    # compressed
    "mha, fewer in the stream": (zipped(RAW[:-2]), None, FEWER),
    "mha, more in the stream": (zipped(RAW + b"\1\0"), None, MORE),
    "mha, zeros more in the stream": (zipped(RAW + bytes(2)), None, MORE),
    "mha, size too small": (zipped(size=20), None, r"header says 20 .CompressedDataSize"),
    "mha, size too large": (zipped(size=99999), None, "header says 99999"),
    "mha, size no number": (zipped(size="many"), None, "CompressedDataSize is 'many'"),
    "mha, stream too short": (zipped(packed=zlib.compress(RAW)[:-6]), None, "end too early"),
    "mha, stream damaged": (zipped(packed=b"x" + zlib.compress(RAW)), None, "compressed voxels are damaged"),
    "mha, bytes behind the stream": (zipped() + b"more", None, "other bytes follow"),
    "nrrd, fewer in gzip": (encoded("gzip", gzip.compress(RAW[:-2])), None, FEWER),
    "nrrd, more in gzip": (encoded("gzip", gzip.compress(RAW) * 2), None, MORE),
    "nrrd, gzip that is none": (encoded("gzip", RAW), None, "compressed voxels are damaged"),
    "nrrd, gzip with a skip": (
        encoded("gzip", gzip.compress(RAW), nrrd(AFFINE, "byte skip: 4\n")[: -len(RAW)]), None,
        "leave out 0 lines and 4 bytes",
    ),
    # raw
    "nrrd, shorter": (NRRD + RAW[:-1], None, FEWER),
    "nrrd, longer": (NRRD + RAW + b"more", None, MORE),
    "nrrd, smaller sizes": (NRRD.replace(b"6 5 4", b"6 5 3") + RAW, None, MORE),
    "nrrd, a slice of zeros more": (NRRD + RAW + bytes(60), None, MORE),
    "nhdr, junk in front": (detached_nrrd(), b"junk" + RAW, MORE),
    "nhdr, skips too much": (detached_nrrd("byte skip: 9\n"), RAW, FEWER),
    "nhdr, skips backwards": (detached_nrrd("byte skip: -2\n"), RAW, "leave out 0 lines and -2 bytes"),
    "mha, shorter": (META + RAW[:-1], None, FEWER),
    "mha, longer": (META + RAW + b"more", None, MORE),
    "mha, much longer": (META + RAW + bytes(5000), None, MORE),
    "mha, smaller sizes": (META.replace(b"6 5 4", b"6 4 4") + RAW, None, MORE),
    "mha, smaller type": (META.replace(b"MET_SHORT", b"MET_UCHAR") + RAW, None, MORE),
    "mhd, junk in front": (detached_meta(), b"junk" + RAW, MORE),
    "mhd, skips too much": (detached_meta("HeaderSize = 9\n"), RAW, FEWER),
    "mhd, shorter, at the end": (detached_meta("HeaderSize = -1\n"), RAW[1:], FEWER),
    # text
    "nrrd, ascii that wraps": (encoded("ascii", b" ".join([b"40000", *WORDS[1:]])), None, "40000, .*int16"),
    "nrrd, ascii with a fraction": (encoded("ascii", b" ".join([b"-999.7", *WORDS[1:]])), None, "is -999.7"),
    "nrrd, ascii with nan": (encoded("ascii", b" ".join([b"nan", *WORDS[1:]])), None, "is nan"),
    "nrrd, ascii with words": (encoded("ascii", b" ".join([b"air", *WORDS[1:]])), None, "not all numbers"),
    "nrrd, ascii with 1_0": (encoded("ascii", b" ".join([b"1_0", *WORDS[1:]])), None, "not all numbers"),
    "nrrd, ascii that is none": (encoded("ascii", b"x" * 5000), None, "not text"),
    "nrrd, fewer in ascii": (encoded("ascii", b" ".join(WORDS[1:])), None, FEWER),
    "nrrd, more in ascii": (encoded("ascii", b" ".join([*WORDS, b"0"])), None, MORE),
    "nrrd, fewer in hex": (encoded("hex", RAW[1:].hex().encode()), None, FEWER),
    "nrrd, half a byte of hex": (encoded("hex", RAW.hex().encode() + b"0"), None, "end within a byte"),
    "nrrd, hex that is none": (encoded("hex", b"xyz" * 160), None, "not all hexadecimal"),
    "mha, ascii that wraps": (text([b"-32769", *WORDS[1:]]), None, "is -32769, .*int16"),
    "mha, ascii with a fraction": (text([b"-999.7", *WORDS[1:]]), None, "is -999.7"),
    "mha, fewer in ascii": (text(WORDS[1:]), None, FEWER),
    "mha, ascii beyond float": (text([b"1e39", *WORDS[1:]], b"MET_FLOAT"), None, "is 1e39, .*float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    content, beside, reason = FALSE[name]
    path = saved(tmp_path, name.partition(",")[0], content, beside)
    with pytest.raises(DamagedFile, match=rf"^{path.name}.*{reason}"):
        read_volume(path)


def test_text_may_hold_fractions_where_the_type_does(tmp_path: Path) -> None:
    path = saved(tmp_path, "mha", text([b"-999.75", *WORDS[1:]], b"MET_FLOAT"))
    assert read_volume(path).array[0, 0, 0] == -999.75


def test_much_is_read_in_pieces(tmp_path: Path) -> None:
    """Longer than one piece, in each encoding; a word or a byte may lie on both sides of a cut."""
    array = np.random.default_rng(0).integers(-1000, 1500, (90, 90, 90), dtype=np.int16)
    raw = array.tobytes(order="F")
    header = NRRD.replace(b"6 5 4", b"90 90 90")
    data = {
        "raw": raw,
        "gzip": gzip.compress(raw, 1),
        "hex": b"\n" + raw.hex().encode(),
        "ascii": b" ".join(str(value).encode() for value in array.ravel(order="F").tolist()),
    }
    for name, content in data.items():
        path = saved(tmp_path, "nrrd", encoded(name, content, header))
        assert np.array_equal(read_volume(path).array, array), name
