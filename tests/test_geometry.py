"""One geometry per file: what ITK and nibabel read of it, or a refusal that names what disagrees."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.errors import DamagedFile, UnsupportedSeries
from lesionbrush.geometry import require_agreement, require_perpendicular
from lesionbrush.io import read_volume, write_volume
from lesionbrush.volume import Volume
from volume_fixtures import (
    OBLIQUE,
    Grid,
    affine_of,
    assert_same_hu_in_space,
    by_itk,
    by_nibabel,
    metaimage,
    nrrd,
    random_hu,
)

SPACING_MM = (0.7, 0.9, 1.25)
STRAIGHT, TURNED = affine_of(np.eye(3), SPACING_MM), affine_of(OBLIQUE, SPACING_MM)
Change = Callable[[bytearray], None]
PIXDIM, QUATERN, QOFFSET, SROW = 76, 256, 268, 280  # where NIfTI-1 has them


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """nibabel and ITK say a lot about these headers."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def floats(offset: int, *values: float) -> Change:
    def change(raw: bytearray) -> None:
        raw[offset : offset + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)

    return change


def write_forms(
    path: Path,
    sform: tuple[np.ndarray, int],
    qform: tuple[np.ndarray, int],
    change: Change = lambda raw: None,
) -> Path:
    image = nib.Nifti1Image(random_hu(), np.eye(4))
    image.header.set_sform(*sform)
    image.header.set_qform(*qform)
    image.header.set_xyzt_units("mm")
    nib.Nifti1Image(random_hu(), None, image.header).to_filename(path)
    raw = bytearray(path.read_bytes())
    change(raw)
    path.write_bytes(raw)
    return path


def mirrored(affine: np.ndarray, axis: int) -> np.ndarray:
    """The same field of view, counted from the other side."""
    other = affine.copy()
    other[:3, 3] += affine[:3, axis] * (random_hu().shape[axis] - 1)
    other[:3, axis] *= -1
    return other


def assert_read_as_others_do(path: Path) -> None:
    volume = read_volume(path)
    for read in (by_itk, by_nibabel):
        assert np.allclose(volume.affine, read(path).affine, atol=1e-4)


@pytest.mark.parametrize("affine", [STRAIGHT, TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize(("sform", "qform"), [c for c in product(range(5), repeat=2) if c != (0, 0)], ids=str)
def test_every_pair_of_codes_that_agrees(tmp_path: Path, affine: np.ndarray, sform: int, qform: int) -> None:
    assert_read_as_others_do(write_forms(tmp_path / "a.nii", (affine, sform), (affine, qform)))


ORIENTATIONS = [*product(permutations(range(3)), product((1, -1), repeat=3))]


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS, ids=str)
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)], ids=str)
def test_every_order_and_direction_of_axes(
    tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...], codes: tuple[int, int]
) -> None:
    affine = affine_of(np.eye(3)[:, axes] * signs, SPACING_MM)
    path = write_forms(tmp_path / "a.nii", (affine, codes[0]), (affine, codes[1]))
    assert_read_as_others_do(path)
    for suffix in (".nrrd", ".mha", ".nii.gz"):
        write_volume(read_volume(path), tmp_path / f"b{suffix}")
        volume = read_volume(tmp_path / f"b{suffix}")
        assert_same_hu_in_space(by_itk(tmp_path / f"b{suffix}"), Grid(volume.array, volume.affine))
        assert_same_hu_in_space(by_nibabel(path), Grid(volume.array, volume.affine))


