"""Files that are no volume, are damaged, or point elsewhere: each is refused with its name and the reason."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import Series, write_series
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, InvalidRequest, NotACT
from lesionbrush.files.io import read_volume, write_volume
from volume_fixtures import (
    SUFFIXES,
    itk_image,
    random_hu,
    write_foreign,
)


class TestNoVolume:
    def test_a_fourth_axis_of_one_is_dropped(self, tmp_path: Path) -> None:
        write_foreign(tmp_path / "in.nii", random_hu()[..., None], np.eye(4))
        assert read_volume(tmp_path / "in.nii").shape == (6, 5, 4)

    @pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize(
        ("shape", "text"),
        [((6, 5, 4, 3), r"4-D \(6 x 5 x 4 x 3\); pick one time point"), ((6, 5), r"2-D \(6 x 5\)")],
    )
    def test_other_dimensions(self, tmp_path: Path, suffix: str, shape: tuple[int, ...], text: str) -> None:
        array = np.zeros(shape, np.int16)
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T), isVector=False)
        sitk.WriteImage(image, str(tmp_path / f"in{suffix}"))
        with pytest.raises(NotACT, match=text):
            read_volume(tmp_path / f"in{suffix}")

    @pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
    def test_colour(self, tmp_path: Path, suffix: str) -> None:
        image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
        sitk.WriteImage(image, str(tmp_path / f"in{suffix}"))
        with pytest.raises(NotACT, match=r"3 values per voxel|5-D"):
            read_volume(tmp_path / f"in{suffix}")

    def test_rgb_nifti(self, tmp_path: Path) -> None:
        rgb = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.Nifti1Image(rgb, np.eye(4)).to_filename(tmp_path / "in.nii")
        with pytest.raises(NotACT, match="3 values per voxel"):
            read_volume(tmp_path / "in.nii")


def assert_damaged(path: Path, text: str = ".") -> None:
    with pytest.raises(DamagedFile, match=text) as caught:
        read_volume(path)
    assert str(caught.value).startswith(path.name)
    assert path.parent.name not in str(caught.value)


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    return folder


class TestDamage:
    @pytest.mark.parametrize("kept", [0, 1, 40, 0.5, 0.99])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "z.nrrd", "a.mha", "z.mha"])
    def test_a_truncated_file(self, patient: Path, name: str, kept: float) -> None:
        path = patient / name
        if name[0] == "z" or ".nii" in name:
            write_foreign(path, random_hu(), np.eye(4))
        else:
            write_volume(Volume(random_hu(), np.eye(4)), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
        assert_damaged(path)

    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
    def test_a_flipped_bit_in_compressed_voxels(self, patient: Path, name: str) -> None:
        write_foreign(patient / name, random_hu(), np.eye(4))
        whole = bytearray((patient / name).read_bytes())
        whole[-40] ^= 0x10
        (patient / name).write_bytes(whole)
        assert_damaged(patient / name)

    @pytest.mark.parametrize(
        ("real", "named"),
        [(".nii", ".nii.gz"), (".nii.gz", ".nii"), (".nrrd", ".mha"), (".mha", ".nrrd"), (".mha", ".nii")],
    )
    def test_a_misnamed_file(self, patient: Path, real: str, named: str) -> None:
        write_foreign(patient / f"real{real}", random_hu(), np.eye(4))
        shutil.copy(patient / f"real{real}", patient / f"named{named}")
        assert_damaged(patient / f"named{named}", "damaged or misnamed")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_any_bytes(self, patient: Path, suffix: str) -> None:
        (patient / f"in{suffix}").write_bytes(np.random.default_rng(0).bytes(4000))
        assert_damaged(patient / f"in{suffix}")

    def test_a_missing_file_and_an_unknown_suffix(self, patient: Path) -> None:
        assert_damaged(patient / "none.nii", "no such file")
        (patient / "slide.png").touch()
        assert_damaged(patient / "slide.png", r"unknown file type. Known are .nii.gz, .nii, .nrrd")

    @pytest.mark.parametrize("name", ["IM0001.dcm", "IM0001", "mask.nii.gz"])
    def test_a_slice_instead_of_its_folder(self, patient: Path, name: str) -> None:
        (path,) = write_series(patient, Series(random_hu()[:, :, :1], names=[name]))
        assert_damaged(path, f"{name} is a single DICOM file: name the folder of its series")

    def test_capital_suffixes_are_known(self, patient: Path) -> None:
        write_foreign(patient / "in.nrrd", random_hu(), np.eye(4))
        shutil.copy(patient / "in.nrrd", patient / "IN2.NRRD")
        assert np.array_equal(read_volume(patient / "IN2.NRRD").array, random_hu())
        write_volume(read_volume(patient / "IN2.NRRD"), patient / "OUT.NII.GZ")
        assert np.array_equal(read_volume(patient / "OUT.NII.GZ").array, random_hu())

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_header_that_promises_too_much_takes_no_memory(self, patient: Path, suffix: str) -> None:
        huge = (20000, 20000, 20000)
        path = patient / f"in{suffix}"
        if ".nii" in suffix:
            header = nib.Nifti1Header()
            header.set_data_shape(huge)
            header.set_data_offset(352)
            opener = gzip.open if suffix == ".nii.gz" else open
            with opener(path, "wb") as stream:
                stream.write(header.binaryblock.replace(b"ni1", b"n+1") + bytes(100))
        else:
            write_volume(Volume(random_hu(), np.eye(4)), path)
            path.write_bytes(path.read_bytes().replace(b"6 5 4", b"%d %d %d" % huge))
        assert_damaged(path, "promises 8000000000000 values")

    @pytest.mark.parametrize("dimensions", [b"83", b"+83", b"", b"0"])
    def test_a_metaimage_that_would_crash_itk(self, patient: Path, dimensions: bytes) -> None:
        write_foreign(patient / "in.mha", random_hu(), np.eye(4))
        whole = (patient / "in.mha").read_bytes()
        (patient / "in.mha").write_bytes(whole.replace(b"NDims = 3", b"NDims = " + dimensions))
        assert_damaged(patient / "in.mha", "NDims")

    @pytest.mark.parametrize("value", [0.0, np.nan])
    def test_a_grid_without_volume(self, patient: Path, value: float) -> None:
        image = nib.Nifti1Image(random_hu(), np.eye(4))
        image.header["srow_x"] = value
        nib.Nifti1Image(random_hu(), None, image.header).to_filename(patient / "in.nii")
        assert_damaged(patient / "in.nii", "no usable geometry")


class TestDetachedHeaders:
    """A header may name the file of its voxels; on a server that must not be just any file."""

    SECRET = b"a secret that is long enough" * 10

    @pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
    def test_a_pair_side_by_side_is_read_but_not_written(self, tmp_path: Path, suffix: str) -> None:
        sitk.WriteImage(itk_image(random_hu(), np.eye(4)), str(tmp_path / f"in{suffix}"))
        volume = read_volume(tmp_path / f"in{suffix}")
        assert np.array_equal(volume.array, random_hu())
        with pytest.raises(InvalidRequest, match=f"{suffix} is a pair of files"):
            write_volume(volume, tmp_path / f"out{suffix}")

    @pytest.mark.parametrize("line", ["data file: {}", "DataFile : {}", "data file:   {}"])
    @pytest.mark.parametrize(
        ("suffix", "where"), [(".nrrd", "{}/secret"), (".nhdr", "{}/secret"), (".nrrd", "secret")]
    )
    def test_an_nrrd_reads_no_other_file(self, patient: Path, line: str, suffix: str, where: str) -> None:
        (patient / "secret").write_bytes(self.SECRET)
        fields = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 2 2 2", "encoding: raw"]
        text = "\n".join([*fields, line.format(where.format(patient)), "", ""])
        (patient / f"in{suffix}").write_text(text, encoding="ascii")
        assert_damaged(patient / f"in{suffix}", "its voxels are in another file")

    @pytest.mark.parametrize("line", ["ElementDataFile = {}", "ElementDataFile: {}"])
    @pytest.mark.parametrize(
        ("suffix", "where"),
        [(".mha", "{}/secret"), (".mhd", "{}/secret"), (".mha", "secret"), (".mhd", "LIST")],
    )
    def test_a_metaimage_reads_no_other_file(self, patient: Path, line: str, suffix: str, where: str) -> None:
        (patient / "secret").write_bytes(self.SECRET)
        fields = ["ObjectType = Image", "NDims = 3", "DimSize = 2 2 2", "ElementType = MET_UCHAR"]
        text = "\n".join([*fields, line.format(where.format(patient)), str(patient / "secret"), ""])
        (patient / f"in{suffix}").write_text(text, encoding="ascii")
        assert_damaged(patient / f"in{suffix}", "its voxels are in another file")

    @pytest.mark.parametrize("name", ["in.nrrd", "in.mha"])
    def test_a_header_too_long_to_be_checked_is_refused(self, patient: Path, name: str) -> None:
        write_foreign(patient / name, random_hu(), np.eye(4))
        first, rest = (patient / name).read_bytes().split(b"\n", 1)
        filler = b"# comment\n" * 110_000 if name == "in.nrrd" else b"Comment = long\n" * 80_000
        (patient / name).write_bytes(first + b"\n" + filler + rest)
        assert_damaged(patient / name, "header")
