"""Labels or HU, told from the voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.core.labels import is_label_map, share_alike
from lesionbrush.core.volume import Array, Volume
from lesionbrush.files.io import read_volume


def volume(array: Array) -> Volume:
    return Volume(array, np.eye(4))


def test_the_share_is_of_pairs_that_are_no_background() -> None:
    row = np.array([0, 0, 0, 5, 5, 7]).reshape(-1, 1, 1)
    assert share_alike(row) == pytest.approx(1 / 3)  # 0-5, 5-5 and 5-7; 0-0 is background
    assert share_alike(np.zeros((4, 4, 4), np.int16)) == 1


@pytest.mark.parametrize("value", [np.nan, -1000.0, 0.5])
def test_air_fractions_and_nan_are_no_labels(value: float) -> None:
    blocks = np.zeros((8, 8, 4), np.float32)
    blocks[2:6, 2:6] = 3
    assert is_label_map(volume(blocks))
    blocks[0, 0, 0] = value
    assert not is_label_map(volume(blocks))


def test_soft_tissue_with_noise_and_no_air_is_a_ct() -> None:
    hu = np.random.default_rng(0).normal(40, 15, (20, 20, 8)).round().astype(np.int16)
    assert not is_label_map(volume(hu))


def test_of_real_files(data_dir: Path) -> None:
    patterns = ("chest_ct/LIDC-IDRI-0[03]*", "abdomen_ct/CRLM-CT-1006*", "example_body/*")
    files = [path for pattern in patterns for path in sorted(data_dir.glob(f"{pattern}.nii.gz"))]
    maps = {path.name for path in files if is_label_map(read_volume(path))}
    words = ("_lungs", "_nodule", "_organs", "amos", "totalsegmentator")
    assert maps == {path.name for path in files if any(word in path.name for word in words)}