@pytest.mark.parametrize("codes", [*product(range(1, 5), repeat=2)], ids=str)
@pytest.mark.parametrize(
    "other",
    [
        mirrored(STRAIGHT, 0),
        mirrored(STRAIGHT, 2),
        affine_of(OBLIQUE, SPACING_MM),
        affine_of(np.eye(3), (0.7, 0.9, 1.3)),
    ],
    ids=["x", "z", "turned", "spacing"],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_two_forms_that_disagree_are_both_named(
    tmp_path: Path, codes: tuple[int, int], other: np.ndarray, suffix: str
) -> None:
    write_forms(tmp_path / "a.nii", (STRAIGHT, codes[0]), (other, codes[1]))
    path = tmp_path / f"b{suffix}"
    nib.load(tmp_path / "a.nii").to_filename(path) if suffix == ".nii.gz" else path.write_bytes(
        (tmp_path / "a.nii").read_bytes()
    )
    with pytest.raises(
        DamagedFile, match=rf"sform .code {codes[0]}.: axes to RAS, .*qform .code {codes[1]}.: axes"
    ):
        read_volume(path)


@pytest.mark.parametrize(("voxels", "agree"), [(0.05, True), (0.09, True), (0.11, False), (0.5, False)])
def test_a_tenth_of_a_voxel_is_the_limit(tmp_path: Path, voxels: float, agree: bool) -> None:
    other = STRAIGHT.copy()
    other[0, 3] += voxels * SPACING_MM[0]
    path = write_forms(tmp_path / "a.nii", (STRAIGHT, 1), (other, 1))
    if agree:
        assert np.allclose(read_volume(path).affine, STRAIGHT)
        return
    with pytest.raises(DamagedFile, match=rf"up to {voxels:g}\d* voxels apart"):
        read_volume(path)


UNUSABLE = {
    "pixdim negative": (floats(PIXDIM + 4, -0.7), "voxels are -0.7 x 0.9 x 1.25 long"),
    "pixdim zero": (floats(PIXDIM + 4, 0.0), "voxels are 0 x 0.9 x 1.25 long"),
    "pixdim NaN": (floats(PIXDIM + 12, np.nan), "voxels are 0.7 x 0.9 x nan long"),
    "pixdim infinite": (floats(PIXDIM + 8, np.inf), "inf"),
}


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0), (0, 0)], ids=str)
@pytest.mark.parametrize(("change", "text"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_length_that_is_none(tmp_path: Path, codes: tuple[int, int], change: Change, text: str) -> None:
    """ITK and nibabel make different spacings of these, also where the sform would say it."""
    path = write_forms(tmp_path / "a.nii", (STRAIGHT, codes[0]), (STRAIGHT, codes[1]), change)
    with pytest.raises(DamagedFile, match=f"^a.nii has no usable geometry.*{text}"):
        read_volume(path)


def test_another_spacing_than_the_sform_says(tmp_path: Path) -> None:
    """Slicer takes the directions of the one and the lengths of the other."""
    path = write_forms(tmp_path / "a.nii", (TURNED, 1), (TURNED, 0), floats(PIXDIM + 4, 5.0))
    with pytest.raises(
        DamagedFile, match=r"sform .code 1.: .*0.7 x 0.9 x 1.25 mm.*pixdim.*5 x 0.9 x 1.25 mm"
    ):
        read_volume(path)


@pytest.mark.parametrize(
    "change", [floats(QUATERN, np.nan), floats(QUATERN, 3.0), floats(QOFFSET, np.nan), floats(SROW, np.nan)]
)
def test_a_form_that_is_no_geometry(tmp_path: Path, change: Change) -> None:
    for codes in ((1, 1), (2, 1)):
        path = write_forms(tmp_path / "a.nii", (TURNED, codes[0]), (TURNED, codes[1]), change)
        with pytest.raises(DamagedFile, match=r"a.nii"):
            read_volume(path)


@pytest.mark.parametrize(
    "quaternion", [(0, 0, 1.0000005), (0, 0, 1.0001), (0.7072, 0.7072, 0), (0.5774, 0.5774, 0.5774)], ids=str
)
def test_a_quaternion_that_rounding_made_too_long(tmp_path: Path, quaternion: tuple[float, ...]) -> None:
    path = write_forms(tmp_path / "a.nii", (STRAIGHT, 0), (STRAIGHT, 1), floats(QUATERN, *quaternion))
    volume = read_volume(path)
    assert np.allclose(volume.affine, by_itk(path).affine, atol=1e-4)
    write_volume(volume, tmp_path / "out.nii.gz")
    assert np.allclose(by_itk(tmp_path / "out.nii.gz").affine, volume.affine, atol=1e-4)


def test_no_form_at_all_is_said(tmp_path: Path) -> None:
    volume = read_volume(write_forms(tmp_path / "a.nii", (STRAIGHT, 0), (STRAIGHT, 0)))
    assert np.allclose(volume.affine, by_itk(tmp_path / "a.nii").affine)
    assert volume.source.remarks == (
        "its header does not say which way the axes lead (both codes are 0): taken as 3D Slicer does",
    )


def sheared(degrees: float) -> np.ndarray:
    affine = STRAIGHT.copy()
    affine[1, 2] = np.tan(np.radians(degrees)) * SPACING_MM[2]
    return affine


class TestShear:
    """A length in mm means nothing on such a grid, whatever the format."""

    @pytest.mark.parametrize("degrees", [0.1, 1.0, 25.0])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
    def test_refused_in_the_words_of_a_gantry_tilt(self, tmp_path: Path, degrees: float, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        affine = sheared(degrees)
        if ".nii" in suffix:
            nib.Nifti1Image(random_hu(), affine).to_filename(path)
        elif suffix == ".nrrd":
            path.write_bytes(nrrd(affine))
        else:
            path.write_bytes(metaimage(affine))
        with pytest.raises(
            UnsupportedSeries, match=rf"^a{suffix}: .*gantry tilt of {degrees:.1f} degrees: correct"
        ):
            read_volume(path)

    def test_what_rounding_makes_is_none(self) -> None:
        require_perpendicular("a.nii", Volume(random_hu(), sheared(0.05)))


def test_agreement_is_judged_at_the_corners() -> None:
    """A small turn about the first voxel moves the far corner."""
    far = Volume(np.zeros((500, 2, 2), np.int8), np.eye(4))
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.001), -np.sin(0.001)], [np.sin(0.001), np.cos(0.001)]]
    require_agreement("a", Volume(np.zeros((50, 2, 2), np.int8), np.eye(4)), turned, ("one", "other"), "")
    with pytest.raises(DamagedFile, match=r"0.5 voxels apart"):
        require_agreement("a", far, turned, ("one", "other"), "")
