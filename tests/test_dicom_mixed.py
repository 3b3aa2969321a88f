"""Series that are not one: several patients, links, folders in the place of files, every second slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_fixtures import Edit, Series, write_series
from lesionbrush.errors import DamagedFile, UnsupportedSeries
from lesionbrush.files.io import read_volume, write_volume
from pydicom.uid import generate_uid
from volume_fixtures import Grid, assert_same_hu_in_space, by_itk


@pytest.fixture
def series() -> Series:
    return Series(np.random.default_rng(0).integers(-1000, 2000, (7, 6, 9)))


def remarks(folder: Path) -> str:
    return "; ".join(read_volume(folder).source.remarks)


def halves(**values: tuple[object, object]) -> Edit:
    return lambda k, header: header.update({name: pair[k > 4] for name, pair in values.items()})


@pytest.mark.parametrize(
    "values",
    [
        {"PatientID": ("1", "2")},
        {"FrameOfReferenceUID": ("1.2", "1.3")},
        {"StudyInstanceUID": ("1.2", "1.3")},
        {"KVP": ("80", "140")},
        {"PatientID": ("1", "")},
        {"PatientName": ("A", "B")},
        {"SeriesNumber": (2, 3)},
        {"PatientPosition": ("HFS", "FFS")},
        {"ConvolutionKernel": ("B30f", "B70f")},
        {"SeriesInstanceUID": ("", ""), "PatientID": ("1", "2")},
    ],
    ids=str,
)
def test_slices_of_two_are_no_series(tmp_path: Path, series: Series, values: dict) -> None:
    write_series(tmp_path, replace(series, edit=halves(**values)))
    with pytest.raises(UnsupportedSeries, match=r"differs between slices, as slice00\d.dcm and slice005.dcm"):
        read_volume(tmp_path)


def test_one_number_in_two_spellings_is_one(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path, replace(series, edit=halves(KVP=("120", "120.0"))))
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


def test_uids_that_were_made_up_for_each_slice_tell_nothing(tmp_path: Path, series: Series) -> None:
    edit: Edit = lambda k, header: header.update({"StudyInstanceUID": generate_uid()})  # noqa: E731
    write_series(tmp_path, replace(series, edit=edit))
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


class TestInThePlaceOfASlice:
    def test_a_link_that_leads_nowhere(self, tmp_path: Path, series: Series) -> None:
        path = write_series(tmp_path, series)[-1]
        path.unlink()
        path.symlink_to(tmp_path / "gone")
        with pytest.raises(DamagedFile, match=r"^slice008.dcm .* it is a link that leads nowhere"):
            read_volume(tmp_path)

    def test_a_folder(self, tmp_path: Path, series: Series) -> None:
        path = write_series(tmp_path, series)[-1]
        path.unlink()
        path.mkdir()
        with pytest.raises(DamagedFile, match=r"^slice008.dcm .* it is a folder"):
            read_volume(tmp_path)

    def test_a_link_to_a_file_is_the_file(self, tmp_path: Path, series: Series) -> None:
        path = write_series(tmp_path / "a", series)[-1]
        path.rename(tmp_path / "b")
        path.symlink_to(tmp_path / "b")
        assert np.array_equal(read_volume(tmp_path / "a").array, series.hu)

    def test_a_link_to_a_folder_is_counted(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path / "a", series)
        (tmp_path / "more").mkdir()
        (tmp_path / "a" / "rest").symlink_to(tmp_path / "more")
        assert remarks(tmp_path / "a") == "9 files of its folder were used, 1 were not (links to folders: 1)"

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_what_may_not_be_read(
        self, tmp_path: Path, series: Series, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The tests may read everything: the system is made to say no."""
        write_series(tmp_path / "a", series)
        if what == "file":
            monkeypatch.setattr(Path, "open", refuse_permission)
        else:
            monkeypatch.setattr("os.scandir", refuse_permission)
        with pytest.raises(DamagedFile, match=r"cannot be read: Permission denied") as caught:
            read_volume(tmp_path / "a")
        assert str(tmp_path) not in str(caught.value)


def refuse_permission(*arguments: object, **more: object) -> None:
    raise PermissionError(13, "Permission denied", str(arguments[0]))


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_damaged_dicomdir_is_no_slice(tmp_path: Path, series: Series, cut: float) -> None:
    paths = write_series(tmp_path, series)
    content = paths[0].read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(content[:200] + content[200 : int(200 + cut * 40)])
    assert np.array_equal(read_volume(tmp_path).array, series.hu)
    assert "damaged DICOMDIR: 1" in remarks(tmp_path)


def test_two_stacks_that_are_counted_alike(tmp_path: Path, series: Series) -> None:
    number: Edit = lambda k, header: setattr(header, "InstanceNumber", k // 2 + 1)  # noqa: E731
    write_series(tmp_path, replace(series, edit=number))
    assert remarks(tmp_path).startswith("InstanceNumber is given to several slices")


def test_a_folder_of_reports_may_be_called_as_slices_are(tmp_path: Path, series: Series) -> None:
    write_series(tmp_path, replace(series, names=[str(k) for k in range(9)]))
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "report.txt").write_text("words")
    assert np.array_equal(read_volume(tmp_path).array, series.hu)


