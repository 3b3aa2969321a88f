"""The parts of a lesion: which voxels they are, how dense each is to be, and that it is held."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import Moments
from lesionbrush.errors import InvalidRequest
from lesionbrush.lesions import RoiBatch
from lesionbrush.request import Attributes, parse_request
from lesionbrush.systems.lesion_density import (
    CORE_DEPTH_MM,
    CORE_DEPTH_SLICES,
    CORE_SHARES,
    FURTHEST,
    TYPICAL_LUNG_HU,
    Density,
    Draws,
    Grid,
    Painted,
    Part,
    capped,
    core_shares,
    drawn_core,
    held_parts,
    hold,
    lung_around,
    middle,
)
from scipy import ndimage

ITEMS = [(seed, lesion) for seed in range(40) for lesion in range(2)]
CORE_HU, GLASS_HU, LUNG_HU = (37.0, 30.0), (250.0, 60.0), -850.0
CALCIFIED_HU = (90.0, 120.0)
DENSITY = Density(CORE_HU, GLASS_HU, CALCIFIED_HU)
ALL, TWO = Draws(ITEMS), Draws(ITEMS[:2])
GRID = Grid(1.0)


def masks(count: int = 2) -> np.ndarray:
    """A ball of 8 mm radius, then one of 2.5 mm, and so on."""
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return np.stack([distance <= (8.0 if k % 2 == 0 else 2.5) for k in range(count)]).astype(np.float32)


def painted(masks: np.ndarray) -> Painted:
    return Painted(masks, masks, np.zeros(len(masks)), np.full(len(masks), LUNG_HU, np.float32))


def parts(texture: str = "solid", count: int = 2, variety: float = 1.0) -> list[Part]:
    wish, draws = Attributes.model_validate({"texture": texture}), Draws(ITEMS[:count], variety)
    return held_parts(wish, DENSITY, masks(count), painted(masks(count)), GRID, draws)


def test_the_middle_is_deep_inside_and_a_small_lesion_has_none() -> None:
    large, small = parts()[0].weights
    assert not small.any()
    depth_mm = ndimage.distance_transform_edt(masks()[0])
    assert np.array_equal(large > 0, depth_mm > CORE_DEPTH_MM)


def test_thick_slices_blur_more_of_a_lesion() -> None:
    ball = masks(1)[0]
    depth_mm = ndimage.distance_transform_edt(ball)
    assert np.array_equal(middle(ball, Grid(1.0, 3.0)), depth_mm > 3.0 * CORE_DEPTH_SLICES)
    assert np.array_equal(middle(ball, Grid(1.0, 0.6)), depth_mm > CORE_DEPTH_MM)
    assert not middle(ball, Grid(1.0, 5.0)).any()  # what is left of it is too small to be measured


def test_what_a_soft_border_blurs_is_not_the_middle() -> None:
    soft = ndimage.gaussian_filter(masks(1)[0], 1.5)[None]
    (part,) = held_parts(Attributes(), DENSITY, soft, painted(soft), GRID, Draws(ITEMS[:1]))
    assert 0 < part.weights.sum() < parts()[0].weights[0].sum()
    assert soft[part.weights > 0].min() > 0.95


@pytest.mark.parametrize(
    ("texture", "hu"), [("solid", CORE_HU), ("ground_glass", (LUNG_HU + GLASS_HU[0], GLASS_HU[1]))]
)
def test_draws_have_the_mean_of_real_ones_repeat_and_are_never_far_off(
    texture: str, hu: tuple[float, float]
) -> None:
    (part,) = parts(texture, len(ITEMS))
    assert part.mean_hu.mean() == pytest.approx(hu[0], abs=hu[1] / 3)
    assert 0.5 * hu[1] < part.mean_hu.std() < hu[1]
    assert np.abs(part.mean_hu - hu[0]).max() <= FURTHEST * hu[1] + 1e-3
    assert np.array_equal(part.mean_hu, parts(texture, len(ITEMS))[0].mean_hu)


def test_draws_stray_as_far_as_the_variety_says() -> None:
    full, half, none = (parts("solid", len(ITEMS), v)[0].mean_hu - CORE_HU[0] for v in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half, full / 2, atol=1e-4)
    assert not none.any()


def test_ground_glass_stands_out_from_the_lung_it_is_in() -> None:
    wish, lungs = Attributes(texture="ground_glass"), np.array([-930.0, -780.0])
    for asked in (wish, Attributes(texture="part_solid")):
        airy = Painted(masks(), masks(), np.zeros(2), lungs)
        glass = held_parts(asked, DENSITY, masks(), airy, GRID, Draws(ITEMS[:2], 0.0))[0]
        np.testing.assert_allclose(glass.mean_hu, lungs + GLASS_HU[0])


def in_lung(hu: np.ndarray) -> RoiBatch:
    return RoiBatch(hu[None], masks(1), masks(1) > 0, np.ones_like(masks(1), dtype=bool))


def test_the_lung_around_is_measured_beyond_the_margin_and_without_vessels() -> None:
    away_mm = ndimage.distance_transform_edt(masks(1)[0] == 0)
    hu = np.where(away_mm > 8, -300.0, np.where(away_mm > 3, -905.0, 40.0)).astype(np.float32)
    hu[:, 12:14, :] = 30.0  # a vessel, or the chest wall
    assert lung_around(in_lung(hu)) == pytest.approx([-905.0])


def test_the_lung_around_a_lesion_smaller_than_a_voxel() -> None:
    hu, dot = np.full((24,) * 3, -905.0, np.float32), np.zeros((1, 24, 24, 24), np.float32)
    dot[0, 12, 12, 12] = 0.3
    hu[:2, :2, :2] = -600  # far away
    found = lung_around(RoiBatch(hu[None], dot, dot > 0, np.ones(dot.shape, bool)))
    assert found == pytest.approx([-905.0])


def test_without_lung_around_it_is_taken_as_typical() -> None:
    hu = np.full((24,) * 3, 40.0, np.float32)
    assert lung_around(in_lung(hu)) == pytest.approx([TYPICAL_LUNG_HU])
    outside = RoiBatch(hu[None] - 900, masks(1), masks(1) > 0, np.zeros((1, 24, 24, 24), bool))
    assert lung_around(outside) == pytest.approx([TYPICAL_LUNG_HU])


def test_a_calcified_lesion_is_held_as_a_whole_whatever_its_texture() -> None:
    for texture in ("solid", "part_solid"):
        wish = Attributes.model_validate({"texture": texture, "calcification": "solid"})
        (part,) = held_parts(wish, DENSITY, masks(len(ITEMS)), painted(masks(len(ITEMS))), GRID, ALL)
        assert np.array_equal(part.weights, masks(len(ITEMS)))
        assert part.mean_hu.mean() == pytest.approx(CALCIFIED_HU[0], abs=40)
        assert held_parts(wish, Density(CORE_HU, GLASS_HU), masks(), painted(masks()), GRID, TWO) == []


@pytest.mark.parametrize("asked", [{"texture": "ground_glass"}, {"calcification": "solid"}])
def test_the_mean_over_a_whole_lesion_is_that_on_the_ct(asked: dict) -> None:
    """Of all that was painted, however much narrower it is made; detail of the CT that stays counts too."""
    wish, narrow = Attributes.model_validate(asked), 0.8 * masks()
    counted = np.random.default_rng(0).random(masks().shape)
    (part,) = held_parts(
        wish, DENSITY, narrow, Painted(masks(), counted, np.zeros(2), np.zeros(2)), GRID, TWO
    )
    assert np.array_equal(part.weights, counted)
    assert np.array_equal(part.region, masks())
    kept = Painted(masks(), counted, np.array([10.0, -20.0]), np.zeros(2))
    (other,) = held_parts(wish, DENSITY, narrow, kept, GRID, TWO)
    np.testing.assert_allclose(part.mean_hu - other.mean_hu, [10, -20], atol=1e-3)


def test_a_part_solid_lesion_is_a_core_in_ground_glass() -> None:
    halo, core, _ = parts("part_solid")
    assert np.allclose(halo.region + core.region, masks())
    share = core.region[0].sum() / masks()[0].sum()
    assert CORE_SHARES[0] - 0.03 < share < CORE_SHARES[1] + 0.03
    depth_mm = ndimage.distance_transform_edt(masks()[0])
    assert depth_mm[core.region[0] > 0.5].mean() > depth_mm[halo.region[0] > 0.5].mean()
    assert (halo.mean_hu < core.mean_hu).all()


def test_the_wish_for_a_core_counts_its_blurred_border() -> None:
    """HU that are its density where it covers, ground glass where not, mixed between, have that mean."""
    halo, core, _ = parts("part_solid")
    glass, solid = parts("ground_glass")[0].mean_hu, parts("solid")[0].mean_hu
    mixed = glass[:, None, None, None] + core.region * (solid - glass)[:, None, None, None]
    weights = core.weights / core.weights.sum(axis=(1, 2, 3), keepdims=True)
    assert (weights * mixed).sum(axis=(1, 2, 3)) == pytest.approx(core.mean_hu, abs=0.5)
    assert np.array_equal(halo.mean_hu, glass)


def test_a_part_solid_lesion_as_a_whole_is_as_dense_as_its_parts() -> None:
    """Also one that is too small for its core to be resolved, or is narrowed."""
    asked, draws = Attributes(texture="part_solid", solid_share=0.3), Draws(ITEMS[:2], 0.0)
    whole = held_parts(asked, DENSITY, 0.8 * masks(), painted(masks()), GRID, draws)[2]
    assert np.array_equal(whole.region, masks())
    assert whole.mean_hu == pytest.approx([0.7 * (LUNG_HU + GLASS_HU[0]) + 0.3 * CORE_HU[0]] * 2)


def test_cores_differ_repeat_and_an_empty_mask_has_none() -> None:
    first, again, other = (drawn_core(masks()[0], 1.0, 0.4, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not drawn_core(np.zeros((8, 8, 8), np.float32), 1.0, 0.4, np.random.default_rng(0)).any()


@pytest.mark.parametrize("share", [0.1, 0.27, 0.8])
def test_a_core_takes_the_share_that_was_asked_for(share: float) -> None:
    wish = Attributes(texture="part_solid", solid_share=share)
    core = held_parts(wish, DENSITY, masks(), painted(masks()), GRID, TWO)[1].region
    assert (core[0] > 0.5).sum() / masks()[0].sum() == pytest.approx(share, abs=0.06)


def test_shares_left_open_are_those_of_real_ones_and_alike_without_variety() -> None:
    wish = Attributes(texture="part_solid")
    shares = core_shares(wish, ALL)
    assert CORE_SHARES[0] < shares.min() < CORE_SHARES[0] + 0.05
    assert CORE_SHARES[1] - 0.05 < shares.max() < CORE_SHARES[1]
    typical = core_shares(wish, Draws(ITEMS, 0.0))
    assert typical == pytest.approx([sum(CORE_SHARES) / 2] * len(ITEMS))


@pytest.mark.parametrize("texture", ["solid", "ground_glass", None])
def test_a_share_of_a_core_belongs_to_part_solid_lesions(texture: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"solid_share.*part_solid"):
        parse_request({"attributes": {"texture": texture, "solid_share": 0.3}})


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 1),
        ({"calcification": "none"}, 1),
        ({"texture": "ground_glass"}, 1),
        ({"texture": "part_solid"}, 3),
        ({"calcification": "solid"}, 1),
        ({"calcification": "solid", "mean_hu": 200}, 0),
        ({"texture": None}, 0),
        ({"mean_hu": -100}, 0),
        ({"lesion": "none"}, 0),
    ],
)
def test_only_a_density_left_open_is_held(asked: dict, count: int) -> None:
    wish = Attributes.model_validate(asked)
    assert len(held_parts(wish, DENSITY, masks(), painted(masks()), GRID, TWO)) == count
    assert held_parts(wish, Density(None, None), masks(), painted(masks()), GRID, TWO) == []


def test_the_middle_is_held_and_lesions_without_one_are_left_alone() -> None:
    region = torch.from_numpy(masks())[:, None]
    counted = torch.from_numpy(parts()[0].weights)[:, None]
    estimate = torch.where(region > 0, -0.1, -0.85)
    wish = Moments(region, counted, torch.tensor([0.04, 0.04]), None, -0.85)
    found = hold(lambda x, t: estimate, wish, schedules.cosine(1000))(estimate, 500)
    assert float(found[0][counted[0] > 0].mean()) == pytest.approx(0.04, abs=1e-4)
    assert torch.equal(found[1], estimate[1])


def test_nothing_in_a_core_exceeds_the_most_until_only_grain_is_left() -> None:
    region = torch.from_numpy(masks())[:, None]
    estimate, most = torch.full_like(region, 0.5), torch.tensor([0.1, 0.7])
    found = capped(lambda x, t: estimate, region, most, schedules.cosine(1000))
    assert float(found(estimate, 500)[0][region[0] > 0].max()) == pytest.approx(0.1)
    assert torch.equal(found(estimate, 500)[1], estimate[1])
    assert torch.equal(found(estimate, 500)[0][region[0] == 0], estimate[0][region[0] == 0])
    assert torch.equal(found(estimate, 3), estimate)
