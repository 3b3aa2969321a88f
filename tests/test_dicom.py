"""A folder of DICOM slices: where its voxels are, what they hold, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import AXIAL, Edit, Series, write_series
from lesionbrush.errors import DamagedFile, LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.files.io import read_dicom_series, read_volume
from pydicom.dataset import Dataset

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture
def series() -> Series:
    return Series(np.random.default_rng(0).integers(-1000, 2000, (7, 6, 5)))


def assign(**values: object) -> Edit:
    """An edit that sets tags of the middle slice."""
    return lambda k, header: header.update(values) if k == 2 else None


def shift(sideways_mm: Callable[[int], float], along_mm: Callable[[int], float] = lambda k: 0.0) -> Edit:
    """An edit that moves slice k of an axial series."""

    def edit(k: int, header: Dataset) -> None:
        x, y, z = header.ImagePositionPatient
        header.ImagePositionPatient = [x, y + sideways_mm(k), z + along_mm(k)]

    return edit


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, SAGITTAL], ids=["axial", "oblique", "sagittal"])
@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 5.0), (0.7, 0.9, 1.25)], ids=str)
def test_voxels_are_where_the_standard_says(tmp_path: Path, series: Series, orientation, spacing_mm) -> None:
    series = replace(series, orientation=orientation, spacing_mm=spacing_mm)
    write_series(tmp_path, series)
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, series.hu)
    assert volume.spacing_mm == pytest.approx(spacing_mm)
    for index in [(0, 0, 0), (6, 0, 0), (0, 5, 0), (3, 4, 4)]:
        ras = volume.affine @ [*index, 1]
        assert ras[:3] * [-1, -1, 1] == pytest.approx(series.world_mm(*index))


def test_itk_reads_the_same_series_the_same_way(tmp_path: Path, series: Series) -> None:
    paths = write_series(tmp_path, replace(series, orientation=OBLIQUE))
    image = sitk.ReadImage([str(path) for path in paths])
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    lps = image.TransformIndexToPhysicalPoint((3, 4, 2))
    assert (volume.affine @ [3, 4, 2, 1])[:3] * [-1, -1, 1] == pytest.approx(lps)


@pytest.mark.parametrize("names", [["4", "3", "2", "1", "0"], ["b.dcm", "e.IMA", "a", "x1.2.840", "c.dcm"]])
def test_slices_are_sorted_by_position_not_by_name(tmp_path: Path, series: Series, names: list[str]) -> None:
    write_series(tmp_path, replace(series, names=names))
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


@pytest.mark.parametrize(
    ("slope", "intercept", "signed"),
    [(1, -1024, False), (1, 0, True), (0.5, -1024, False), (1.0, -8192.0, True)],
)
def test_stored_values_become_hu(tmp_path: Path, series: Series, slope, intercept, signed) -> None:
    write_series(tmp_path, replace(series, slope=slope, intercept=intercept, signed=signed))
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


def test_each_slice_has_its_own_rescale(tmp_path: Path, series: Series) -> None:
    series = replace(series, hu=series.hu // 6 * 6 - 1024 % 6, slope=[1, 2, 0.5, 3, 1])
    write_series(tmp_path, series)
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


def test_fractional_rescale_is_rounded_to_whole_hu(tmp_path: Path, series: Series) -> None:
    paths = write_series(tmp_path, replace(series, slope=0.37))
    stored = np.stack([pydicom.dcmread(path).pixel_array.T for path in paths], axis=-1)
    assert np.array_equal(read_volume(tmp_path).array, np.rint(stored * 0.37 - 1024))


def test_twelve_signed_bits_keep_their_sign(tmp_path: Path, series: Series) -> None:
    def to_12_bits(k: int, header: Dataset) -> None:
        header.BitsStored, header.HighBit = 12, 11
        header.PixelData = (np.frombuffer(header.PixelData, "<u2") & 0xFFF).tobytes()

    write_series(tmp_path, replace(series, intercept=0, signed=True, edit=to_12_bits))
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


@pytest.mark.filterwarnings("ignore:The SOP Class 'Media Storage Directory Storage'")
def test_other_files_are_passed_over(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path, series)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "empty").touch()
    write_series(tmp_path / "sub", Series(series.hu))
    report = pydicom.dcmread(tmp_path / "slice000.dcm")
    report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    report.save_as(tmp_path / "DICOMDIR")
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


def test_one_slice_takes_its_thickness_as_spacing(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path, replace(series, hu=series.hu[:, :, :1]))
    assert read_volume(tmp_path).spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_small_jitter_of_positions_is_accepted(tmp_path: Path, series: Series) -> None:
    jitter = shift(lambda k: 0.03 * (k % 2), lambda k: 0.02 * (k % 2))
    write_series(tmp_path, replace(series, edit=jitter))
    assert read_volume(tmp_path).spacing_mm[2] == pytest.approx(2.5, abs=0.01)


def red_green_blue(k: int, header: Dataset) -> None:
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, "RGB"


REFUSED = {
    "tilt": (shift(lambda k: 0.5 * k), UnsupportedSeries, "2.00 mm, as with a gantry tilt of 11.3 degrees"),
    "small tilt": (shift(lambda k: 0.03 * k), UnsupportedSeries, "sideways by up to 0.12 mm"),
    "one slice aside": (shift(lambda k: 0.3 * (k == 2)), UnsupportedSeries, "sideways by up to 0.30 mm"),
    "uneven": (
        shift(lambda k: 0, lambda k: 0.2 * (k == 2)),
        UnsupportedSeries,
        r"usually 2.5 mm apart, but not from 42.50 to 45.20, 45.20 to 47.50 mm",
    ),
    "double": (
        shift(lambda k: 0, lambda k: -2.5 * (k == 2)),
        UnsupportedSeries,
        r"1 slice positions are taken twice \(at 42.50 mm",
    ),
    "several series": (
        assign(SeriesInstanceUID="1.2.3", Modality="SEG"),
        UnsupportedSeries,
        r"2 series \(4 CT images, 1 SEG images\)",
    ),
    "modality": (assign(Modality="MR"), NotACT, "modality MR, a CT is needed"),
    "colour": (red_green_blue, UnsupportedSeries, r"slice000.dcm is a colour image \(3 samples"),
    "frames": (assign(NumberOfFrames=12), UnsupportedSeries, "slice002.dcm holds 12 frames in one file"),
    "rows": (assign(Rows=5), UnsupportedSeries, "Rows differs between slices: 6 in slice000.dcm, 5"),
    "columns": (assign(Columns=3), UnsupportedSeries, "Columns differs between slices: 7 in .*, 3 in"),
    "pixel spacing": (
        assign(PixelSpacing=[0.8, 0.71]),
        UnsupportedSeries,
        "PixelSpacing differs between slices: 0.8 x 0.7 in .*, 0.8 x 0.71 in slice002.dcm",
    ),
    "orientation": (
        assign(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        UnsupportedSeries,
        "ImageOrientationPatient differs between slices",
    ),
    "no position": (
        assign(ImagePositionPatient=None),
        UnsupportedSeries,
        "slice002.dcm has no usable ImagePositionPatient",
    ),
    "wide values": (assign(RescaleSlope=200), NotACT, "slice002.dcm holds values from .* beyond 16-bit HU"),
}


@pytest.mark.parametrize(("edit", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_refused(
    tmp_path: Path, series: Series, edit: Edit, error: type[LesionBrushError], text: str
) -> None:
    write_series(tmp_path, replace(series, edit=edit))
    with pytest.raises(error, match=text):
        read_volume(tmp_path)


def test_a_drifting_spacing_is_refused(tmp_path: Path) -> None:
    drift = shift(lambda k: 0, lambda k: 0.04 * abs(k - 10))
    write_series(tmp_path, Series(np.zeros((2, 2, 21)), spacing_mm=(1, 1, 1), edit=drift))
    with pytest.raises(UnsupportedSeries, match=r"from 0.96 to 1.04 mm apart, 0.40 mm off a regular grid"):
        read_volume(tmp_path)


def test_a_missing_slice_is_named_by_its_gap(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path, series)[2].unlink()
    with pytest.raises(UnsupportedSeries, match=r"not from 42.50 to 47.50 mm .*slices may be missing"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "no pair of perpendicular unit vectors"),
        ({"PixelSpacing": [0.8, 0]}, "voxel spacing is 0 x 0.8 x 2.5 mm: it must be positive"),
        ({"SliceThickness": None}, "slice000.dcm has no usable SliceThickness"),
        ({"PixelSpacing": None}, "slice000.dcm has no usable PixelSpacing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_slice_without_geometry_is_refused(tmp_path: Path, series: Series, values, text: str) -> None:
    edit: Edit = lambda k, header: header.update(values)  # noqa: E731
    write_series(tmp_path, replace(series, hu=series.hu[:, :, :1], edit=edit))
    with pytest.raises(UnsupportedSeries, match=text):
        read_volume(tmp_path)


@pytest.mark.parametrize("cut", [1, 84, 390])
def test_a_truncated_slice_is_damage(tmp_path: Path, series: Series, cut: int) -> None:
    path = write_series(tmp_path, series)[2]
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedFile, match=r"^slice002.dcm"):
        read_volume(tmp_path)


@pytest.mark.parametrize("length", [0, 50, 100, 140, 200, 300])
def test_a_slice_cut_short_is_never_passed_over(tmp_path: Path, series: Series, length: int) -> None:
    path = write_series(tmp_path, series)[-1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedFile, match=r"^slice004.dcm"):
        read_volume(tmp_path)


def test_a_folder_without_images_says_so_without_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^Jane" / "study"
    folder.mkdir(parents=True)
    (folder / "readme.txt").touch()
    with pytest.raises(DamagedFile, match=r"^study: no DICOM image in this folder \(1 other files\)$"):
        read_dicom_series(folder)


def test_the_files_may_go_once_read(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path / "series", series)
    volume = read_volume(tmp_path / "series")
    shutil.rmtree(tmp_path / "series")
    assert np.array_equal(volume.array, series.hu)


class TestRoundedPositions:
    """A slice is where the header says, to the digits it has."""

    @staticmethod
    def rounded(digits: int, spacing_mm: float, start_mm: float = 0.037) -> Edit:
        def edit(k: int, header: Dataset) -> None:
            x, y, _ = header.ImagePositionPatient
            header.ImagePositionPatient = [x, y, round(start_mm + k * spacing_mm, digits)]

        return edit

    @pytest.mark.parametrize("spacing_mm", [0.625, 0.75, 1.25, 0.7, 3.3333])
    def test_to_a_tenth_of_a_mm(self, tmp_path: Path, spacing_mm: float) -> None:
        hu = np.random.default_rng(1).integers(-1000, 2000, (4, 3, 40))
        write_series(tmp_path, Series(hu, edit=self.rounded(1, spacing_mm)))
        volume = read_volume(tmp_path)
        assert np.array_equal(volume.array, hu)
        true_mm = 0.037 + spacing_mm * np.arange(40)
        found_mm = (volume.affine @ [[0] * 40, [0] * 40, np.arange(40), [1] * 40])[2]
        assert np.abs(found_mm - true_mm).max() < 0.1

    def test_to_a_mm_is_too_coarse(self, tmp_path: Path) -> None:
        write_series(tmp_path, Series(np.zeros((4, 3, 40)), edit=self.rounded(0, 1.25)))
        with pytest.raises(UnsupportedSeries, match="not evenly spaced"):
            read_volume(tmp_path)

    @pytest.mark.parametrize("spacing_mm", [0.2, 0.625, 1.25, 5.0])
    @pytest.mark.parametrize("gone", [1, 20, 38])
    def test_a_missing_slice_is_seen_all_the_same(self, tmp_path: Path, spacing_mm: float, gone: int) -> None:
        paths = write_series(tmp_path, Series(np.zeros((4, 3, 40)), edit=self.rounded(2, spacing_mm)))
        paths[gone].unlink()
        with pytest.raises(UnsupportedSeries, match="slices may be missing"):
            read_volume(tmp_path)
