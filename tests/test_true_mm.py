"""A millimetre of a request is one in the patient, on every grid that is accepted.

Distances are measured between the positions of voxel centres, by the affine and nothing else of the project.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core_fixtures import QUICK, SHAPE, ball, grid, make_ct, tiny_model
from dicom_fixtures import Series, write_series
from lesionbrush.cli.files import changes_on_disk
from lesionbrush.core.surroundings import FAR_MM, NEAR_MM, Place
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.systems.lesion_inpainting.request import Attributes
from scipy.spatial import cKDTree
from volume_fixtures import OBLIQUE, write_foreign

SPACING_MM = (0.6, 0.9, 2.4)
TWICE_OBLIQUE = OBLIQUE @ OBLIQUE.T[:, [1, 2, 0]] @ OBLIQUE
GRIDS = {"oblique": OBLIQUE, "twice oblique": TWICE_OBLIQUE, "left-handed": OBLIQUE * [1, -1, 1]}


def distances_mm(mask: Volume) -> np.ndarray:
    """Of every voxel's centre to the nearest one of the mask, in the patient."""
    index = np.indices(mask.shape).reshape(3, -1)
    places = (mask.affine[:3, :3] @ index + mask.affine[:3, 3:]).T
    away, _ = cKDTree(places[mask.array.ravel() > 0]).query(places)
    return away.reshape(mask.shape)


def case(turn: np.ndarray) -> tuple[Volume, Volume]:
    reference = make_ct(affine=grid(SPACING_MM, turn))
    assert np.allclose(turn.T @ turn, np.eye(3))
    return reference, ball(reference, (19, 17, 14), 4.0)


@pytest.mark.parametrize("margin_mm", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("turn", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_the_margin(tmp_path: Path, suffix: str, turn: np.ndarray, margin_mm: float) -> None:
    reference, mask = case(turn)
    write_foreign(tmp_path / f"ct{suffix}", reference.array, reference.affine)
    write_foreign(tmp_path / f"mask{suffix}", mask.array, mask.affine)
    request = QUICK.model_copy(update={"margin_mm": margin_mm})
    files = [tmp_path / f"{name}{suffix}" for name in ("ct", "mask")]
    made = synthesize(read_volume(files[0]), read_volume(files[1]), request, tiny_model())[0]
    changed, away_mm = made.volume().array != reference.array, distances_mm(mask)
    assert away_mm[changed].max() <= margin_mm + 1e-6
    assert changed[away_mm <= margin_mm / 2].mean() > 0.8
    write_volume(made.volume(), tmp_path / f"out{suffix}")
    counted = changes_on_disk(*files, tmp_path / f"out{suffix}", margin_mm)
    assert (counted.inside, counted.outside) == (np.count_nonzero(changed), 0)


def test_the_margin_of_a_dicom_series(tmp_path: Path) -> None:
    hu = make_ct().array
    write_series(tmp_path, Series(hu, spacing_mm=SPACING_MM, orientation=tuple(OBLIQUE.T[:2].ravel())))
    reference = read_volume(tmp_path)
    mask = ball(reference, (19, 17, 14), 4.0)
    changed = synthesize(reference, mask, QUICK, tiny_model())[0].volume().array != hu
    assert 0 < distances_mm(mask)[changed].max() <= QUICK.margin_mm + 1e-6


@pytest.mark.parametrize("turn", GRIDS.values(), ids=GRIDS)
def test_how_far_spicules_reach(turn: np.ndarray) -> None:
    reference, mask = case(turn)
    request = QUICK.model_copy(update={"attributes": Attributes(spiculation=1.0, lobulation=0.5)})
    changed = synthesize(reference, mask, request, tiny_model())[0].volume().array != reference.array
    away_mm = distances_mm(mask)
    assert request.margin_mm < away_mm[changed].max() <= request.reach_mm + 1e-6


@pytest.mark.parametrize("turn", GRIDS.values(), ids=GRIDS)
def test_what_lies_around_a_mask(turn: np.ndarray) -> None:
    """The HU are the distances themselves, so that the ring shows its own limits."""
    _, mask = case(turn)
    away_mm = distances_mm(mask)
    whole = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    place = Place.of(away_mm, mask.array, whole, np.array(mask.spacing_mm))
    surely = away_mm[(away_mm > NEAR_MM + 1e-6) & (away_mm < FAR_MM - 1e-6)]  # not just on a limit
    assert np.isin(surely, place.around_hu).all()
    assert NEAR_MM - 1e-6 < place.around_hu.min() < NEAR_MM + 0.6
    assert FAR_MM - 0.6 < place.around_hu.max() < FAR_MM + 1e-6


@pytest.mark.parametrize("turn", GRIDS.values(), ids=GRIDS)
def test_sizes(turn: np.ndarray) -> None:
    reference, mask = case(turn)
    assert reference.spacing_mm == pytest.approx(SPACING_MM)
    assert mask.voxel_volume_mm3 == pytest.approx(np.prod(SPACING_MM))
    volume_mm3 = np.count_nonzero(mask.array) * mask.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 4.0**3, rel=0.1)
