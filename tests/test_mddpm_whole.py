"""Whole slices along an anatomy map: grid, labels, lesion, texture, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import ball, make_ct
from lesionbrush.core.generate import Frame, Generation, generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest, LesionBrushError, NoLungs
from lesionbrush.phantom.chest import chest_phantom
from lesionbrush.systems import parse_request
from lesionbrush.systems.mddpm.guidance_images import guidance_images
from lesionbrush.systems.mddpm.maps import draw_map, load_shapes, sample_map
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest
from lesionbrush.systems.mddpm.slices import MDDPM
from lesionbrush.systems.mddpm.whole import MDDPMWhole, WholeScene, grid_of, lung_dice, rois_of
from lesionbrush.systems.mddpm.whole_hooks import frame_of
from mddpm_kit import guided_card, slice_network

SMALL: dict[str, Any] = {"side": 64, "spacing_mm": 5.0, "steps": 2}


@pytest.fixture(scope="module")
def model() -> MDDPMWhole:
    card = guided_card("mddpm")
    return MDDPMWhole(MDDPM(card, slice_network(card), torch.device("cpu")))


def made(model: MDDPMWhole, inputs: Inputs | None = None, **wishes: Any) -> list[Generation]:
    request = parse_request({**SMALL, **wishes}, "mddpm_whole")
    return generate(request, model, inputs or Inputs())


def frame(**wishes: Any) -> Frame:
    request = parse_request({**SMALL, **wishes}, "mddpm_whole")
    return frame_of(request, Inputs(), None)


def test_a_slab_lies_as_scanners_store_it(model: MDDPMWhole) -> None:
    (one,) = made(model, slices=3, slice_mm=2.5)
    assert one.ct.array.dtype == np.int16
    assert one.ct.shape == (64, 64, 3)
    np.testing.assert_allclose(one.ct.affine[:3, :3], np.diag([-5.0, -5.0, 2.5]))
    np.testing.assert_allclose(one.ct.corners_mm().mean(axis=0), 0, atol=1e-6)


def test_it_says_that_it_was_generated(model: MDDPMWhole) -> None:
    (one,) = made(model)
    record = one.provenance
    assert record.generated
    assert record.reference_sha256 is None
    assert record.voxels_changed == one.ct.array.size
    assert "generated" in record.notice
    assert record.note.startswith("SYNTHETIC GENERATED")
    assert any("Dice" in remark for remark in record.remarks)


def test_a_sampled_map_gives_its_structures(model: MDDPMWhole) -> None:
    (one,) = made(model, slices=2)
    assert one.layout is not None
    assert list(one.layout.names.values()) == ["body", "right lung", "left lung", "mediastinum", "spine"]
    assert one.layout.labels.shape == one.ct.shape
    right, left, spine = (np.argwhere(one.layout.mask(name)).mean(axis=0) for name in
                          ("right lung", "left lung", "spine"))  # fmt: skip
    ras = [(one.ct.affine @ (*place, 1))[:3] for place in (right, left, spine)]
    assert ras[0][0] > 20 > -20 > ras[1][0]
    assert ras[2][1] < min(ras[0][1], ras[1][1])


def test_variants_are_what_their_seeds_give_alone(model: MDDPMWhole) -> None:
    first, second = made(model, seed=7, variants=2)
    assert not np.array_equal(first.ct.array, second.ct.array)
    assert np.array_equal(second.ct.array, made(model, seed=8)[0].ct.array)


def map_volume(seed: int = 0, slices: int = 1) -> tuple[Volume, np.ndarray]:
    """A map as a volume on the frame of the requests, and its labels (Z, Y, X)."""
    wanted = frame(slices=slices)
    request = parse_request({**SMALL, "slices": slices}, "mddpm_whole")
    found = sample_map(load_shapes(), grid_of(wanted, request), 1.0, 1.0, seed)
    stored = np.rint(found.hu).astype(np.int16)[:, ::-1, ::-1].transpose(2, 1, 0)
    return Volume(np.asfortranarray(stored), wanted.affine), found.labels


def test_what_is_where_in_a_map_that_was_sent_follows_from_its_levels(model: MDDPMWhole) -> None:
    sent, labels = map_volume()
    (one,) = made(model, Inputs(anatomy=sent))
    assert one.layout is not None
    read = one.layout.labels.array.transpose(2, 1, 0)[:, ::-1, ::-1]
    assert (read == labels).mean() > 0.995
    np.testing.assert_allclose(one.ct.affine, sent.affine, atol=1e-6)


def test_a_map_of_several_slices_gives_as_many(model: MDDPMWhole) -> None:
    sent, _ = map_volume(slices=4)
    assert made(model, Inputs(anatomy=sent))[0].ct.shape[2] == 4


def a_layout(names: dict[int, str]) -> Layout:
    labels = np.zeros((64, 64, 1), np.uint8)
    labels[8:56, 8:56] = 3
    labels[12:28, 16:48] = 7
    return Layout(Volume(labels, frame().affine), names)


def test_a_layout_is_drawn_with_what_its_names_show(model: MDDPMWhole) -> None:
    layout = a_layout({3: "body", 7: "lung_upper_lobe_right"})
    drawn = draw_map(layout, frame())
    assert set(np.unique(drawn.hu)) == {-1000.0, -850.0, 0.0}
    assert drawn.lungs.sum() == 16 * 32
    (one,) = made(model, Inputs(layout=layout))
    assert one.layout is not None
    assert np.array_equal(one.layout.mask("lung_upper_lobe_right"), layout.mask("lung_upper_lobe_right"))


LESION_CT = make_ct((30, 30, 30), np.diag([1.0, 1.0, 1.0, 1.0]))
PATHOLOGY = Inputs(pathology=LESION_CT, pathology_mask=ball(LESION_CT, (14, 15, 16), 8))


def test_a_lesion_lies_where_it_is_wanted_and_is_labelled(model: MDDPMWhole) -> None:
    (one,) = made(model, PATHOLOGY, lesion_right_mm=-60, lesion_front_mm=20, slices=3, slice_mm=4.0)
    assert one.layout is not None
    places = np.argwhere(one.layout.mask("lesion"))
    ras = (one.ct.affine @ (*places.mean(axis=0), 1))[:3]
    np.testing.assert_allclose(ras, (-60, 20, 0), atol=3.0)
    assert one.provenance.in_mask is not None
    assert one.provenance.in_mask.voxels == len(places)


def test_a_place_that_is_drawn_lies_in_the_lungs(model: MDDPMWhole) -> None:
    for seed in range(4):
        (one,) = made(model, PATHOLOGY, seed=seed)
        assert one.layout is not None
        without = made(model, seed=seed)[0].layout
        assert without is not None
        lungs = without.mask("right lung") | without.mask("left lung")
        assert lungs[one.layout.mask("lesion")].all()


def test_a_texture_that_is_followed_finely_is_said_to_show_its_patient(model: MDDPMWhole) -> None:
    chest = chest_phantom(0).volume
    coarse, fine = (
        made(model, Inputs(texture=chest), texture={"factor": factor})[0].provenance.remarks
        for factor in (64, 4)
    )
    assert not any("patient" in remark for remark in coarse)
    assert any("down to 20 mm" in remark for remark in fine)


def test_the_overlap_of_lungs_is_that_of_sets() -> None:
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, :, :2] = 1
    labels[0, :, 2:] = 2
    hu = np.where(labels == 1, -800.0, 0.0)
    hu[0, :2, 0] = 0
    drawn = sample_map(load_shapes(), grid_of(frame(), parse_request(SMALL, "mddpm_whole")), 1.0, 0.0, 0)
    anatomy = type(drawn)(hu, labels, {1: "lung", 2: "body"})
    assert lung_dice(anatomy, hu) == pytest.approx(2 * 6 / (6 + 8))


REFUSED: dict[str, tuple[Inputs, dict[str, Any], type[LesionBrushError], str]] = {
    "two maps": (
        Inputs(anatomy=map_volume()[0], layout=a_layout({3: "body", 7: "lung"})),
        {}, InvalidRequest, "two maps",
    ),
    "a name that is not known": (
        Inputs(layout=a_layout({3: "body", 7: "teapot"})), {}, InvalidRequest, "teapot",
    ),
    "a label without a name": (Inputs(layout=a_layout({3: "body"})), {}, InvalidRequest, "7 have no name"),
    "a layout elsewhere": (
        Inputs(layout=Layout(Volume(np.zeros((4, 4, 1), np.uint8), np.eye(4)), {1: "body"})),
        {}, InvalidRequest, "nothing of it",
    ),
    "nothing to follow": (Inputs(), {"texture": {"factor": 4}}, InvalidRequest, "texture"),
    "no map to follow": (Inputs(), {"anatomy": {"factor": 0}}, InvalidRequest, "anatomy.factor 0"),
    "a factor that does not fit": (Inputs(), {"anatomy": {"factor": 7}}, InvalidRequest, "does not divide"),
    "too many voxels": (Inputs(), {"side": 512, "slices": 128}, InvalidRequest, "fewer slices"),
    "a place off the slice": (
        PATHOLOGY, {"lesion_right_mm": 250, "lesion_front_mm": 0}, InvalidRequest, "ends 158 mm",
    ),
    "half a place": (Inputs(), {"lesion_right_mm": 20}, InvalidRequest, "belong together"),
    "a lesion that fits nowhere": (
        Inputs(pathology=make_ct((99, 99, 99)), pathology_mask=ball(make_ct((99, 99, 99)), (49, 49, 49), 70)),
        {}, InvalidRequest, "no place",
    ),
    "a texture without lungs": (
        Inputs(texture=make_ct((40, 40, 40)).with_array(np.full((40, 40, 40), -5, np.int16))), {}, NoLungs,
        "texture",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(case: str, model: MDDPMWhole) -> None:
    inputs, wishes, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        made(model, inputs, **wishes)


def test_a_grid_that_is_asked_for_is_refused(model: MDDPMWhole) -> None:
    with pytest.raises(InvalidRequest, match="slices of its own"):
        generate(parse_request(SMALL, "mddpm_whole"), model, frame=frame())


def test_outside_the_body_and_the_lesion_the_map_alone_is_followed() -> None:
    """The guides of texture and lesion act where there is body, and lesion."""
    anatomy = draw_map(a_layout({3: "body", 7: "lung_upper_lobe_right"}), frame())
    coverage = np.zeros(anatomy.hu.shape, np.float32)
    coverage[0, 30:33, 40:43] = 1
    grid = grid_of(frame(), parse_request(SMALL, "mddpm_whole"))
    rois = rois_of(WholeScene(anatomy, anatomy.hu, anatomy.hu, coverage), grid)
    images = {
        image.name: image for image in guidance_images(rois, MDDPMRequest(reference=Guide(factor=8)), (2, 3))
    }
    assert images["anatomy"].where is None
    assert images["reference"].where is not None
    assert images["pathology"].where is not None
    assert np.array_equal(images["reference"].where[0] > 0, anatomy.labels > 0)
    assert np.array_equal(images["pathology"].where[0] == 1, coverage == 1)
    assert not images["pathology"].where[0, 0, :20].any()
