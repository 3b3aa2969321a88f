"""What no format may have: axes at an angle, and two geometries."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, UnsupportedSeries
from lesionbrush.files.geometry import require_agreement, require_perpendicular
from lesionbrush.files.io import read_volume
from volume_fixtures import affine_of, metaimage, nrrd, random_hu

SPACING_MM = (0.7, 0.9, 1.25)
STRAIGHT = affine_of(np.eye(3), SPACING_MM)


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
