"""Volumes, the checks of a CT, and masks brought onto its grid."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.errors import DamagedFile, GeometryMismatch, NotACT
from volume_fixtures import OBLIQUE, affine_of, moved

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


def world_mm(volume: Volume, index: tuple[int, ...]) -> np.ndarray:
    return (volume.affine @ [*index, 1])[:3]


def test_spacing_and_voxel_volume_come_from_the_affine(ct: Volume) -> None:
    assert ct.spacing_mm == pytest.approx(SPACING_MM)
    assert ct.voxel_volume_mm3 == pytest.approx(1.25)
    assert ct.shape == (8, 6, 5)


def test_corners_lie_half_a_voxel_beyond_the_outer_centres(ct: Volume) -> None:
    corners = ct.corners_mm()
    assert corners.shape == (8, 3)
    assert corners[0] == pytest.approx(world_mm(ct, (-0.5, -0.5, -0.5)))
    assert corners[1] == pytest.approx(world_mm(ct, (-0.5, -0.5, 4.5)))
    assert corners[4] == pytest.approx(world_mm(ct, (7.5, -0.5, -0.5)))
    assert corners[7] == pytest.approx(world_mm(ct, (7.5, 5.5, 4.5)))


def test_with_array_keeps_the_grid_and_refuses_another_shape(ct: Volume) -> None:
    other = ct.with_array(ct.array + 1)
    assert other.affine is ct.affine
    with pytest.raises(GeometryMismatch, match="8 x 6 x 4 voxels, not 8 x 6 x 5"):
        ct.with_array(ct.array[:, :, 1:])


def test_the_hash_is_of_the_voxels_in_stored_order(ct: Volume) -> None:
    assert ct.voxel_sha256 == sha256(ct.array.tobytes(order="F")).hexdigest()
    assert ct.with_array(ct.array + 1).voxel_sha256 != ct.voxel_sha256


def test_a_crop_keeps_every_voxel_where_it_is_and_copies_nothing(ct: Volume) -> None:
    part = ct.crop((slice(2, 6), slice(None), slice(1, 5)))
    assert part.shape == (4, 6, 4)
    assert np.shares_memory(part.array, ct.array)
    assert part.array[1, 2, 3] == ct.array[3, 2, 4]
    assert world_mm(part, (1, 2, 3)) == pytest.approx(world_mm(ct, (3, 2, 4)))


@pytest.mark.parametrize(
    "part", [slice(-1, 3), slice(5, 9), slice(3, 3), slice(4, 2), slice(0, 4, 2)], ids=repr
)
def test_a_box_that_leaves_the_volume_is_refused(ct: Volume, part: slice) -> None:
    with pytest.raises(GeometryMismatch, match=r"\[.*, 0:6, 0:5\] does not lie inside 8 x 6 x 5 voxels"):
        ct.crop((part, slice(0, 6), slice(0, 5)))


def test_grids_may_differ_by_less_than_the_tolerance(ct: Volume, mask: Volume) -> None:
    ct.require_same_grid(moved(mask, (0.4, -0.4, 0.4)))
    with pytest.raises(GeometryMismatch, match=r"by 0.3 mm \(0.6 voxels\) at a corner; the limit is 0.5"):
        ct.require_same_grid(moved(mask, (0.6, 0, 0)))
    with pytest.raises(GeometryMismatch, match=r"the layout and the CT differ by 1 mm \(0.2 voxels\)"):
        ct.require_same_grid(moved(mask, (0, 0, 0.2)), what="layout", tolerance_voxels=0.1)


def test_another_shape_is_another_grid(ct: Volume, mask: Volume) -> None:
    with pytest.raises(GeometryMismatch, match="the mask is 8 x 6 x 4 voxels, the CT is 8 x 6 x 5"):
        ct.require_same_grid(replace(mask, array=mask.array[:, :, :4]))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_unusable_affine_is_no_grid(ct: Volume, mask: Volume) -> None:
    unknown = replace(mask, affine=np.full((4, 4), np.nan))
    with pytest.raises(GeometryMismatch):
        ct.require_same_grid(unknown)
    with pytest.raises(GeometryMismatch):
        mask_on_grid(unknown, ct)


class TestRequireCt:
    def test_int16_passes_as_it_is(self, ct: Volume) -> None:
        assert require_ct(ct) is ct

    @pytest.mark.parametrize("dtype", ["<i4", ">i2", "i8", "f4", "f8"])
    def test_other_whole_numbers_become_int16(self, ct: Volume, dtype: str) -> None:
        found = require_ct(replace(ct, array=ct.array.astype(dtype)))
        assert found.array.dtype == np.int16
        assert np.array_equal(found.array, ct.array)
        assert found.affine is ct.affine

    def test_rounding_of_float32_is_no_fraction(self, ct: Volume) -> None:
        almost = ct.array.astype(np.float32) + np.float32(2e-4)
        assert np.array_equal(require_ct(replace(ct, array=almost)).array, ct.array)

    def test_one_slice_is_enough(self, ct: Volume) -> None:
        assert require_ct(replace(ct, array=ct.array[:, :, :1])).shape == (8, 6, 1)

    @pytest.mark.parametrize(
        ("shape", "text"),
        [
            ((4, 3), r"2-D \(4 x 3\)"),
            ((4, 3, 2, 5), r"4-D \(4 x 3 x 2 x 5\); pick one time point"),
            ((1, 3, 2), "1 x 3 x 2 voxels; a CT slice has at least 2 x 2"),
            ((4, 3, 0), "4 x 3 x 0 voxels"),
        ],
    )
    def test_shapes_that_are_no_volume(self, shape: tuple[int, ...], text: str) -> None:
        with pytest.raises(NotACT, match=text):
            require_ct(Volume(np.full(shape, -1000, np.int16), np.eye(4)))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_voxels_without_a_value_are_damage(self, ct: Volume, value: float) -> None:
        array = ct.array.astype(np.float32)
        array[1, 2, 3] = array[0, 0, 0] = value
        with pytest.raises(DamagedFile, match="2 voxels are NaN or infinite"):
            require_ct(replace(ct, array=array))

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda hu: hu + 0.25, r"not whole HU \(for example -?\d+\.[27]5\)"),
            (lambda hu: hu.astype(np.int32) + 1024, r"no value is below 0 \(lowest \d+\)"),
            (lambda hu: hu.astype(np.int32) * 40, r"values reach from -\d+ to \d+, beyond 16 bits"),
            (lambda hu: hu * 1e9, "beyond 16 bits"),
            (lambda hu: hu.astype(complex), "complex128 values"),
            (lambda hu: hu < 0, "bool values"),
        ],
        ids=["fractions", "offset", "wide", "huge", "complex", "bool"],
    )
    def test_values_that_are_no_hu(self, ct: Volume, change, text: str) -> None:
        with pytest.raises(NotACT, match=text):
            require_ct(replace(ct, array=change(ct.array)))
