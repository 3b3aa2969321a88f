"""A mask is brought onto the grid of the CT, or refused with how far off it is."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.volume import Volume, mask_on_grid, offset_remark
from lesionbrush.errors import AmbiguousMask, EmptyMask, GeometryMismatch, InvalidRequest
from volume_fixtures import OBLIQUE, ORIENTATIONS, affine_of, itk_image, moved

SPACING_MM = (0.5, 0.5, 5.0)


@pytest.fixture
def ct() -> Volume:
    hu = np.random.default_rng(0).integers(-1000, 1500, (8, 6, 5), dtype=np.int16)
    return Volume(np.asfortranarray(hu), affine_of(OBLIQUE, SPACING_MM))


@pytest.fixture
def mask(ct: Volume) -> Volume:
    array = np.zeros(ct.shape, np.uint8)
    array[2:5, 1:4, 2] = 1
    array[2, 1, 3] = 1
    return Volume(array, ct.affine)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", ">i4", "f4"])
def test_a_mask_on_the_grid_is_used_as_it_is(ct: Volume, mask: Volume, dtype: str) -> None:
    placed = mask_on_grid(replace(moved(mask, (0.4, 0, 0)), array=mask.array.astype(dtype)), ct)
    assert np.array_equal(placed.array, mask.array)
    assert placed.array.dtype == np.uint8
    assert placed.affine is ct.affine


@pytest.mark.parametrize(
    ("voxels", "said"), [((0, 0, 0.4), "2 mm (0.4 voxels)"), ((0.3, 0, 0), "0.15 mm (0.3")]
)
def test_a_mask_between_the_voxels_is_moved_and_that_is_said(
    ct: Volume, mask: Volume, voxels: tuple[float, ...], said: str
) -> None:
    (remark,) = offset_remark(moved(mask, voxels), ct, "mask")
    assert remark.startswith(f"mask: its grid lies {said}")


@pytest.mark.parametrize("voxels", [(0, 0, 0), (0.04, 0, 0), (2, 0, 0)])
def test_nothing_is_said_of_a_mask_on_the_grid_or_on_a_part_of_it(
    ct: Volume, mask: Volume, voxels: tuple[float, ...]
) -> None:
    assert offset_remark(moved(mask, voxels), ct, "mask") == ()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_a_mask_in_another_orientation_lands_on_the_same_voxels(
    ct: Volume, mask: Volume, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image = nib.Nifti1Image(mask.array, mask.affine)
    turned = image.as_reoriented(np.array(list(zip(order, signs, strict=True))))
    placed = mask_on_grid(Volume(np.asarray(turned.dataobj), turned.affine), ct)
    assert np.array_equal(placed.array, mask.array)


@pytest.mark.parametrize("shape", [(24, 18, 15), (4, 3, 5), (5, 9, 15), (8, 6, 1)])
def test_another_resolution_is_resampled_as_itk_does(ct: Volume, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 2, shape, dtype=np.uint8)
    scale = np.array(ct.shape) / shape
    affine = ct.affine @ np.diag([*scale, 1])
    affine[:3, 3] += ct.affine[:3, :3] @ (scale - 1) / 2
    placed = mask_on_grid(Volume(array, affine), ct)
    assert np.array_equal(placed.array, itk_nearest(Volume(array, affine), ct))


@pytest.mark.parametrize("off_lattice", [0.0, 0.09])
def test_a_box_of_the_reference_grid_is_placed(ct: Volume, mask: Volume, off_lattice: float) -> None:
    part = mask.crop((slice(1, 6), slice(1, 4), slice(2, 4)))
    placed = mask_on_grid(moved(part, (0, off_lattice, 0)), ct)
    assert np.array_equal(placed.array, mask.array)


@pytest.mark.parametrize(
    ("by_voxels", "text"),
    [
        ((0, 0.2, 0), r"CT index \(1.00, 1.20, 2.00\)"),
        ((0, 0, 2), r"CT index \(1.00, 1.00, 4.00\)"),
        ((-2, 0, 0), r"CT index \(-1.00, 1.00, 2.00\)"),
    ],
    ids=["between voxels", "out at the top", "out at the bottom"],
)
def test_a_box_elsewhere_is_refused(ct: Volume, mask: Volume, by_voxels, text: str) -> None:
    part = mask.crop((slice(1, 6), slice(1, 4), slice(2, 4)))
    with pytest.raises(GeometryMismatch, match=text):
        mask_on_grid(moved(part, by_voxels), ct)


def test_a_box_of_another_spacing_or_direction_is_refused(ct: Volume, mask: Volume) -> None:
    part = mask.crop((slice(1, 6), slice(1, 4), slice(2, 4)))
    for scale in ([1.1, 1, 1, 1], [-1, 1, 1, 1]):
        with pytest.raises(GeometryMismatch):
            mask_on_grid(replace(part, affine=part.affine @ np.diag(scale)), ct)


def test_the_refusal_says_how_far_off_in_mm_and_voxels(ct: Volume, mask: Volume) -> None:
    text = r"up to 10 mm \(2 voxels\) apart.*8 x 6 x 5 voxels of 0.5 x 0.5 x 5 mm.*reference geometry"
    with pytest.raises(GeometryMismatch, match=text):
        mask_on_grid(moved(mask, (0, 0, 2)), ct)


def test_a_mirrored_patient_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(GeometryMismatch):
        mask_on_grid(replace(mask, affine=np.diag([-1.0, 1, 1, 1]) @ mask.affine), ct)


def test_one_of_several_labels(ct: Volume, mask: Volume) -> None:
    array = mask.array.astype(np.int16)
    array[2, 1, 3] = 7
    several = replace(mask, array=array)
    assert mask_on_grid(several, ct, label=7).array.sum() == 1
    assert mask_on_grid(several, ct, label=1).array.sum() == 9
    with pytest.raises(AmbiguousMask, match=r"2 labels \(1, 7\): choose one"):
        mask_on_grid(several, ct)
    with pytest.raises(EmptyMask, match="no voxel of label 3; it holds 1, 7"):
        mask_on_grid(several, ct, label=3)
    with pytest.raises(InvalidRequest, match="label 0 is no lesion"):
        mask_on_grid(several, ct, label=0)


def test_the_only_label_needs_no_name(ct: Volume, mask: Volume) -> None:
    placed = mask_on_grid(replace(mask, array=mask.array * 5), ct)
    assert np.array_equal(placed.array, mask.array)


def test_a_ct_given_as_mask_is_refused_briefly(ct: Volume) -> None:
    with pytest.raises(AmbiguousMask, match=r"1, 2, 3, 4, 5, 6, 7, 8, \.\.\.\)"):
        mask_on_grid(replace(ct, array=np.arange(ct.array.size).reshape(ct.shape)), ct)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.nan, "no labels .nan"),
        (np.inf, "no labels .inf"),
        (0.5, r"no labels \(0.5\)"),
        (-3, r"no labels \(-3\)"),
    ],
)
def test_values_that_are_no_labels(ct: Volume, mask: Volume, value: float, text: str) -> None:
    array = mask.array.astype(np.float32)
    array[0, 0, 0] = value
    with pytest.raises(AmbiguousMask, match=text):
        mask_on_grid(replace(mask, array=array), ct)


def test_a_mask_of_one_fraction_or_of_complex_numbers_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(AmbiguousMask, match=r"no labels \(0.5\)"):
        mask_on_grid(replace(mask, array=mask.array * 0.5), ct)
    with pytest.raises(AmbiguousMask, match="complex128 values"):
        mask_on_grid(replace(mask, array=mask.array * 1j), ct)


def test_an_empty_mask_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(EmptyMask, match="paint at least one voxel"):
        mask_on_grid(replace(mask, array=np.zeros(ct.shape)), ct)


def test_a_lesion_too_small_for_the_grid_is_refused(ct: Volume) -> None:
    fine = np.zeros((24, 18, 15), np.uint8)
    fine[0, 0, 0] = 1
    affine = ct.affine @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    affine[:3, 3] -= ct.affine[:3, :3] @ np.full(3, 1 / 3)
    with pytest.raises(EmptyMask, match="no voxel of the mask is left"):
        mask_on_grid(Volume(fine, affine), ct)


def test_a_mask_with_a_fourth_axis_is_refused(ct: Volume, mask: Volume) -> None:
    with pytest.raises(GeometryMismatch, match=r"the mask is 4-D \(8 x 6 x 5 x 2\)"):
        mask_on_grid(replace(mask, array=np.stack([mask.array] * 2, axis=-1)), ct)


def itk_nearest(mask: Volume, reference: Volume) -> np.ndarray:
    images = [itk_image(volume.array, volume.affine) for volume in (mask, reference)]
    resampled = sitk.Resample(*images, sitk.Transform(), sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(resampled).T
