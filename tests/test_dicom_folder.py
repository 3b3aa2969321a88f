"""Which files of a folder are the series: by what they hold, with everything counted that is not used."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_fixtures import Edit, Series, write_series
from dicom_kit import missing
from lesionbrush.errors import DamagedFile, InvalidRequest, LesionBrushError, NotACT, UnsupportedSeries
from lesionbrush.files.dicom import contents as contents_module
from lesionbrush.files.dicom import read_slices
from lesionbrush.files.io import read_volume
from pydicom.dataset import Dataset

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(200)
DS_STORE = b"\x00\x00\x00\x01Bud1" + bytes(100)


@pytest.fixture
def series() -> Series:
    return Series(np.random.default_rng(0).integers(-1000, 2000, (7, 6, 5)))


def remarks(folder: Path) -> str:
    return "; ".join(read_volume(folder).source.remarks)


def numbered(pattern: str) -> list[str]:
    return [pattern.format(k + 1) for k in range(5)]


def without_preamble(path: Path) -> None:
    """The bare data set, as old archives have it."""
    header = pydicom.dcmread(path)
    header.preamble, header.file_meta = None, None
    header.save_as(path, write_like_original=True)


NAMES = {
    "dcm": "{}.dcm", "none": "IM{:06d}", "a UID": "1.2.840.113619.2.55.{}", "a wrong one": "slice{}.txt",
    "capitals": "IM{}.DCM", "hidden": ".{}", "macOS": "._{}.dcm",
}  # fmt: skip


@pytest.mark.parametrize("pattern", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("change", [None, without_preamble], ids=["preamble", "none"])
def test_no_name_makes_an_image_or_hides_one(
    tmp_path: Path, series: Series, pattern: str, change: Callable[[Path], None] | None
) -> None:
    for path in write_series(tmp_path, replace(series, names=numbered(pattern))):
        if change is not None:
            change(path)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, series.hu)
    assert volume.source.remarks == ()


@pytest.mark.parametrize("syntax", ["+ti", "+te", "+tb"])
def test_without_a_preamble_the_encoding_is_seen(tmp_path: Path, series: Series, syntax: str) -> None:
    if shutil.which("dcmconv") is None:
        missing("dcmconv (dcmtk)")
    for path in write_series(tmp_path / "a", series):
        (tmp_path / "b").mkdir(exist_ok=True)
        command = ["dcmconv", "-F", syntax, str(path), str(tmp_path / "b" / path.name)]
        subprocess.run(command, check=True, capture_output=True)
    assert np.array_equal(read_volume(tmp_path / "b").array, series.hu)
    assert not (tmp_path / "b" / "slice000.dcm").read_bytes()[128:].startswith(b"DICM")


def test_what_is_not_used_is_counted(tmp_path: Path, series: Series) -> None:
    paths = write_series(tmp_path, series)
    for name, content in {
        "notes.txt": b"words", "empty": b"", "._slice000.dcm": APPLE_DOUBLE, ".DS_Store": DS_STORE,
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    shutil.copy(paths[0], tmp_path / "slice000 copy.dcm")
    report = pydicom.dcmread(paths[1])
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    report.save_as(tmp_path / "report.dcm")
    assert np.array_equal(read_volume(tmp_path).array, series.hu)
    assert remarks(tmp_path) == (
        "5 files of its folder were used, 6 were not (DICOM objects without an image: 1, copies of slices: "
        "1, empty files: 1, files of macOS (._*, .DS_Store): 2, other files: 1)"
    )


class TestLostSlices:
    """A file that may have been a slice stops the work."""

    @pytest.mark.parametrize("content", [b"", bytes(100), b"not DICOM"], ids=["empty", "zeros", "words"])
    @pytest.mark.parametrize("pattern", ["IM{:06d}", "{}.dcm", "{}", "1.2.840.{}.5"])
    @pytest.mark.parametrize("k", [0, 2, 4])
    def test_named_as_the_slices_are(
        self, tmp_path: Path, series: Series, pattern: str, content: bytes, k: int
    ) -> None:
        path = write_series(tmp_path, replace(series, names=numbered(pattern)))[k]
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=rf"^{path.name} is named like a DICOM file and is none"):
            read_volume(tmp_path)

    @pytest.mark.parametrize("k", [0, 4])
    @pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.95, 0.999])
    @pytest.mark.parametrize("bare", [False, True])
    def test_truncated(self, tmp_path: Path, series: Series, k: int, kept: float, bare: bool) -> None:
        path = write_series(tmp_path, replace(series, names=numbered("IM{}")))[k]
        if bare:
            without_preamble(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(LesionBrushError, match=rf"{path.name}"):
            read_volume(tmp_path)


class TestMissingSlices:
    """Positions show a gap in the middle; what shows one at an end is said."""

    def test_at_the_end_by_the_number_of_instances(self, tmp_path: Path, series: Series) -> None:
        def edit(k: int, header: Dataset) -> None:
            header.NumberOfSeriesRelatedInstances = 6

        write_series(tmp_path, replace(series, edit=edit))
        assert remarks(tmp_path) == "the series has 6 images by its own tags, 5 are here"

    def test_at_the_start_by_instance_number(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)[0].unlink()
        assert "InstanceNumber begins at 2: slices may be missing, at an end" in remarks(tmp_path)

    def test_by_a_number_that_is_left_out(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, replace(series, edit=numbers(1, 2, 4, 5, 6)))
        assert (
            remarks(tmp_path)
            == "InstanceNumber leaves out 3: slices may be missing, at an end of this CT too"
        )

    @pytest.mark.parametrize("own", [(5, 4, 3, 2, 1), (0, 1, 2, 3, 4)], ids=str)
    def test_numbers_that_say_nothing(self, tmp_path: Path, series: Series, own: tuple[int, ...]) -> None:
        write_series(tmp_path, replace(series, edit=numbers(*own)))
        assert remarks(tmp_path) == ""

    def test_by_a_dicomdir(self, tmp_path: Path, series: Series) -> None:
        write_cd(tmp_path, series)
        assert "the DICOMDIR" not in remarks(tmp_path)
        sorted_by_place = read_slices(tmp_path)
        Path(sorted_by_place[-1].filename).unlink()
        assert "the DICOMDIR lists 1 images of this series that are not here" in remarks(tmp_path)


def numbers(*own: int) -> Edit:
    return lambda k, header: setattr(header, "InstanceNumber", own[k])


def write_cd(folder: Path, series: Series) -> None:
    """A DICOMDIR and files without suffix in sub-folders, as dcmtk makes them."""
    if shutil.which("dcmmkdir") is None:
        missing("dcmmkdir (dcmtk)")

    def edit(k: int, header: Dataset) -> None:
        header.PatientID, header.PatientName, header.StudyInstanceUID, header.StudyID = (
            "P1",
            "A^B",
            "1.2.9",
            "1",
        )
        header.StudyDate, header.StudyTime, header.AccessionNumber = "20200101", "101010", "A"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]

    names = numbered("IM{:06d}")
    write_series(folder / "DICOM" / "S0001", replace(series, names=names, edit=edit))
    files = [f"DICOM/S0001/{name}" for name in names]
    subprocess.run(["dcmmkdir", "+m", *files], check=True, capture_output=True, cwd=folder)


class TestSubFolders:
    def test_a_cd(self, tmp_path: Path, series: Series) -> None:
        write_cd(tmp_path, series)
        assert np.array_equal(read_volume(tmp_path).array, series.hu)
        assert remarks(tmp_path) == "5 files of its folder were used, 1 were not (DICOMDIR: 1)"

    def test_a_series_in_several_folders(self, tmp_path: Path, series: Series) -> None:
        for k, path in enumerate(write_series(tmp_path, series)):
            (tmp_path / f"{k}").mkdir()
            path.rename(tmp_path / f"{k}" / "IM1")
        assert np.array_equal(read_volume(tmp_path).array, series.hu)

    def test_the_rest_of_a_series_below_it(self, tmp_path: Path, series: Series) -> None:
        """Else the last slice would be gone without a word."""
        path = write_series(tmp_path, series)[-1]
        (tmp_path / "more").mkdir()
        path.rename(tmp_path / "more" / path.name)
        assert np.array_equal(read_volume(tmp_path).array, series.hu)

    def test_other_series_below_it(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)
        write_series(tmp_path / "b", Series(series.hu))
        assert np.array_equal(read_volume(tmp_path).array, series.hu)
        assert "images of other series in sub-folders: 5" in remarks(tmp_path)

    def test_several_series_and_none_here(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path / "S1", series)
        name: Edit = lambda k, header: header.update({"SeriesDescription": "Thorax 1.0 B70f"})  # noqa: E731
        write_series(tmp_path / "x" / "S2", Series(series.hu, edit=name))
        with pytest.raises(UnsupportedSeries) as caught:
            read_volume(tmp_path)
        assert str(caught.value) == (
            "the folder holds 2 series (5 CT images, 5 CT images): keep one in it, or name the folder of "
            "one: S1 (no description); x/S2 (Thorax 1.0 B70f)"
        )

    def test_too_many_files(self, tmp_path: Path, series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
        write_series(tmp_path, series)
        monkeypatch.setattr(contents_module, "MOST_FILES", 4)
        with pytest.raises(InvalidRequest, match="holds more than 4 files: name the folder of one series"):
            read_volume(tmp_path)


class TestDoubles:
    def test_copies_are_used_once(self, tmp_path: Path, series: Series) -> None:
        for path in write_series(tmp_path, series):
            (tmp_path / "copy").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "copy" / path.name)
        assert np.array_equal(read_volume(tmp_path).array, series.hu)
        assert "copies of slices: 5" in remarks(tmp_path)

    def test_a_copy_may_be_stored_in_another_way(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)
        write_series(tmp_path / "b", replace(series, signed=True, intercept=0))
        assert np.array_equal(read_volume(tmp_path).array, series.hu)

    def test_another_image_at_one_place(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)
        other = series.hu.copy()
        other[3, 3, 2] += 1
        write_series(tmp_path / "b", replace(series, hu=other))
        with pytest.raises(
            UnsupportedSeries, match=r"1 slice positions are taken twice .at 45.00 mm.* by different"
        ):
            read_volume(tmp_path)


class TestLocalizers:
    @staticmethod
    def scout(**changes: object) -> Edit:
        def edit(k: int, header: Dataset) -> None:
            header.update({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "InstanceNumber": 6, **changes})

        return edit

    def test_in_the_series(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)
        orientation = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
        scout = Series(series.hu[:, :, :1], orientation=orientation, edit=self.scout(), names=["scout"])
        write_series(tmp_path, replace(scout, uid=series.uid))
        assert np.array_equal(read_volume(tmp_path).array, series.hu)
        assert remarks(tmp_path) == "5 files of its folder were used, 1 were not (localizer images: 1)"

    def test_beside_the_series(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, series)
        write_series(tmp_path, Series(series.hu[:, :, :1], edit=self.scout(), names=["scout"]))
        assert np.array_equal(read_volume(tmp_path).array, series.hu)

    def test_alone(self, tmp_path: Path, series: Series) -> None:
        write_series(tmp_path, replace(series, edit=self.scout()))
        with pytest.raises(NotACT, match=r"holds 5 localizer images .scout views. and no slices of a CT"):
            read_volume(tmp_path)
