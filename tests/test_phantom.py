"""The chest phantom, lung masks and proposed lesions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.phantom.chest import LesionShape, Phantom, chest_phantom, lung_mask, propose_lesion
from scipy import ndimage

small_chest = partial(chest_phantom, shape=(64, 64, 40), spacing_mm=(5.2, 5.2, 6.4))


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_phantom(shape=(128, 128, 64), spacing_mm=(2.6, 2.6, 4.0))


@pytest.fixture(scope="module")
def depth_mm(chest: Phantom) -> np.ndarray:
    """Distance of the lung voxels from the pleura."""
    return ndimage.distance_transform_edt(chest.lungs.array, sampling=chest.lungs.spacing_mm)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()))


def hu_at(chest: Phantom, x: float, y: float, z: float, radius_mm: float) -> np.ndarray:
    """HU in a ball around a point in adult mm: to the left, to the back, up from the lowest slice."""
    spacing_mm = np.array(chest.volume.spacing_mm)
    i, j, k = np.indices(chest.volume.shape, sparse=True)
    centre = np.array((x + 332.8 / 2, y - 5 + 332.8 / 2, z)) / spacing_mm - 0.5
    offsets = [(index - c) * mm for index, c, mm in zip((i, j, k), centre, spacing_mm, strict=True)]
    return chest.volume.array[sum(offset**2 for offset in offsets) <= radius_mm**2]


def test_it_is_a_ct_as_scanners_write_it(chest: Phantom) -> None:
    assert chest.volume.array.dtype == np.int16
    assert chest.volume.array.min() >= -1024
    assert chest.volume.array.max() <= 3071
    assert nib.aff2axcodes(chest.volume.affine) == ("L", "P", "S")
    assert chest.volume.spacing_mm == (2.6, 2.6, 4.0)
    middle = chest.volume.affine @ [63.5, 63.5, 31.5, 1]
    assert np.allclose(middle[:3], 0)
    chest.volume.require_same_grid(chest.lungs)


def test_the_default_is_an_adult_chest() -> None:
    defaults = chest_phantom.__defaults__
    assert defaults == (0, (256, 256, 128), (1.3, 1.3, 2.0))


def test_the_seed_decides_every_voxel() -> None:
    first, again, other = small_chest(0), small_chest(0), small_chest(1)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.lungs.array, again.lungs.array)
    assert not np.array_equal(first.volume.array, other.volume.array)
    assert not np.array_equal(first.lungs.array, other.lungs.array)


def test_too_few_voxels_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"16 voxels.*\(64, 64, 8\)"):
        chest_phantom(shape=(64, 64, 8))


@pytest.mark.parametrize(
    ("organ", "at", "hu"),
    [
        ("air before the chest", (0, -150, 128, 8), (-1000, 15)),
        ("windpipe", (0, 2, 200, 4), (-1000, 60)),
        ("descending aorta", (24, 33, 120, 6), (173, 25)),
        ("left ventricle", (38, -31, 82, 6), (165, 25)),
        ("liver", (-75, 0, 25, 12), (108, 15)),
        ("vertebral marrow", (0, 43, 95.5, 5), (170, 60)),
        ("subcutaneous fat", (147, 0, 95, 3), (-102, 30)),
        ("back muscle", (20, 94, 130, 4), (58, 30)),
    ],
)
def test_organs_have_their_hu(
    chest: Phantom, organ: str, at: tuple[float, ...], hu: tuple[float, float]
) -> None:
    values = hu_at(chest, *at)
    assert abs(values.mean() - hu[0]) < hu[1], organ


def test_there_is_dense_bone(chest: Phantom) -> None:
    assert 0.001 < (chest.volume.array > 600).mean() < 0.03


def test_soft_tissue_is_as_noisy_as_a_scan(chest: Phantom) -> None:
    assert 12 < hu_at(chest, -75, 0, 25, 12).std() < 28


def test_lungs_are_two_aerated_and_denser_behind(chest: Phantom) -> None:
    inside = chest.lungs.array > 0
    hu = chest.volume.array
    parts, _ = ndimage.label(inside)
    litres = np.sort(np.bincount(parts.ravel())[1:])[-2:] * chest.lungs.voxel_volume_mm3 / 1e6
    assert 1.2 < litres[0] <= litres[1] < 2.8
    assert -900 < np.median(hu[inside]) < -830
    behind = np.broadcast_to(np.arange(128)[None, :, None] > 64, hu.shape)
    assert np.median(hu[inside & behind]) > np.median(hu[inside & ~behind]) + 10


def test_vessels_of_the_lung_get_finer_outwards(chest: Phantom, depth_mm: np.ndarray) -> None:
    bright = chest.volume.array > -300
    near_pleura = bright[(depth_mm > 6) & (depth_mm < 15)].mean()
    deep = bright[depth_mm > 30].mean()
    assert 0.001 < near_pleura < deep


@pytest.mark.parametrize("shape", ["round", "lobulated", "spiculated"])
def test_a_proposed_lesion_lies_in_the_lung_and_has_its_size(
    chest: Phantom, depth_mm: np.ndarray, shape: LesionShape
) -> None:
    for seed in range(4):
        mask = propose_lesion(chest.volume, chest.lungs, 20, generator(seed), shape)
        mask.require_same_grid(chest.volume)
        assert mask.array.dtype == np.uint8
        volume_mm3 = mask.array.sum() * mask.voxel_volume_mm3
        assert np.cbrt(6 * volume_mm3 / np.pi) == pytest.approx(20, rel=0.05)
        assert depth_mm[mask.array > 0].min() >= 3
        assert np.median(chest.volume.array[mask.array > 0]) < -750


def test_lobulated_is_less_round_than_round(chest: Phantom) -> None:
    def surface_voxels(shape: LesionShape) -> int:
        mask = propose_lesion(chest.volume, chest.lungs, 26, generator(5), shape).array > 0
        return int((mask & ~ndimage.binary_erosion(mask)).sum())

    assert surface_voxels("round") < surface_voxels("lobulated")


def test_the_generator_decides_the_lesion(chest: Phantom) -> None:
    first, again, other = (
        propose_lesion(chest.volume, chest.lungs, 15, generator(s)).array for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_lesion_that_does_not_fit_is_refused(chest: Phantom) -> None:
    with pytest.raises(InvalidRequest, match=r"does not fit.*at most \d+ mm; ask for a smaller"):
        propose_lesion(chest.volume, chest.lungs, 150, generator())


def test_lungs_of_another_grid_are_refused(chest: Phantom) -> None:
    with pytest.raises(GeometryMismatch, match="mask of the organ"):
        propose_lesion(chest.volume, small_chest().lungs, 10, generator())


def test_no_organ_is_refused(chest: Phantom) -> None:
    nothing = chest.lungs.with_array(np.zeros_like(chest.lungs.array))
    with pytest.raises(EmptyMask, match="mask of the organ is empty"):
        propose_lesion(chest.volume, nothing, 10, generator())


@pytest.mark.parametrize(
    ("diameter_mm", "shape", "said"), [(0, "round", "0 mm"), (10, "square", "'square'.*round")]
)
def test_wishes_that_make_no_lesion_are_refused(
    chest: Phantom, diameter_mm: float, shape: LesionShape, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        propose_lesion(chest.volume, chest.lungs, diameter_mm, generator(), shape)


def test_the_liver_is_one_organ_under_the_right_lung_as_bright_as_in_portal_phase(chest: Phantom) -> None:
    liver = chest.liver.array > 0
    assert 95 < np.median(chest.volume.array[liver]) < 120
    inner = ndimage.binary_erosion(liver, iterations=2)
    assert np.mean((chest.volume.array[inner] > 40) & (chest.volume.array[inner] < 230)) > 0.99
    assert 600 < liver.sum() * np.prod(chest.liver.spacing_mm) / 1000 < 2000  # ml; it goes on below the field
    parts, _ = ndimage.label(liver)
    assert np.bincount(parts.ravel())[1:].max() > 0.98 * liver.sum()
    assert not (liver & (chest.lungs.array > 0)).any()
    assert np.argwhere(liver)[:, 0].mean() < 64  # the first axis runs to the left


@pytest.mark.parametrize("seed", range(3))
def test_a_lesion_finds_its_place_in_the_liver(chest: Phantom, seed: int) -> None:
    lesion = propose_lesion(chest.volume, chest.liver, 20.0, generator(seed)).array > 0
    depth = ndimage.distance_transform_edt(chest.liver.array, sampling=chest.liver.spacing_mm)
    assert depth[lesion].min() > 2.0
    assert abs(np.median(chest.volume.array[lesion]) - 108) < 10


def test_lung_mask_finds_the_lungs_of_the_phantom(chest: Phantom) -> None:
    found = lung_mask(chest.volume)
    assert found.array.dtype == np.uint8
    assert dice(found.array, chest.lungs.array) > 0.95


def test_lung_mask_does_not_mind_how_the_volume_is_stored(chest: Phantom) -> None:
    turned = Volume(
        chest.volume.array.transpose(2, 0, 1)[::-1], chest.volume.affine[:, [2, 0, 1, 3]] * (-1, 1, 1, 1)
    )
    found = lung_mask(turned).array[::-1].transpose(1, 2, 0)
    assert dice(found, chest.lungs.array) > 0.95


def test_a_body_without_lungs_is_refused(chest: Phantom) -> None:
    solid = np.where(chest.lungs.array > 0, 40, np.maximum(chest.volume.array, -200)).astype(np.int16)
    with pytest.raises(EmptyMask, match="no lungs found"):
        lung_mask(chest.volume.with_array(solid))


@pytest.mark.parametrize(
    ("ct", "lungs"),
    [
        ("LIDC-IDRI-0132b_1mmxy", "LIDC-IDRI-0132b_lungs_1mmxy"),
        ("CMB-CRC-MSB-01068", "CMB-CRC-MSB-01068_lungs"),
    ],
)
def test_lung_mask_agrees_with_another_one_on_real_ct(data_dir: Path, ct: str, lungs: str) -> None:
    volume, known = (read_volume(data_dir / "chest_ct" / f"{name}.nii.gz") for name in (ct, lungs))
    found = lung_mask(volume)
    assert dice(found.array, known.array) > 0.95
    lesion = propose_lesion(volume, found, 20, generator())
    assert lesion.array.any()
    assert not (lesion.array > found.array).any()
