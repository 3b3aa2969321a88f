"""Lung that gives way to fluid, and a CT that is taken from elsewhere, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_fixtures import FakeModel, tiny_card
from lesionbrush.core.model import PLAIN
from lesionbrush.core.request import EditRequest
from lesionbrush.core.roi import read_between
from lesionbrush.core.rois import Sampled
from lesionbrush.core.synthesize import synthesize
from lesionbrush.systems.medsyn.finding.giving_way import FADES_MM, FADES_SHARE, give_way
from test_medsyn_finding import chest


class TestGiveWay:
    """A slab of lung, its lowest voxels fluid: everything is known along one axis."""

    SPACING_MM = np.array([2.0, 2.5, 3.0])

    def slab(self) -> tuple[np.ndarray, np.ndarray]:
        lung = np.zeros((60, 40, 40), bool)
        lung[5:55, 2:38, 2:38] = True
        fluid = lung.copy()
        fluid[20:] = False
        return fluid, lung

    def test_what_the_fluid_took_the_place_of_lies_beside_it(self) -> None:
        way = give_way(*self.slab(), self.SPACING_MM)
        z_mm, y_mm, x_mm = way.pull_mm[:, :, 20, 20]
        away_mm = 2.0 * np.arange(1, 20)
        wanted = -30.0 * np.exp(-away_mm / (FADES_SHARE * 30.0 + FADES_MM))
        assert z_mm[23:39] == pytest.approx(wanted[3:], abs=0.8)  # nearer to the fluid it is averaged
        assert abs(y_mm[:40]).max() < 0.3 > abs(x_mm[:40]).max()
        at = np.arange(60) + z_mm / 2.0
        assert (np.diff(at[20:]) > 0).all(), "lung is folded"
        assert way.dense[20, 20, 20] > 0.95
        assert (np.diff(way.dense[20:45, 20, 20]) <= 0).all()

    def test_nothing_is_drawn_in_from_the_wall(self) -> None:
        fluid, lung = self.slab()
        way = give_way(fluid, lung, self.SPACING_MM)
        moved = np.argwhere(way.pull_mm.any(axis=0))
        z, y, x = moved.T
        far = way.pull_mm[:, z, y, x].T / self.SPACING_MM
        assert len(moved) > 1000
        assert lung[tuple(np.rint(moved + far).astype(int).T)].all()

    def test_lung_behind_a_wall_stays(self) -> None:
        fluid, lung = self.slab()
        lung[:, :, 18:20] = False
        fluid[:, :, 18:] = False
        way = give_way(fluid, lung, self.SPACING_MM)
        assert way.dense[20, 20, 10] > 0.9
        assert not (way.dense * lung)[:, :, 20:].any()
        assert not way.pull_mm[..., 20:].any()

    def test_of_no_fluid_comes_nothing(self) -> None:
        _, lung = self.slab()
        for fluid in (np.zeros_like(lung), ~lung):
            way = give_way(fluid, lung, self.SPACING_MM)
            assert not way.pull_mm.any()
            assert not way.dense.any()


def test_a_pull_takes_the_ct_from_elsewhere_with_its_edges() -> None:
    ct, lungs = chest()
    ramp = np.arange(ct.shape[2])[None, None] * 10 + np.arange(ct.shape[0])[:, None, None]
    ct = ct.with_array((ct.array * 0 + ramp - 700).astype(np.int16))

    class Pulls(FakeModel):
        def sample(self, rois: Any, *rest: Any, **more: Any) -> Sampled:
            whole = np.zeros((1, *rois.reference_hu.shape), np.float32)
            pull = np.zeros((1, len(rois.reference_hu), 3, *rois.reference_hu.shape[1:]), np.float32)
            pull[:, :, 0] = 9.0
            return Sampled(whole, "fake", kept=np.ones_like(whole), pull_mm=pull)

    fake = Pulls(lambda rois: rois.reference_hu, tiny_card(roi_voxels=(96,), spacing_mm=6.0), [], PLAIN)
    (made,) = synthesize(ct, lungs, EditRequest(margin_mm=0, label=1), fake)
    inside = lungs.array == 1
    change = made.volume().array.astype(int) - ct.array
    wanted = round(10 * 9.0 / ct.spacing_mm[2]) * (1 if ct.affine[2, 2] > 0 else -1)
    deep = inside.copy()
    deep[:, :, -4:] = deep[:, :, :4] = False
    assert (change[deep] == wanted).all()
    assert not change[~inside].any()
    assert read_between(ct.array, np.array([[3.0], [50.0], [2.25]])) == pytest.approx(
        [10 * 2.25 + 3 - 700], abs=0.1
    ), "beyond its border its edge goes on"
