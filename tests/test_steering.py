"""Volumes beside CT and mask: what reaches the model, what is refused, and what may change with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_fixtures import FakeModel, ball, make_ct, paints
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.roi import inner_ramp
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import (
    GeometryMismatch,
    InvalidRequest,
    LesionBrushError,
    NoLungs,
    NotACT,
    WeightsError,
)
from lesionbrush.systems import find_system
from lesionbrush.systems.lung_ddpm.hooks import WHOLE
from lesionbrush.systems.lung_ddpm.request import LungDDPMRequest
from lesionbrush.systems.mddpm.hooks import HOOKS, Followed
from lesionbrush.systems.mddpm.request import MDDPMRequest
from scipy.ndimage import distance_transform_edt

CT = make_ct()
MASK = ball(CT, (20, 18, 15), 5)
QUICK = MDDPMRequest(steps=1)
STEERED: dict[str, Any] = {"hooks": HOOKS}
LUNGS: dict[str, Any] = {"hooks": WHOLE, "roi_voxels": (32,), "spacing_mm": 1.0}


def asked(model: FakeModel, inputs: Inputs, request: Any = QUICK) -> RoiBatch:
    synthesize(CT, MASK, request, model, inputs)
    return model.asked[0]


def lungs(*bounds: tuple[int, int]) -> Volume:
    array = np.zeros(CT.shape, np.uint8)
    array[tuple(slice(low, high) for low, high in bounds)] = 2
    return CT.with_array(array)


WIDE = lungs((4, 36), (4, 32), (4, 26))


def test_what_is_not_sent_does_not_reach_the_model() -> None:
    followed = asked(paints(0.0, **STEERED), Inputs()).own
    assert isinstance(followed, Followed)
    assert followed.anatomy_hu is followed.pathology_hu is followed.pathology_mask is None
    assert asked(paints(0.0), Inputs()).own is None


def test_an_anatomy_map_is_on_the_rois_as_the_ct_is() -> None:
    rois = asked(paints(0.0, **STEERED), Inputs(anatomy=CT))
    np.testing.assert_allclose(rois.own.anatomy_hu.clip(-1000, 1000), rois.reference_hu, atol=1e-3)


@pytest.mark.parametrize("spacing_mm", [1.0, 0.7, 2.0])
def test_the_other_lesion_is_moved_under_the_painted_one_in_mm(spacing_mm: float) -> None:
    other = make_ct((50, 44, 40), np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0]), seed=4)
    lesion = ball(other, (13, 30, 22), 5)
    marked = other.with_array(np.where(lesion.array > 0, 300, other.array).astype(np.int16))
    rois = asked(paints(0.0, **STEERED), Inputs(pathology=marked, pathology_mask=lesion))
    ours, theirs = rois.mask[0], rois.own.pathology_mask[0]
    places = np.indices(ours.shape)
    for weights in (ours, theirs):
        assert weights.sum() > 0
    centres = [(places * w).sum(axis=(1, 2, 3)) / w.sum() for w in (ours, theirs)]
    np.testing.assert_allclose(*centres, atol=0.2)
    assert rois.own.pathology_hu[0][theirs > 0.99].min() > 0


def test_lungs_are_one_cube_around_lungs_and_mask() -> None:
    rois = asked(paints(0.0, **LUNGS), Inputs(lungs=WIDE), LungDDPMRequest(steps=1))
    assert rois.own.shape == (1, 32, 32, 32)
    assert rois.spacing_mm == pytest.approx((22 * 1.5 + 16) / 32)  # the longest side, with 8 mm of context
    volume_mm3 = float(rois.own.sum()) * rois.spacing_mm**3
    assert volume_mm3 == pytest.approx((WIDE.array > 0).sum() * CT.voxel_volume_mm3, rel=0.02)


@pytest.mark.parametrize("region", ["edit", "lungs"])
def test_only_the_chosen_region_changes(region: str) -> None:
    request = LungDDPMRequest.model_validate({"steps": 1, "region": region, "margin_mm": 3})
    made = synthesize(CT, MASK, request, paints(500.0, **LUNGS), Inputs(lungs=WIDE))[0]
    changed = made.volume().array != CT.array
    edit = distance_transform_edt(MASK.array == 0, sampling=CT.spacing_mm) <= 3
    allowed = edit | (WIDE.array > 0) if region == "lungs" else edit
    assert not (changed & ~allowed).any()
    assert (changed & allowed).sum() > 0.9 * allowed.sum() * (0.5 if region == "edit" else 0.9)
    assert made.provenance.inputs_sha256 == {"lungs": WIDE.voxel_sha256}


def test_an_inner_ramp_rises_from_the_surface_and_not_from_the_edge_of_the_array() -> None:
    mask = np.zeros((3, 3, 12), bool)
    mask[:, :, :8] = True
    row = inner_ramp(mask, 1.0, 4.0)[1, 1]
    s = np.clip((8 - np.arange(12)) / 4, 0, 1)
    np.testing.assert_allclose(row, s * s * (3 - 2 * s), atol=1e-6)
    assert np.array_equal(inner_ramp(mask, 1.0, 0.0), mask)


ELSEWHERE = Volume(WIDE.array, CT.affine + np.array([[0, 0, 0, 40.0], *np.zeros((3, 4))]))
REFUSED: dict[str, tuple[dict[str, Any], Inputs, type[LesionBrushError], str]] = {
    "not taken": ({}, Inputs(anatomy=CT), InvalidRequest, "anatomy.*takes no such volume"),
    "half a pair": (STEERED, Inputs(pathology=CT), InvalidRequest, "belong together"),
    "another size": (STEERED, Inputs(anatomy=make_ct((30, 30, 30))), GeometryMismatch, "30 x 30 x 30"),
    "no HU": (STEERED, Inputs(anatomy=CT.with_array(np.abs(CT.array))), NotACT, "not HU"),
    "pathology is no CT": (
        STEERED,
        Inputs(pathology=CT.with_array(np.abs(CT.array)), pathology_mask=MASK),
        NotACT,
        "pathology: ",
    ),
    "empty lungs": (
        LUNGS,
        Inputs(lungs=CT.with_array(np.zeros(CT.shape, np.uint8))),
        NoLungs,
        "^lungs: the volume that was sent is empty",
    ),
    "lungs elsewhere": (LUNGS, Inputs(lungs=ELSEWHERE), GeometryMismatch, "lungs: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_sampled(case: str) -> None:
    kind, inputs, error, text = REFUSED[case]
    model = paints(0.0, **kind)
    with pytest.raises(error, match=text):
        synthesize(CT, MASK, LungDDPMRequest(steps=1), model, inputs)
    assert not model.asked


def test_requests_are_known_by_system() -> None:
    assert find_system("mddpm_3d").request is MDDPMRequest
    with pytest.raises(WeightsError, match="'no_such' is not known; known are lesion_inpainting, "):
        find_system("no_such")
