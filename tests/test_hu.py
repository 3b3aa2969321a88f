"""The HU window maps both ways, clips one way, and takes numpy and torch alike."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from lesionbrush.core.hu import CompressiveHU, HUWindow

WINDOW = HUWindow(-1000.0, 600.0)
MAKERS = {"numpy": np.array, "torch": torch.tensor}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_window_ends_and_middle_and_clipping(make):
    unit = WINDOW.to_unit(make([-3000, -1000, -200, 600, 3000]))
    np.testing.assert_allclose(np.asarray(unit), [-1, -1, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_hu_inside_the_window_survives_the_round_trip(make):
    hu = make(np.arange(-1000, 601, dtype=np.int16).tolist())
    back = np.asarray(WINDOW.from_unit(WINDOW.to_unit(hu)))
    np.testing.assert_array_equal(np.rint(back), np.asarray(hu))


def test_nothing_is_clipped_on_the_way_back():
    np.testing.assert_allclose(WINDOW.from_unit(np.array([-1.5, 1.5])), [-1400, 1000])


def test_integers_become_float32_and_floats_keep_their_type():
    assert WINDOW.to_unit(np.zeros(2, np.int16)).dtype == np.float32
    assert WINDOW.to_unit(np.zeros(2, np.float64)).dtype == np.float64
    assert WINDOW.from_unit(np.zeros(2, np.float32)).dtype == np.float32
    assert WINDOW.to_unit(torch.zeros(2, dtype=torch.int16)).dtype == torch.float32
    assert WINDOW.to_unit(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64


def test_the_input_is_left_alone():
    hu = np.array([-2000.0, 0.0])
    WINDOW.to_unit(hu)
    assert hu.tolist() == [-2000.0, 0.0]


@pytest.mark.parametrize(("lo", "hi"), [(100, 100), (600, -1000), (-math.inf, 0), (0, math.nan)])
def test_an_empty_or_endless_window_is_refused(lo, hi):
    with pytest.raises(ValueError, match=f"got {lo} and {hi}"):
        HUWindow(lo, hi)


def test_importing_the_window_does_not_import_torch():
    code = "import sys, lesionbrush.core.hu; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": _app()}, check=False
        ).returncode
        == 0
    )


def _app() -> str:
    return next(path for path in sys.path if path.rstrip("/\\").endswith("app"))


SOFT = CompressiveHU(centre_hu=50.0, scale_hu=250.0, hu_per_unit=400.0)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_hu_a_scanner_stores_survives_the_compressive_scale(make):
    hu = make(np.arange(-1024, 3072, dtype=np.int16).tolist())
    back = np.asarray(SOFT.from_unit(SOFT.to_unit(hu)))
    np.testing.assert_array_equal(np.rint(back), np.asarray(hu))


def test_the_compressive_scale_is_finest_in_its_middle_and_symmetric():
    unit = SOFT.to_unit(np.array([50.0, 51.0, 300.0, 301.0, -200.0, 2050.0, 2051.0]))
    assert unit[0] == 0
    assert unit[1] == pytest.approx(1 / 400, rel=1e-3)
    assert unit[3] - unit[2] == pytest.approx(1 / 400 / math.sqrt(2), rel=1e-2)
    assert unit[4] == pytest.approx(-unit[2])
    assert unit[6] - unit[5] == pytest.approx(1 / 400 / math.hypot(1, 8), rel=1e-2)


def test_the_compressive_scale_makes_integers_float32():
    assert SOFT.to_unit(np.zeros(2, np.int16)).dtype == np.float32
    assert SOFT.from_unit(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("wrong", [(math.nan, 1, 1), (0, 0, 1), (0, 1, -2), (0, math.inf, 1)])
def test_a_compressive_scale_without_scale_is_refused(wrong):
    with pytest.raises(ValueError, match="positive scale_hu and hu_per_unit, got"):
        CompressiveHU(*wrong)
