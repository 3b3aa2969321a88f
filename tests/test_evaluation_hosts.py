"""Places in whole chests, masks painted there, and what a removal leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import ball, save_chest
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.hosts import Host, load_hosts, sheetness
from lesionbrush.evaluation.remains import deviation_hu, grain_ratio, residual_hu, vessel_share
from scipy import ndimage

PATIENT = "LIDC-IDRI-0001"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("data")
    save_chest(folder / "chest_ct", PATIENT, np.random.default_rng(0))
    (found,) = load_hosts(folder)
    return found


def test_a_chest_comes_with_its_lungs_and_nodules(host: Host, tmp_path: Path) -> None:
    assert (host.name, host.lungs is not None, len(host.nodules)) == (PATIENT, True, 1)
    assert load_hosts(tmp_path) == []


def test_places_are_what_their_names_say(host: Host) -> None:
    sites = dict(host.sites(5.0))
    assert {"pleura", "mediastinum", "open lung"} <= set(sites)
    lungs = host.lungs.array > 0
    depth = ndimage.distance_transform_edt(lungs)
    middle = lungs.shape[0] / 2
    assert abs(sites["pleura"][0] - middle) > abs(sites["mediastinum"][0] - middle)
    assert depth[tuple(sites["pleura"])] < 8
    assert depth[tuple(sites["open lung"])] > 10


def test_a_blob_has_about_the_size_asked_for(host: Host) -> None:
    mask = host.blob(np.array((25, 40, 35)), 8.0, seed=3).array
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.4)
    assert mask[25, 40, 35]
    assert ndimage.label(mask)[1] == 1
    assert host.blob(np.array((1, 1, 1)), 0.1).array.sum() == 1


def test_thick_slices_are_means_of_thin_ones(host: Host) -> None:
    thick = host.thick(5.0)
    assert thick.ct.spacing_mm[2] == pytest.approx(5)
    assert thick.ct.array[10, 10, 2] == pytest.approx(host.ct.array[10, 10, 10:15].mean(), abs=0.51)
    assert thick.ct.affine[2, 3] == pytest.approx(host.ct.affine[2, 3] + 2)


def test_a_plate_is_a_sheet_and_a_vessel_is_none() -> None:
    plate = np.full((30, 30, 30), -850.0)
    vessel = plate.copy()
    plate[15] = -600
    vessel[15, 15] = -600
    on_plate, on_vessel = (sheetness(ndimage.gaussian_filter(x, 1))[15, 15, 15] for x in (plate, vessel))
    assert on_plate > 20 > 5 > on_vessel


def test_what_a_removal_leaves() -> None:
    inside = ball((30, 30, 30), (15, 15, 15), 5)
    lung = np.random.default_rng(0).normal(-850, 20, inside.shape)
    spacing_mm = (1.0, 1.0, 1.0)
    assert residual_hu(lung, inside, spacing_mm, 3.0) == pytest.approx(0, abs=5)
    assert residual_hu(lung + 100 * inside, inside, spacing_mm, 3.0) == pytest.approx(100, abs=5)
    assert grain_ratio(lung, inside, spacing_mm, 3.0) == pytest.approx(1, abs=0.2)
    assert grain_ratio(np.where(inside, -850, lung), inside, spacing_mm, 3.0) == 0
    assert vessel_share(lung, inside, spacing_mm, 3.0) == 0
    vessel = inside & (np.indices(inside.shape)[0] == 15)
    share = vessel.sum() / inside.sum()
    assert vessel_share(np.where(vessel, -100, lung), inside, spacing_mm, 3.0) == pytest.approx(share)
    assert np.isnan(vessel_share(np.zeros_like(lung), inside, spacing_mm, 3.0))
    before, after = (Volume(np.where(inside, hu, 0).astype(np.int16), np.eye(4)) for hu in (-850, -820))
    assert deviation_hu(after, before, before.with_array(inside.astype(np.uint8))) == 30


def test_places_lie_deep_in_the_lungs_and_repeat(host: Host) -> None:
    first, again = (host.places(3, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    depth = ndimage.distance_transform_edt(host.lungs.array > 0)
    assert len(first) == 3
    assert all(depth[tuple(place)] > 10 for place in first)
    assert len(host.places(10**6, np.random.default_rng(1))) < 10**5
