"""What NRRD and MetaImage headers say that ITK reads past without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT
from lesionbrush.io import read_volume
from volume_fixtures import OBLIQUE, affine_of, by_itk, metaimage, nrrd, random_hu

SPACING_MM = (0.7, 0.9, 1.25)
STRAIGHT, TURNED = affine_of(np.eye(3), SPACING_MM), affine_of(OBLIQUE, SPACING_MM)


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
