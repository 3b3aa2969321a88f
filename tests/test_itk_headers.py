"""What NRRD and MetaImage headers say that ITK reads past without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT
from lesionbrush.files.io import read_volume
from volume_fixtures import OBLIQUE, affine_of, by_itk, itk_image, metaimage, nrrd, random_hu

SPACING_MM = (0.7, 0.9, 1.25)
STRAIGHT, TURNED = affine_of(np.eye(3), SPACING_MM), affine_of(OBLIQUE, SPACING_MM)
NRRD, META = nrrd(STRAIGHT), metaimage(STRAIGHT)
VECTORS = b"(0.7,0.0,0.0) (0.0,0.9,0.0) (0.0,0.0,1.25)"
MATRIX = b"TransformMatrix = -1.0 0.0 0.0 0.0 -1.0 0.0 0.0 0.0 1.0\n"
OFFSET = b"Offset = 120.5 -33.25 801.0\n"
NO_PLACE, NO_AXES = "does not say where it lies", "does not say which way the axes lead"


def changed(content: bytes, *changes: tuple[str | bytes, str | bytes]) -> bytes:
    for change in changes:
        old, new = (part.encode() if isinstance(part, str) else part for part in change)
        assert content.count(old) == 1
        content = content.replace(old, new)
    return content


def spaced(fields: str) -> bytes:
    return nrrd(STRAIGHT, fields, space="")


def in_a_list(vectors: bytes, sizes: str, kinds: str, extra: str = "") -> bytes:
    return changed(
        NRRD, ("dimension: 3", "dimension: 4"), ("sizes: 6 5 4", f"sizes: {sizes}"), (VECTORS, vectors),
        ("encoding", f"{kinds and f'kinds: {kinds}'}{kinds and chr(10)}{extra}encoding"),
    )  # fmt: skip


class TestItkHeaders:
    """What ITK reads past without a word."""

    @pytest.mark.parametrize("write", [nrrd, metaimage])
    @pytest.mark.parametrize("affine", [STRAIGHT, TURNED], ids=["straight", "oblique"])
    def test_plain_ones_are_read_as_itk_does(self, tmp_path: Path, write, affine: np.ndarray) -> None:
        path = tmp_path / ("a.nrrd" if write is nrrd else "a.mha")
        path.write_bytes(write(affine))
        volume = read_volume(path)
        assert np.allclose(volume.affine, affine)
        assert np.allclose(volume.affine, by_itk(path).affine)
        assert np.array_equal(volume.array, random_hu())
        assert volume.source.remarks == ()

    @pytest.mark.parametrize(
        ("content", "suffix", "error", "text"),
        [
            (nrrd(STRAIGHT, 'space units: "cm" "cm" "cm"\n'), "nrrd", DamagedFile, "lengths are in 'cm'"),
            (nrrd(STRAIGHT, "old min: -1024\nold max: 3071\n"), "nrrd", DamagedFile, "values are scaled"),
            (nrrd(STRAIGHT, space=""), "nrrd", DamagedFile, "does not say how large a voxel is"),
            (nrrd(STRAIGHT).replace(b": raw", b": bzip2"), "nrrd", DamagedFile, "'bzip2' is not supported"),
            (metaimage(STRAIGHT, "Position = 4 5 6\n"), "mha", DamagedFile, "two geometries .*position = 4"),
            (metaimage(STRAIGHT, "Rotation = 1 0 0 0 1 0 0 0 1\n"), "mha", DamagedFile, "two geometries"),
            (
                metaimage(STRAIGHT, "ElementToIntensityFunctionSlope = 2\n"), "mha", DamagedFile,
                "values are scaled .elementtointensityfunctionslope 2",
            ),
            (metaimage(STRAIGHT, "ElementToIntensityFunctionOffset = -1024\n"), "mha", DamagedFile, "scaled"),
            (metaimage(STRAIGHT, "DistanceUnits = um\n"), "mha", DamagedFile, "lengths are in 'um'"),
            (
                metaimage(STRAIGHT).replace(b"ElementSpacing", b"Something"), "mha", DamagedFile,
                "does not say how large",
            ),
        ],
    )  # fmt: skip
    def test_refused_with_its_value(
        self, tmp_path: Path, content: bytes, suffix: str, error: type[LesionBrushError], text: str
    ) -> None:
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        with pytest.raises(error, match=rf"^a\.{suffix}: .*{text}"):
            read_volume(path)

    @pytest.mark.parametrize(
        ("content", "suffix"),
        [
            (nrrd(STRAIGHT, 'space units: "mm" "mm" "mm"\n'), "nrrd"),
            (metaimage(STRAIGHT, "ElementToIntensityFunctionSlope = 1.0\nDistanceUnits = mm\n"), "mha"),
            (metaimage(STRAIGHT, "AnatomicalOrientation = ???\nCenterOfRotation = 0 0 0\n"), "mha"),
        ],
    )
    def test_what_changes_nothing_is_read(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        (tmp_path / f"a.{suffix}").write_bytes(content)
        assert np.allclose(read_volume(tmp_path / f"a.{suffix}").affine, STRAIGHT)

    def test_axes_that_are_not_stated_are_said(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(nrrd(STRAIGHT, "spacings: 0.7 0.9 1.25\n", space=""))
        volume = read_volume(tmp_path / "a.nrrd")
        assert np.allclose(volume.affine, by_itk(tmp_path / "a.nrrd").affine)
        assert "does not say which way the axes lead" in volume.source.remarks[0]

    def test_layers_of_a_segmentation(self, tmp_path: Path) -> None:
        fields = [
            "NRRD0004", "type: uchar", "dimension: 4", "space: left-posterior-superior", "sizes: 2 6 5 4",
            "space directions: none (1,0,0) (0,1,0) (0,0,1)", "kinds: list domain domain domain",
            "encoding: raw",
            "space origin: (0,0,0)", "Segment0_Name:=tumour", "Segment1_Name:=oedema", "", "",
        ]  # fmt: skip
        (tmp_path / "a.seg.nrrd").write_bytes("\n".join(fields).encode() + bytes(240))
        with pytest.raises(
            NotACT, match=r"^a.seg.nrrd: a segmentation of 2 layers: .*tumour, oedema.*Export"
        ):
            read_volume(tmp_path / "a.seg.nrrd")


NRRD_REFUSED = [
    (changed(NRRD, ("(0.0,0.0,1.25)", "none")), "do not say how far its slices are apart"),
    (changed(NRRD, ("(0.0,0.0,1.25)", "(0,0,nan)")), "space directions is '0 0 nan'"),
    (changed(NRRD, ("(0.0,0.0,1.25)", "(0,1.25)")), "space directions is '0 1.25', and 3 numbers"),
    (changed(NRRD, (" (0.0,0.0,1.25)", "")), "and 3 of .x,y,z. are needed"),
    (changed(NRRD, ("(0.0,0.0,1.25)", "(0,0,0)")), "axes of its space directions .* span no volume"),
    (changed(NRRD, ("(0.0,0.0,1.25)", "(0,0.9,0)")), "span no volume"),
    (changed(NRRD, ("encoding", "kinds: space space time\nencoding")), "of kind 'time'"),
    (spaced("spacings: 0.7 0.8 nan\n"), "spacings is '0.7 0.8 nan'"),
    (spaced("spacings: 0.7 0.8 inf\n"), "spacings is '0.7 0.8 inf'"),
    (spaced("spacings: 0.7 0.8 0\n"), "spacings is '0.7 0.8 0': no voxel has such edges"),
    (spaced("spacings: 0.7 -0.8 1\n"), "no voxel has such edges"),
    (spaced("spacings: 0.7 0.8\n"), "spacings is '0.7 0.8', and 3 numbers are needed"),
    (spaced("spacings: 0.7 0.9 1.25\naxis mins: 1 nan 3\n"), "axis mins is '1 nan 3'"),
    (spaced("space: LPS\nspacings: 0.7 0.9 1.25\n"), "not where its axes lead"),
    (changed(NRRD, ("(-120.5,33.25,801.0)", "(-120.5,33.25)")), "space origin is '-120.5 33.25', and 3"),
    (changed(NRRD, ("(-120.5,33.25,801.0)", "none")), "space origin is 'none'"),
    (changed(NRRD, ("(-120.5,33.25,801.0)", "(nan,nan,nan)")), "space origin is 'nan nan nan'"),
    (changed(NRRD, ("type: short", "type: block")), "type 'block' is not one of"),
    (changed(NRRD, ("endian: little\n", "")), "endian is '', not little or big"),
    (changed(NRRD, ("endian: little\n", "endian: little\nendian: big\n")), "states 'endian' twice"),
    (changed(NRRD, ("endian: little\n", "endian: little\nany line\n")), "'any line', states no field"),
    (changed(NRRD, ("endian", "sample units: mg/ml\nendian")), "values are in 'mg/ml', not in HU"),
    (changed(NRRD, ("endian", 'sample units: "keV"\nendian')), "values are in 'keV'"),
]


@pytest.mark.parametrize(("content", "text"), NRRD_REFUSED)
def test_what_a_nrrd_header_leaves_open_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises((DamagedFile, NotACT), match=rf"^a\.nrrd.*{text}"):
        read_volume(tmp_path / "a.nrrd")


META_REFUSED = [
    (changed(META, (OFFSET, "Offset = 1 2\n")), "Offset is '1 2', and 3 numbers are needed"),
    (changed(META, (OFFSET, "Offset = nan 0 0\n")), "Offset is 'nan 0 0'"),
    (changed(META, (OFFSET, "Offset = 1,2,3\n")), "Offset is '1,2,3'"),
    (changed(META, (OFFSET, "ImagePosition = 1 2 3\nOffset = 0 0 0\n")), "two geometries .*imageposition"),
    (changed(META, (OFFSET, OFFSET + b"Offset = 0 0 0\n")), "two geometries"),
    (changed(META, (OFFSET, "ElementOrigin = 120.5 -33.25 801\n")), "can be read in two ways"),
    (
        changed(META, ("ElementSpacing", "elementspacing")),
        "has 'elementspacing', .* write it 'ElementSpacing'",
    ),
    (changed(META, ("Offset", "OFFSET")), "has 'OFFSET'"),
    (changed(META, ("BinaryDataByteOrderMSB", "BinaryDataByteOrderMsb")), "has 'BinaryDataByteOrderMsb'"),
    (changed(META, ("ElementDataFile", "ElementDatafile")), "has 'ElementDatafile'"),
    (changed(META, ("ElementSpacing", "any line\nElementSpacing")), "'any line', states no field"),
    (changed(META, ("0.7 0.9 1.25", "0.7 0.9")), "ElementSpacing is '0.7 0.9', and 3 numbers"),
    (changed(META, ("0.7 0.9 1.25", "0.7 0.9 0")), "no voxel has such edges"),
    (changed(META, ("0.7 0.9 1.25", "-0.7 0.9 1.25")), "no voxel has such edges"),
    (changed(META, ("0.7 0.9 1.25", "nan 0.9 1.25")), "ElementSpacing is 'nan 0.9 1.25'"),
    (changed(META, ("ElementSpacing", "ElementSpacing = 1 1 1\nElementSpacing")), "ElementSpacing twice"),
    (changed(META, ("MSB = False", "MSB = Yes")), "MSB is 'Yes': write True or False"),
    (changed(META, ("MSB = False", "MSB = False\nElementByteOrderMSB = True")), "two orders of bytes"),
    (changed(META, ("MET_SHORT", "MET_STRING")), "ElementType 'MET_STRING' is not known"),
    (changed(META, ("MET_SHORT", "MET_SHORT_ARRAY")), "ElementType 'MET_SHORT_ARRAY' is not known"),
    (changed(META, ("MET_SHORT", "short")), "ElementType 'short' is not known"),
    (
        changed(META, ("ElementType", "HeaderSize = 4\nElementType")),
        "HeaderSize is 4, and its voxels begin at",
    ),
    (changed(META, ("ElementType", "HeaderSize = -1\nElementType")), "HeaderSize is -1"),
    (changed(META, ("ElementType", "HeaderSize = -2\nElementType")), "HeaderSize is -2"),
    (changed(META, ("DimSize = 6", "DimSize = 6.7")), "DimSize is '6.7 5 4'"),
    (changed(META, ("BinaryData = True", "BinaryData = yes")), "BinaryData is 'yes'"),
    (
        changed(META, ("BinaryData = True", "BinaryData = False\nCompressedData = True")),
        "text .* and compressed",
    ),
    (
        changed(META, (MATRIX, "TransformMatrix = 0 0 0 0 1 0 0 0 1\n")),
        "axes of its TransformMatrix .* span no",
    ),
    (changed(META, (MATRIX, "TransformMatrix = 1 0 0 1 0 0 0 0 1\n")), "span no volume"),
    (changed(META, (MATRIX, "TransformMatrix = 2 0 0 0 1 0 0 0 1\n")), "not of length 1"),
    (changed(META, (MATRIX, "TransformMatrix = 1 0 0 0 1 0\n")), "and 9 numbers are needed"),
    (
        changed(META, ("ElementType", "ElementToIntensityFunctionSlope = one\nElementType")),
        "a number is needed",
    ),
]


@pytest.mark.parametrize(("content", "text"), META_REFUSED)
def test_what_a_metaimage_header_leaves_open_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"^a\.mha.*{text}"):
        read_volume(tmp_path / "a.mha")


READ = [
    ("nrrd", changed(NRRD, ("encoding", "kinds: space domain ???\nencoding")), ()),
    ("nrrd", changed(NRRD, ("space origin", "spaceorigin")), ()),
    ("nrrd", changed(NRRD, ("endian", 'sample units: "HU"\nendian')), ()),
    ("nrrd", changed(NRRD, ("endian", 'sample units: ""\nendian')), ()),
    ("nrrd", changed(NRRD, ("space origin", "#space origin")), (NO_PLACE,)),
    ("nrrd", spaced("spacings: 0.7 0.9 1.25\n"), (NO_AXES, NO_PLACE)),
    ("nrrd", spaced("spacings: 0.7 0.9 1.25\naxis mins: 1 2 3\n"), (NO_AXES,)),
    ("nrrd", spaced("spacings: 0.7 0.9 1.25\naxis mins: 1 2 3\ncenters: node cell node\n"), (NO_AXES,)),
    ("nrrd", changed(NRRD, ("space: right-anterior-superior", "space: scanner-xyz")), (NO_AXES,)),
    ("nrrd", changed(NRRD, ("space: right-anterior-superior", "space: 3D-right-handed")), (NO_AXES,)),
    ("nrrd", changed(NRRD, ("space: right-anterior-superior", "space: 3D-left-handed")), (NO_AXES,)),
    ("nrrd", changed(NRRD, ("space: right-anterior-superior", "space dimension: 3")), (NO_AXES,)),
    ("nrrd", changed(NRRD, ("right-anterior-superior", "LAS")), ()),
    ("mha", changed(META, (OFFSET, "")), (NO_PLACE,)),
    ("mha", changed(META, ("Offset", "ImagePosition")), ()),
    ("mha", changed(META, ("Offset", "Position")), ()),
    ("mha", changed(META, (MATRIX, "")), (NO_AXES,)),
    ("mha", changed(META, (MATRIX, "AnatomicalOrientation = RAI\n")), ()),
    (
        "mha",
        changed(META, (MATRIX, "AnatomicalOrientation = LPI\n")),
        ("only by AnatomicalOrientation = LPI",),
    ),
    ("mha", changed(META, (MATRIX, b"AnatomicalOrientation = LPI\n" + MATRIX)), ()),
    ("mha", changed(META, ("BinaryDataByteOrderMSB = False\n", "")), ("in which order the bytes",)),
    ("mha", changed(META, ("MSB = False", "MSB = 0\nElementByteOrderMSB = false")), ()),
    ("mha", changed(META, ("ElementSpacing", "ElementSize = 1 1 1\nElementSpacing")), ()),
    ("mha", changed(META, ("ElementSpacing", "ElementSize")), ()),
    ("mha", changed(META, ("ElementType", "my own = word\nMODALITY = any\nElementType")), ()),
]


@pytest.mark.parametrize(("suffix", "content", "remarks"), READ)
def test_what_is_stated_in_another_way_is_read_as_itk_does(
    tmp_path: Path, suffix: str, content: bytes, remarks: tuple[str, ...]
) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(content)
    volume = read_volume(tmp_path / f"a.{suffix}")
    assert np.allclose(volume.affine, by_itk(tmp_path / f"a.{suffix}").affine)
    assert np.array_equal(volume.array, random_hu())
    assert len(volume.source.remarks) == len(remarks)
    assert all(said in remark for said, remark in zip(remarks, volume.source.remarks, strict=True))


class TestAFourthAxisOfLengthOne:
    LISTS = (
        (VECTORS + b" none", "6 5 4 1", "domain domain domain list"),
        (VECTORS + b" none", "6 5 4 1", "domain domain domain time"),
        (VECTORS + b" none", "6 5 4 1", ""),
        (b"none " + VECTORS, "1 6 5 4", "list domain domain domain"),
        (b"none " + VECTORS, "1 6 5 4", "vector space space space"),
    )

    @pytest.mark.parametrize(("vectors", "sizes", "kinds"), LISTS)
    def test_of_a_nrrd(self, tmp_path: Path, vectors: bytes, sizes: str, kinds: str) -> None:
        (tmp_path / "a.nrrd").write_bytes(in_a_list(vectors, sizes, kinds))
        volume = read_volume(tmp_path / "a.nrrd")
        assert np.array_equal(volume.array, random_hu())
        assert np.allclose(volume.affine, STRAIGHT)

    @pytest.mark.parametrize("affine", [STRAIGHT, TURNED], ids=["straight", "oblique"])
    def test_of_a_metaimage(self, tmp_path: Path, affine: np.ndarray) -> None:
        plain = itk_image(random_hu(), affine)
        image = sitk.JoinSeries([plain])
        sitk.WriteImage(image, str(tmp_path / "a.mha"))
        volume = read_volume(tmp_path / "a.mha")
        assert np.array_equal(volume.array, random_hu())
        assert np.allclose(volume.affine, affine)

    def test_with_a_place_in_a_space_of_four(self, tmp_path: Path) -> None:
        sitk.WriteImage(sitk.JoinSeries([itk_image(random_hu(), STRAIGHT)]), str(tmp_path / "a.nrrd"))
        with pytest.raises(NotACT, match=r"^a.nrrd: .*one volume in a list of one: save it as a 3-D volume"):
            read_volume(tmp_path / "a.nrrd")

    def test_longer_ones_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(in_a_list(VECTORS + b" none", "6 5 4 2", ""))
        with pytest.raises(NotACT, match=r"4-D .6 x 5 x 4 x 2.; pick one time point"):
            read_volume(tmp_path / "a.nrrd")

    def test_one_that_leans_is_refused(self, tmp_path: Path) -> None:
        lean = [1, 0, 0, 0.1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        four = changed(
            META, ("NDims = 3", "NDims = 4"), ("6 5 4", "6 5 4 1"), ("0.7 0.9 1.25", "0.7 0.9 1.25 1"),
            (OFFSET, "Offset = 1 2 3 0\n"), (MATRIX, f"TransformMatrix = {' '.join(map(str, lean))}\n"),
        )  # fmt: skip
        (tmp_path / "a.mha").write_bytes(four)
        with pytest.raises(DamagedFile, match=r"mixes a fourth axis|not of length 1"):
            read_volume(tmp_path / "a.mha")
