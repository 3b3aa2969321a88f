"""The promise, in files on disk: outside the edit region not one voxel differs, and the grid is the CT's.

References are written and results are read by code that is not ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from core_fixtures import QUICK, SHAPE, ball, box, edit_region, grid, make_ct, tiny_model
from dicom_fixtures import Series, write_series
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from volume_fixtures import OBLIQUE, SUFFIXES, independently, write_foreign

TURNS = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "upside down": np.diag([-1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "oblique": OBLIQUE,
}
SPACINGS_MM = {"fine": (0.7, 0.7, 1.0), "thick": (0.5, 0.5, 5.0), "third axis coarse": (0.8, 0.9, 2.5)}
MARGIN_MM = 3.0


def lesion(reference: Volume) -> Volume:
    """A ball of 4 mm around a voxel; thick slices have it in one only."""
    return ball(reference, (19, 17, 14), 4.0)


def change_on_disk(
    folder: Path, reference: Volume, mask: Volume, suffix: str, request: SynthesisRequest
) -> np.ndarray:
    """Read what others wrote, synthesize, write, and let others read: which voxels differ."""
    paths = [folder / f"{name}{suffix}" for name in ("ct", "mask", "out")]
    write_foreign(paths[0], reference.array, reference.affine)
    write_foreign(paths[1], mask.array, mask.affine)
    result = synthesize(read_volume(paths[0]), read_volume(paths[1]), request, tiny_model())[0]
    write_volume(result.volume(), paths[2], result.provenance.note)
    before, after = independently(paths[0]), independently(paths[2])
    assert after.array.dtype == before.array.dtype == np.int16
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
    return after.array != before.array


def assert_promise(folder: Path, reference: Volume, mask: Volume, suffix=".nii.gz", margin_mm=MARGIN_MM):
    request = QUICK.model_copy(update={"margin_mm": margin_mm})
    changed = change_on_disk(folder, reference, mask, suffix, request)
    allowed = edit_region(mask.array, reference.spacing_mm, margin_mm)
    assert np.count_nonzero(changed[~allowed]) == 0
    assert changed[mask.array > 0].mean() > 0.95


@pytest.mark.parametrize(("stored", "written"), [("i2", "i2"), ("i4", "i4"), ("f4", "i2"), ("f8", "i2")])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_whole_numbers_keep_their_pixel_type_and_all_else_is_int16(
    tmp_path: Path, suffix: str, stored: str, written: str
) -> None:
    ct = make_ct()
    mask = lesion(ct)
    write_foreign(tmp_path / f"ct{suffix}", ct.array.astype(stored), ct.affine)
    result = synthesize(read_volume(tmp_path / f"ct{suffix}"), mask, QUICK, tiny_model())[0]
    write_volume(result.volume(), tmp_path / f"out{suffix}")
    after = independently(tmp_path / f"out{suffix}").array
    assert after.dtype.newbyteorder("=") == np.dtype(written)
    outside = ~edit_region(mask.array, ct.spacing_mm, MARGIN_MM)
    assert np.array_equal(after[outside], ct.array[outside])


@pytest.mark.parametrize("spacing", SPACINGS_MM)
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_orientations_and_anisotropies(tmp_path: Path, suffix: str, turn: str, spacing: str) -> None:
    reference = make_ct(affine=grid(SPACINGS_MM[spacing], TURNS[turn]))
    assert_promise(tmp_path, reference, lesion(reference), suffix)


def test_thick_slices_stored_sagittally(tmp_path: Path) -> None:
    reference = make_ct((12, 40, 36), grid((2.5, 0.6, 0.6), TURNS["sagittal"]))
    assert_promise(tmp_path, reference, ball(reference, (6, 20, 18), 4.0))


@pytest.mark.parametrize("spacing", SPACINGS_MM)
def test_spicules_end_where_the_request_says(tmp_path: Path, spacing: str) -> None:
    reference = make_ct(affine=grid(SPACINGS_MM[spacing]))
    mask = lesion(reference)
    request = QUICK.model_copy(update={"attributes": Attributes(spiculation=1.0, lobulation=0.5)})
    changed = change_on_disk(tmp_path, reference, mask, ".nii.gz", request)
    assert not changed[~edit_region(mask.array, reference.spacing_mm, request.reach_mm)].any()
    assert changed[~edit_region(mask.array, reference.spacing_mm, request.margin_mm)].any()


@pytest.mark.parametrize("corner", [(0, 0, 0), (39, 35, 29), (0, 35, 29)])
def test_a_lesion_in_a_corner_of_the_volume(tmp_path: Path, corner: tuple[int, int, int]) -> None:
    reference = make_ct()
    assert_promise(tmp_path, reference, ball(reference, corner, 5.0))


@pytest.mark.parametrize(
    ("bounds", "margin_mm"),
    [
        (((0, 4), (10, 16), (8, 14)), 3.0),
        (((10, 16), (10, 16), (29, 30)), 6.0),
        (((0, 40), (0, 36), (12, 13)), 3.0),
        (((0, 40), (0, 36), (0, 30)), 3.0),
        (((20, 21), (20, 21), (20, 21)), 3.0),
        (((15, 22), (12, 20), (10, 15)), 0.0),
        (((20, 21), (20, 21), (20, 21)), 0.0),
        (((15, 22), (12, 20), (10, 15)), 0.4),
        (((15, 18), (12, 14), (10, 12)), 20.0),
    ],
    ids=[
        "face",
        "last slice",
        "whole slice",
        "whole volume",
        "one voxel",
        "no margin",
        "one voxel alone",
        "margin below a voxel",
        "widest margin",
    ],
)
def test_lesions_of_any_size_and_margin(tmp_path: Path, bounds, margin_mm: float) -> None:
    reference = make_ct()
    assert_promise(tmp_path, reference, box(reference, *bounds), margin_mm=margin_mm)


def test_several_lesions_near_and_far(tmp_path: Path) -> None:
    reference = make_ct((64, 48, 30))
    places = [(8, 8, 6), (15, 8, 6), (54, 40, 22), (55, 5, 25)]
    masks = [ball(reference, place, 3.0).array for place in places]
    assert_promise(tmp_path, reference, reference.with_array(np.maximum.reduce(masks)))


def test_one_slice_is_a_volume_too(tmp_path: Path) -> None:
    reference = make_ct((40, 36, 1), grid((0.8, 0.8, 5.0)))
    assert_promise(tmp_path, reference, ball(reference, (20, 18, 0), 6.0), ".nrrd")


def test_every_variant_keeps_the_promise(tmp_path: Path) -> None:
    reference = make_ct()
    mask = lesion(reference)
    allowed = edit_region(mask.array, reference.spacing_mm, MARGIN_MM)
    request = QUICK.model_copy(update={"variants": 3})
    for number, result in enumerate(synthesize(reference, mask, request, tiny_model())):
        path = tmp_path / f"{number}.mha"
        write_volume(result.volume(), path)
        changed = independently(path).array != reference.array
        assert changed[mask.array > 0].any()
        assert not changed[~allowed].any()


def test_the_box_alone_lies_where_it_belongs(tmp_path: Path) -> None:
    reference = make_ct(affine=grid((0.7, 0.7, 1.0), TURNS["sagittal"]))
    result = synthesize(reference, lesion(reference), QUICK, tiny_model())[0]
    write_volume(result.box_volume(), tmp_path / "box.nrrd")
    found = independently(tmp_path / "box.nrrd")
    start = np.rint(np.linalg.solve(reference.affine, found.affine[:, 3])[:3]).astype(int)
    slices = tuple(slice(a, a + n) for a, n in zip(start, found.array.shape, strict=True))
    assert np.array_equal(found.array, result.volume().array[slices])
    assert result.provenance.box_offset == tuple(start)


@pytest.mark.parametrize("signed", [True, False])
def test_a_dicom_series_in_a_volume_out(tmp_path: Path, signed: bool) -> None:
    hu = np.ascontiguousarray(make_ct(SHAPE).array.clip(-1000))
    orientation = tuple(OBLIQUE[:, :2].T.ravel())
    series = Series(hu, (0.7, 0.8, 2.5), orientation, intercept=-1024, signed=signed)
    files = write_series(tmp_path / "series", series)
    before = sitk.ReadImage([str(file) for file in files])
    reference = read_volume(tmp_path / "series")
    mask = lesion(reference)
    result = synthesize(reference, mask, QUICK, tiny_model())[0]
    write_volume(result.volume(), tmp_path / "out.nrrd")
    after = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    changed = (sitk.GetArrayFromImage(before) != sitk.GetArrayFromImage(after)).transpose(2, 1, 0)
    allowed = edit_region(mask.array, series.spacing_mm, MARGIN_MM)
    assert changed[mask.array > 0].any()
    assert not changed[~allowed].any()
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(before, geometry)(), getattr(after, geometry)(), atol=1e-6)
