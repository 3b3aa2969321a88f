"""An export compared with its reference, voxel by voxel, by readers that have no part in writing it.

The reference's HU are stored x slope + intercept, from the tags of its files alone.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from cli_kit import Command
from dicom_fixtures import AXIAL, Series, write_series
from dicom_kit import BOX, Case, Hospital, dciodvfy_errors, exported, make_case, put, raw_hu
from highdicom.io import ImageFileReader
from highdicom.seg import segread
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from pydicom.dataset import Dataset

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)
TINY = ("--model", "tiny", "--param", "steps=2")
pytest_plugins = "cli_fixtures"


def files_in(folder: Path) -> list[Path]:
    """The slices, ascending along their normal."""

    def height(path: Path) -> float:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        axes = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        return float(np.cross(*axes) @ np.array(header.ImagePositionPatient, float))

    return sorted(folder.iterdir(), key=height)


def by_pydicom(folder: Path) -> np.ndarray:
    return np.stack([raw_hu(path) for path in files_in(folder)], axis=-1)


def by_itk(folder: Path) -> np.ndarray:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return sitk.GetArrayFromImage(sitk.ReadImage(names)).T


def by_highdicom(folder: Path) -> np.ndarray:
    slices = []
    for path in files_in(folder):
        with ImageFileReader(path) as reader:
            slope, intercept = reader.metadata.RescaleSlope, reader.metadata.RescaleIntercept
            slices.append(reader.read_frame(0, correct_color=False).T * float(slope) + float(intercept))
    return np.stack(slices, axis=-1)


def place_in(folder: Path) -> np.ndarray:
    """(slices, 11): position, orientation, spacing of each, as its tags have them."""
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files_in(folder)]
    return np.array([np.concatenate([np.array(h[k].value, float) for k in keywords]) for h in headers])


def mask_by_pydicom(seg: Dataset, ct: Path) -> np.ndarray:
    """The frames of a SEG on the slices they refer to."""
    uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files_in(ct)]
    mask = np.zeros((seg.Columns, seg.Rows, len(uids)), np.uint8)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        k = uids.index(source)
        mask[:, :, k] = frame.T
        position = pydicom.dcmread(files_in(ct)[k], stop_before_pixels=True).ImagePositionPatient
        assert group.PlanePositionSequence[0].ImagePositionPatient == position
    return mask


def mask_by_highdicom(path: Path, ct: Path) -> np.ndarray:
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files_in(ct)]
    frames = segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    return np.asarray(frames).T


def empty_thickness(k: int, header: Dataset) -> None:
    Hospital(charset="ISO_IR 100").edit(k, header)
    put(header, "SliceThickness", b"")


def faulty(k: int, header: Dataset) -> None:
    put(header, "InstanceNumber", b"14.5")
    put(header, "SpecificCharacterSet", b"ISO_IR 999")
    put(header, "PatientName", b"M\xfcller")
    put(header, "PixelSpacing", b"0.80000000000000000001\\0.70000000000000000001")


SERIES = {
    "axial": {"orientation": AXIAL},
    "oblique": {"orientation": OBLIQUE},
    "slope by slice": {"slope": [1, 2, 1, 0.5, 1, 1]},
    "signed": {"signed": True, "intercept": 0.0},
    "no thickness": {"edit": empty_thickness, "orientation": OBLIQUE},
    "faulty attributes": {"edit": faulty},
}


@pytest.fixture(params=SERIES.values(), ids=SERIES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return make_case(tmp_path / "in", **request.param)


@pytest.mark.parametrize("read", [by_pydicom, by_itk, by_highdicom])
def test_the_ct_is_the_reference_but_for_the_lesion(
    case: Case, tmp_path: Path, read: Callable[[Path], np.ndarray]
) -> None:
    exported(case, tmp_path / "out")
    found, before = read(tmp_path / "out" / "ct"), by_pydicom(case.folder)
    outside = np.ones(before.shape, bool)
    outside[BOX] = False
    assert np.array_equal(found[outside], np.rint(before)[outside])
    assert np.array_equal(found, case.synthetic.array)
    assert np.allclose(place_in(tmp_path / "out" / "ct"), place_in(case.folder), rtol=0, atol=1e-10)


def test_the_seg_is_the_mask(case: Case, tmp_path: Path) -> None:
    exported(case, tmp_path / "out")
    path, ct = tmp_path / "out" / "seg" / "00001.dcm", tmp_path / "out" / "ct"
    assert np.array_equal(mask_by_pydicom(pydicom.dcmread(path), ct), case.mask.array)
    assert np.array_equal(mask_by_highdicom(path, ct), case.mask.array)
    assert dciodvfy_errors(path) == []


class TestTheWholeWay:
    """Both commands, on a series without slice thickness."""

    @staticmethod
    def require_whole_way(command: Command, series: Path, mask: Path, folder: Path) -> None:
        out = folder / "out.nii.gz"
        outcome = command("synthesize", series, mask, "-o", out, *TINY)
        assert outcome.code == 0, outcome.err
        options = ("--ct", out, "--reference", series, "--mask", mask, "--out", folder / "ex")
        outcome = command("export", "dicom", *options)
        assert outcome.code == 0, outcome.err
        ct, seg = folder / "ex" / "ct", folder / "ex" / "seg" / "00001.dcm"
        before, after = by_pydicom(series), by_pydicom(ct)
        changed = before != after
        painted = read_volume(mask).array > 0
        assert changed.any()
        assert changed[painted].mean() > 0.5
        assert np.array_equal(by_itk(ct), after)
        assert np.array_equal(by_highdicom(ct), after)
        assert np.array_equal(mask_by_pydicom(pydicom.dcmread(seg), ct), painted)
        assert np.array_equal(mask_by_highdicom(seg, ct), painted)
        known = set(dciodvfy_errors(files_in(series)[0]))
        for path in (*ct.iterdir(), seg):
            assert not set(dciodvfy_errors(path)) - known
        for path in ct.iterdir():
            assert pydicom.dcmread(path)["SliceThickness"].is_empty

    def test_of_a_phantom(self, command: Command, tmp_path: Path) -> None:
        noise = np.random.default_rng(3).normal(-850, 30, (48, 48, 20)).round()
        write_series(tmp_path / "series", Series(noise, spacing_mm=(1.1, 1.1, 1.5), edit=empty_thickness))
        volume = read_volume(tmp_path / "series")
        index = np.indices(volume.shape).T - np.array((24, 22, 10))
        ball = np.linalg.norm(index * (1.1, 1.1, 1.5), axis=-1).T <= 5
        write_volume(Volume(ball.astype(np.uint8), volume.affine), tmp_path / "mask.nii.gz")
        self.require_whole_way(command, tmp_path / "series", tmp_path / "mask.nii.gz", tmp_path)

    def test_of_the_shared_case(self, command: Command, data_dir: Path, tmp_path: Path) -> None:
        folder = data_dir.parent / "cases" / "empty_slice_thickness"
        if not folder.is_dir():
            pytest.skip(f"no data: {folder} does not exist")
        with tarfile.open(folder / "series.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        self.require_whole_way(command, tmp_path / "series", folder / "mask.nii.gz", tmp_path)
