"""NRRD and MetaImage as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.errors import DamagedFile, NotACT
from lesionbrush.files.io import read_volume
from volume_fixtures import affine_of, itk_image, nrrd, random_hu

STRAIGHT = affine_of(np.eye(3), (0.7, 0.9, 1.25))


class TestHabitsOfWriters:
    """Sound files that other programs write."""

    @pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
    def test_names_beyond_ascii(self, tmp_path: Path, suffix: str) -> None:
        sitk.WriteImage(itk_image(random_hu(), STRAIGHT), str(tmp_path / f"M\u00fcller{suffix}"))
        assert np.array_equal(read_volume(tmp_path / f"M\u00fcller{suffix}").array, random_hu())

    def test_a_missing_raw_file_is_said_to_be_missing(self, tmp_path: Path) -> None:
        sitk.WriteImage(itk_image(random_hu(), STRAIGHT), str(tmp_path / "a.mhd"))
        (tmp_path / "a.raw").unlink()
        with pytest.raises(DamagedFile, match=r"in another file \('a.raw'\), which is not beside it"):
            read_volume(tmp_path / "a.mhd")

    @pytest.mark.parametrize("key", ["orientation", "origin", "offset", "dimsize", "DICOM:0008"])
    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_notes_of_somebody(self, tmp_path: Path, suffix: str, key: str) -> None:
        image = itk_image(random_hu(), STRAIGHT)
        for name in (key, "DICOM:0010" if suffix == ".nrrd" else "note"):
            image.SetMetaData(name, "axial")
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        volume = read_volume(tmp_path / f"a{suffix}")
        assert np.array_equal(volume.array, random_hu())
        assert np.allclose(volume.affine, STRAIGHT)

    def test_what_is_unset_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(nrrd(STRAIGHT, "old min: nan\nold max: nan\nsample units: none\n"))
        assert np.array_equal(read_volume(tmp_path / "a.nrrd").array, random_hu())

    def test_time_points_are_no_segments(self, tmp_path: Path) -> None:
        fields = [
            "NRRD0004", "type: short", "dimension: 4", "space: LPS", "sizes: 3 6 5 4", "encoding: raw",
            "endian: little", "space directions: none (1,0,0) (0,1,0) (0,0,1)", "space origin: (0,0,0)",
            "kinds: list domain domain domain", "", "",
        ]  # fmt: skip
        (tmp_path / "a.seq.nrrd").write_bytes("\n".join(fields).encode() + bytes(720))
        with pytest.raises(NotACT, match="a list of 3 volumes, as time points, or layers of a segmentation"):
            read_volume(tmp_path / "a.seq.nrrd")
