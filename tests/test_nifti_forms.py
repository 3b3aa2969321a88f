"""sform, qform and pixdim of NIfTI: read as ITK and nibabel do, or refused with both geometries named."""

from __future__ import annotations

import gzip
import logging
import struct
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile
from lesionbrush.files.geometry import corners_apart_voxels
from lesionbrush.files.io import read_volume, write_volume
from volume_fixtures import (
    OBLIQUE,
    Grid,
    affine_of,
    assert_same_hu_in_space,
    by_itk,
    by_nibabel,
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


def turned(axes: tuple[int, ...], axis: int, degrees: float) -> np.ndarray:
    """Axes to the given signs, then turned about one of them."""
    angle, (one, other) = np.radians(degrees), [i for i in range(3) if i != axis]
    rotation = np.eye(3)
    rotation[[one, other], [one, other]] = np.cos(angle)
    rotation[one, other], rotation[other, one] = -np.sin(angle), np.sin(angle)
    return affine_of(rotation @ np.diag(np.array(axes, float)), SPACING_MM)


@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("degrees", [0.5, 2.0, 8.0, 11.4, 30.0])
@pytest.mark.parametrize(
    ("axes", "axis"), [((-1, -1, 1), 2), ((-1, 1, 1), 1), ((1, -1, -1), 0), ((1, -1, -1), 2)], ids=str
)
def test_a_turn_near_a_half_turn_keeps_its_angle(
    tmp_path: Path, axes: tuple[int, ...], axis: int, degrees: float, codes: tuple[int, int]
) -> None:
    """The part of the quaternion that is not stored is small then, and is not rounding."""
    affine = turned(axes, axis, degrees)
    path = write_forms(tmp_path / "a.nii", (affine, codes[0]), (affine, codes[1]))
    volume = read_volume(path)
    big = Volume(np.broadcast_to(np.int8(0), (512, 512, 60)), affine)
    for other in (volume.affine, by_itk(path).affine):
        assert corners_apart_voxels(big, other) < 0.3  # float32
    write_volume(volume, tmp_path / "out.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "out.nii.gz").affine, volume.affine)


@pytest.mark.parametrize("degrees", [-0.1, -0.03, -0.01, 0.002, 0.01, 0.02, 0.05, 0.1, 0.2])
def test_a_hint_of_a_turn_does_not_make_two_geometries(tmp_path: Path, degrees: float) -> None:
    """float32 has the angle to a tenth of a degree there; the sform has it better."""
    affine = turned((-1, -1, 1), 2, degrees)
    affine[:2, :2] *= 0.7 / np.linalg.norm(affine[:2, 0])
    image = nib.Nifti1Image(np.zeros((512, 512, 3), np.int16), affine)
    image.set_qform(affine, code=1)
    image.to_filename(tmp_path / "a.nii.gz")
    assert np.allclose(read_volume(tmp_path / "a.nii.gz").affine, affine, atol=1e-4)


@pytest.mark.parametrize("code", [6, 100, 255])
@pytest.mark.parametrize("form", [252, 254])
def test_a_code_that_nobody_knows(tmp_path: Path, form: int, code: int) -> None:
    def change(raw: bytearray) -> None:
        raw[form : form + 2] = struct.pack("<h", code)

    path = write_forms(tmp_path / "a.nii", (STRAIGHT, 1), (STRAIGHT, 1), change)
    with pytest.raises(DamagedFile, match=rf"form_code is {code}; the standard has 0 to 5"):
        read_volume(path)


@pytest.mark.parametrize("offset", [0.0, 100.0, 348.0])
def test_voxels_do_not_begin_in_the_header(tmp_path: Path, offset: float) -> None:
    path = write_forms(tmp_path / "a.nii", (STRAIGHT, 1), (STRAIGHT, 1), floats(108, offset))
    with pytest.raises(DamagedFile, match=rf"voxels begin at byte {offset:g}, within the header"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_more_voxels_than_the_header_tells_of(tmp_path: Path, suffix: str) -> None:
    whole = write_forms(tmp_path / "a.nii", (STRAIGHT, 1), (STRAIGHT, 1)).read_bytes()
    path, write = tmp_path / f"b{suffix}", (gzip.compress if suffix == ".nii.gz" else bytes)
    path.write_bytes(write(whole + random_hu()[:, :, 0].tobytes()))
    with pytest.raises(DamagedFile, match="60 bytes follow the 240 of the voxels"):
        read_volume(path)
    path.write_bytes(write(whole + bytes(59)))  # less than a slice is padding
    assert np.array_equal(read_volume(path).array, random_hu())


def test_no_form_at_all_is_said(tmp_path: Path) -> None:
    volume = read_volume(write_forms(tmp_path / "a.nii", (STRAIGHT, 0), (STRAIGHT, 0)))
    assert np.allclose(volume.affine, by_itk(tmp_path / "a.nii").affine)
    assert volume.source.remarks == (
        "its header does not say which way the axes lead (both codes are 0): taken as 3D Slicer does",
    )