class TestEverySecondSlice:
    @pytest.mark.parametrize("kept", [(0, 2, 4, 6, 8), (0, 4, 8), (0, 8)])
    def test_is_seen_by_thickness_and_number(
        self, tmp_path: Path, series: Series, kept: tuple[int, ...]
    ) -> None:
        for k, path in enumerate(write_series(tmp_path, series)):
            if k not in kept:
                path.unlink()
        said = remarks(tmp_path)
        assert f"slices lie {2.5 * (kept[1] - kept[0]):g} mm apart, SliceThickness is 2.5 mm" in said
        assert "InstanceNumber leaves out 2, " in said

    def test_by_the_spacing_that_is_stated(self, tmp_path: Path, series: Series) -> None:
        edit: Edit = lambda k, header: header.update({"SpacingBetweenSlices": 1.25})  # noqa: E731
        write_series(tmp_path, replace(series, edit=edit))
        assert (
            remarks(tmp_path)
            == "slices lie 2.5 mm apart, SpacingBetweenSlices is 1.25 mm: some may be missing"
        )

    def test_a_gap_that_is_stated_is_none(self, tmp_path: Path, series: Series) -> None:
        edit: Edit = lambda k, header: header.update({"SpacingBetweenSlices": 2.5, "SliceThickness": 0.6})  # noqa: E731
        write_series(tmp_path, replace(series, edit=edit))
        assert remarks(tmp_path) == ""

    @pytest.mark.parametrize("thickness_mm", [2.5, 5.0, 1.7])
    def test_small_gaps_are_usual(self, tmp_path: Path, series: Series, thickness_mm: float) -> None:
        edit: Edit = lambda k, header: header.update({"SliceThickness": thickness_mm})  # noqa: E731
        write_series(tmp_path, replace(series, edit=edit))
        assert remarks(tmp_path) == ""


class TestGrids:
    @pytest.mark.parametrize("step_mm", [0.02, 0.05])
    @pytest.mark.parametrize("alike", [False, True])
    def test_of_a_micro_ct(self, tmp_path: Path, series: Series, step_mm: float, alike: bool) -> None:
        hu = np.repeat(series.hu[:, :, :1], 9, axis=2) if alike else series.hu
        write_series(tmp_path, replace(series, hu=hu, spacing_mm=(0.02, 0.02, step_mm)))
        volume = read_volume(tmp_path)
        assert np.array_equal(volume.array, hu)
        assert volume.spacing_mm[2] == pytest.approx(step_mm)

    @pytest.mark.parametrize("degrees", [0.03, 2.0, 4.0, 31.0])
    def test_cosines_in_three_digits_come_back_from_every_format(
        self, tmp_path: Path, series: Series, degrees: float
    ) -> None:
        c, s = np.round([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 3)
        orientation = (c, s, 0.0, -s * 0.999, c, 0.02)
        first = Series(series.hu, (0.7, 0.7, 2.5), orientation, uid="1.2")
        axes = np.linalg.svd(np.reshape(orientation, (2, 3)), full_matrices=False)
        normal = np.cross(*(axes[0] @ axes[2]))
        edit: Edit = lambda k, header: setattr(  # noqa: E731
            header, "ImagePositionPatient", [round(x, 3) for x in first.first_mm + 2.5 * k * normal]
        )
        write_series(tmp_path / "series", replace(first, edit=edit))
        volume = read_volume(tmp_path / "series")
        for suffix in (".nii.gz", ".nrrd", ".mha"):
            write_volume(volume, tmp_path / f"out{suffix}")
            again = read_volume(tmp_path / f"out{suffix}")
            assert np.allclose(again.affine, volume.affine, atol=1e-4)
            assert_same_hu_in_space(by_itk(tmp_path / f"out{suffix}"), Grid(volume.array, volume.affine))

    @pytest.mark.parametrize(("keyword", "value"), [("PixelSpacing", ["1e-300", "1e-300"]), ("far", 1e300)])
    def test_numbers_that_are_none(self, tmp_path: Path, series: Series, keyword: str, value: object) -> None:
        def edit(k: int, header: pydicom.Dataset) -> None:
            if keyword == "far":
                header.ImagePositionPatient = [0, 0, f"{k}e300"]
            else:
                header.PixelSpacing = value

        write_series(tmp_path, replace(series, edit=edit))
        with pytest.raises((DamagedFile, UnsupportedSeries)):
            read_volume(tmp_path)

    @pytest.mark.parametrize("between", [0, -3])
    def test_one_slice_without_a_distance(self, tmp_path: Path, series: Series, between: float) -> None:
        edit: Edit = lambda k, header: header.update({"SpacingBetweenSlices": between})  # noqa: E731
        write_series(tmp_path, replace(series, hu=series.hu[:, :, :1], edit=edit))
        assert read_volume(tmp_path).spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_numbers_with_a_decimal_comma_say_where_a_slice_lies(tmp_path: Path, series: Series) -> None:
    for path in write_series(tmp_path, series):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"0.8\\0.7 ", b"0,8\\0,7 "))
    volume = read_volume(tmp_path)
    assert volume.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert "PixelSpacing 0,8\\0,7 has decimal commas" in remarks(tmp_path)
