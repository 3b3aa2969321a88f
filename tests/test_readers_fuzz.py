"""Whatever bytes a file has, the outcome is a volume or a sentence: never a traceback."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import Series, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.errors import LesionBrushError
from lesionbrush.files.io import read_volume
from lesionbrush.server.doors.limits import check_volume
from volume_fixtures import affine_of, itk_image, random_hu

AFFINE = affine_of(np.eye(3), (0.7, 0.9, 1.25))
FUZZ = settings(  # the same examples each time; LESIONBRUSH_FUZZ=1000 looks further
    max_examples=int(os.environ.get("LESIONBRUSH_FUZZ", "50")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
Edits = list[tuple[float, bytes]]
# Where in the file, as a share, and what stands there then; most headers have numbers of two or four bytes.
edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([struct.pack("<h", n) for n in (-1, 0, 1, 2, 32767, -32768)]),
            st.sampled_from([struct.pack("<f", x) for x in (0.0, -1.0, float("nan"), float("inf"), 1e30)]),
            st.sampled_from([b"\\", b",", b"-", b"nan", b"1e9", b"\n", b"\0\0\0\0"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


def contents() -> dict[str, bytes]:
    """A sound file of every type, without its folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        image = nib.Nifti1Image(random_hu(), AFFINE)
        image.to_filename(folder / "a.nii")
        nib.Nifti2Image(random_hu(), AFFINE).to_filename(folder / "b.nii")
        for file in ("a.nrrd", "a.mha"):
            sitk.WriteImage(itk_image(random_hu(), AFFINE), str(folder / file))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


SOUND = contents()
HEADER_BYTES = {"a.nii": 352, "b.nii": 544, "a.nrrd": 400, "a.mha": 400}


def changed(content: bytes, within: int, changes: Edits, cut: float | None) -> bytes:
    raw = bytearray(content)
    for share, new in changes:
        at = int(share * min(within, len(raw)))
        raw[at : at + len(new)] = new
    return bytes(raw if cut is None else raw[: int(cut * len(raw))])


def assert_reads_or_says_why(path: Path) -> Volume | None:
    """As the server does it: first the door, then the reader, then what a request asks of a CT and a mask."""
    volume = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_volume(path)
            volume = read_volume(path)
            assert isinstance(volume, Volume)
            mask_on_grid(volume, require_ct(volume), 1)
        except LesionBrushError as error:
            assert len(str(error)) > 15  # noqa: PT017, a sentence is as good as a volume
            assert str(path.parent) not in str(error)  # noqa: PT017
    return volume


@pytest.mark.parametrize("name", sorted(SOUND))
@FUZZ
@given(changes=edits, cut=st.one_of(st.none(), st.floats(0, 1)))
def test_volume_files(name: str, changes: Edits, cut: float | None) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(changed(SOUND[name], HEADER_BYTES[name], changes, cut))
        assert_reads_or_says_why(path)


def series_contents(syntax: str = "") -> list[bytes]:
    with TemporaryDirectory() as name:
        paths = write_series(Path(name), Series(random_hu()[:, :, :3]))
        for path in paths if syntax else ():
            header = pydicom.dcmread(path)
            header.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
            header.save_as(path)
        return [path.read_bytes() for path in paths]


SERIES = {
    "explicit": series_contents(),
    "deflated": series_contents("1.2.840.10008.1.2.1.99"),
    "bare": [content[132:] for content in series_contents()],
}


@pytest.mark.parametrize("kind", SERIES)
@FUZZ
@given(changes=edits, cut=st.one_of(st.none(), st.floats(0, 1)), k=st.integers(0, 2))
def test_a_slice_of_a_series(kind: str, changes: Edits, cut: float | None, k: int) -> None:
    """A slice that was changed is never left out without a word."""
    with TemporaryDirectory() as folder:
        for number, content in enumerate(SERIES[kind]):
            now = changed(content, len(content), changes, cut) if number == k else content
            (Path(folder) / f"IM{number}").write_bytes(now)
        volume = assert_reads_or_says_why(Path(folder))
        assert volume is None or volume.shape[2] == 3 or volume.source.remarks


KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "NumberOfFrames", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "Modality", "ImageType", "SOPClassUID", "SeriesInstanceUID", "InstanceNumber", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "PixelPaddingValue",
    "SpacingBetweenSlices",
)  # fmt: skip
ODD = ("", " ", "0", "-1", "1\\2", "1\\2\\3", "1e400", "nan", "0,5", "1.5", "RGB", "PT", "1.2.3")
texts = st.one_of(st.sampled_from(ODD), st.text(st.characters(max_codepoint=127), max_size=20))


@FUZZ
@given(
    keyword=st.sampled_from(KEYWORDS),
    text=texts,
    vr=st.sampled_from(["DS", "IS", "CS", "US", "LO", "UN", "SQ"]),
)
def test_any_tag_with_any_value(keyword: str, text: str, vr: str) -> None:
    """Explicit VR: the file says what kind of value it has, and need not be right."""
    with TemporaryDirectory() as folder:
        paths = write_series(Path(folder), Series(random_hu()[:, :, :2]))
        content = paths[0].read_bytes()
        tag = pydicom.tag.Tag(keyword)
        start = content.find(struct.pack("<HH", tag.group, tag.element), 132)
        value = text.encode("latin-1", "replace") + b" " * (len(text) % 2)
        head = struct.pack("<HH2s", tag.group, tag.element, vr.encode())
        length = struct.pack(
            "<HI" if vr in ("UN", "SQ") else "<H", *([0] if vr in ("UN", "SQ") else []), len(value)
        )
        if start < 0:
            start, end = content.find(struct.pack("<HH", 0x7FE0, 0x0010)), None
        else:
            (old,) = struct.unpack_from("<H", content, start + 6)
            end = start + 8 + old
        paths[0].write_bytes(
            content[:start] + head + length + value + content[end if end is not None else start :]
        )
        assert_reads_or_says_why(Path(folder))
