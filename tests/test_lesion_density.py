"""The parts of a lesion: which voxels they are, how dense each is to be, and that it is held."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.systems.lesion_inpainting.attributes import typical_solid_share
from lesionbrush.systems.lesion_inpainting.card import SmallSolid
from lesionbrush.systems.lesion_inpainting.laws import LAWS
from lesionbrush.systems.lesion_inpainting.laws.cores import FURTHEST, SHARE_STRAYS, LesionDraws
from lesionbrush.systems.lesion_inpainting.laws.density import (
    CORE_DEPTH_MM,
    CORE_DEPTH_SLICES,
    Densities,
    Density,
    RoiSpacing,
    find_middle,
)
from lesionbrush.systems.lesion_inpainting.laws.haze import find_inner, is_even
from lesionbrush.systems.lesion_inpainting.laws.law import DensityLaw
from lesionbrush.systems.lesion_inpainting.laws.painted import Painted, Part
from lesionbrush.systems.lesion_inpainting.request import Attributes
from scipy import ndimage

ITEMS = [(seed, lesion) for seed in range(40) for lesion in range(2)]
CORE_HU, GLASS_HU, LUNG_HU = (37.0, 30.0), (250.0, 60.0), -850.0
DENSITY = Density(CORE_HU, GLASS_HU)
ALL, TWO = LesionDraws(ITEMS), LesionDraws(ITEMS[:2])
GRID = RoiSpacing(1.0)


def masks(count: int = 2) -> np.ndarray:
    """A ball of 8 mm radius, then one of 2.5 mm, and so on."""
    distance = np.linalg.norm(np.stack(np.indices((24,) * 3), -1) - 11.5, axis=-1)
    return np.stack([distance <= (8.0 if k % 2 == 0 else 2.5) for k in range(count)]).astype(np.float32)


def painted(masks: np.ndarray) -> Painted:
    lung_hu = np.full(len(masks), LUNG_HU, np.float32)
    return Painted(masks, masks, masks, masks, np.zeros(len(masks)), lung_hu, lung_hu)


def held_parts(
    wish: Attributes,
    density: Density,
    masks: np.ndarray,
    painted: Painted,
    grid: RoiSpacing,
    draws: LesionDraws,
) -> list[Part]:
    return all_parts(Densities(wish, density, masks, painted, grid, draws))


def all_parts(densities: Densities) -> list[Part]:
    """Of all laws, in the order in which they act."""
    return [part for law in LAWS.values() if isinstance(law, DensityLaw) for part in law.parts(densities)]


def parts(texture: str = "solid", count: int = 2, variety: float = 1.0) -> list[Part]:
    wish, draws = Attributes.model_validate({"texture": texture}), LesionDraws(ITEMS[:count], variety)
    return held_parts(wish, DENSITY, masks(count), painted(masks(count)), GRID, draws)


def test_the_middle_is_deep_inside_and_a_small_lesion_has_none() -> None:
    large, small = parts()[0].weights
    assert not small.any()
    depth_mm = ndimage.distance_transform_edt(masks()[0])
    assert np.array_equal(large > 0, depth_mm > CORE_DEPTH_MM)


def test_thick_slices_blur_more_of_a_lesion() -> None:
    ball = masks(1)[0]
    depth_mm = ndimage.distance_transform_edt(ball)
    assert np.array_equal(find_middle(ball, RoiSpacing(1.0, 3.0)), depth_mm > 3.0 * CORE_DEPTH_SLICES)
    assert np.array_equal(find_middle(ball, RoiSpacing(1.0, 0.6)), depth_mm > CORE_DEPTH_MM)
    assert not find_middle(ball, RoiSpacing(1.0, 5.0)).any()  # what is left of it is too small to be measured


def small_solid(variety: float, around_hu: float = LUNG_HU, slice_mm: float = 1.5) -> list[Part]:
    law = SmallSolid(
        base_hu=60, per_inverse_diameter=-1000, per_slice_mm=-40, per_hu_around=0.25, spread_hu=80
    )
    lesions = painted(masks())._replace(around_hu=np.full(2, around_hu, np.float32))
    draws = LesionDraws(ITEMS[:2], variety)
    return held_parts(
        Attributes(),
        Density(CORE_HU, None, small_solid=law),
        masks(),
        lesions,
        RoiSpacing(1.0, slice_mm),
        draws,
    )


def test_a_small_solid_lesion_is_as_dense_as_those_of_its_size() -> None:
    middle, whole = small_solid(0.0)
    assert not whole.weights[0].any()  # has a middle
    assert whole.weights[1].any()
    assert not middle.weights[1].any()
    diameter_mm = (6 * masks()[1].sum() / np.pi) ** (1 / 3)
    assert whole.mean_hu[1] == pytest.approx(60 - 1000 / diameter_mm - 40 * 1.5 + 0.25 * LUNG_HU, abs=0.1)
    assert small_solid(0.0, around_hu=-400)[1].mean_hu[1] > whole.mean_hu[1]
    assert small_solid(0.0, slice_mm=3)[1].mean_hu[1] < whole.mean_hu[1]
    half, full = (small_solid(variety)[1].mean_hu[1] - whole.mean_hu[1] for variety in (0.5, 1.0))
    assert half == pytest.approx(full / 2, abs=0.01)
    assert 0 < abs(full) <= 80 * FURTHEST


def test_nothing_is_typical_where_the_slices_are_unknown() -> None:
    law = SmallSolid(base_hu=0, per_inverse_diameter=0, per_slice_mm=0, per_hu_around=0, spread_hu=0)
    found = held_parts(
        Attributes(), Density(CORE_HU, None, small_solid=law), masks(), painted(masks()), GRID, TWO
    )
    assert len(found) == 1


def test_what_a_soft_border_blurs_is_not_the_middle() -> None:
    soft = ndimage.gaussian_filter(masks(1)[0], 1.5)[None]
    (part,) = held_parts(Attributes(), DENSITY, soft, painted(soft), GRID, LesionDraws(ITEMS[:1]))
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
        airy = painted(masks())._replace(lung_hu=lungs)
        found = Densities(asked, DENSITY, masks(), airy, GRID, LesionDraws(ITEMS[:2], 0.0))
        assert found.glass_hu == pytest.approx(lungs + GLASS_HU[0])


def test_the_mean_over_a_whole_lesion_is_that_on_the_ct() -> None:
    """Of all that was painted, however much narrower it is made; detail of the CT that stays counts too."""
    wish, narrow = Attributes(texture="ground_glass"), 0.8 * masks()
    counted = np.random.default_rng(0).random(masks().shape)
    bare = painted(masks())._replace(outline=narrow, counted=counted)
    (part,) = held_parts(wish, DENSITY, narrow, bare, GRID, TWO)
    assert np.array_equal(part.weights, counted)
    assert np.array_equal(part.region, masks())
    kept = bare._replace(kept_hu=np.array([10.0, -20.0]))
    (other,) = held_parts(wish, DENSITY, narrow, kept, GRID, TWO)
    np.testing.assert_allclose(part.mean_hu - other.mean_hu, [10, -20], atol=1e-3)


def test_a_part_solid_lesion_is_a_core_in_ground_glass() -> None:
    halo, core, _ = parts("part_solid")
    assert np.allclose(halo.region + core.region, masks())
    share = core.region[0].sum() / masks()[0].sum()
    typical = float(typical_solid_share(np.array(16.0)))
    assert typical - SHARE_STRAYS - 0.03 < share < typical + SHARE_STRAYS + 0.03
    depth_mm = ndimage.distance_transform_edt(masks()[0])
    assert depth_mm[core.region[0] > 0.5].mean() > depth_mm[halo.region[0] > 0.5].mean()
    assert (halo.mean_hu < core.mean_hu).all()


def test_the_wishes_for_a_core_and_for_glass_count_the_blurred_border() -> None:
    """HU that are its density where it covers, ground glass where not, mixed between, have that mean."""
    halo, core, _ = parts("part_solid")
    glass, solid = parts("ground_glass")[0].mean_hu, parts("solid")[0].mean_hu
    mixed = glass[:, None, None, None] + core.region * (solid - glass)[:, None, None, None]
    weights = core.weights / core.weights.sum(axis=(1, 2, 3), keepdims=True)
    assert (weights * mixed).sum(axis=(1, 2, 3)) == pytest.approx(core.mean_hu, abs=0.5)
    around = halo.weights / halo.weights.sum(axis=(1, 2, 3), keepdims=True)
    assert (around * mixed).sum(axis=(1, 2, 3)) == pytest.approx(halo.mean_hu, abs=0.5)


def test_a_part_solid_lesion_as_a_whole_is_no_denser_than_its_parts() -> None:
    """Also one that is too small for its core to be resolved, or is narrowed."""
    asked, draws = Attributes(texture="part_solid", solid_share=0.3), LesionDraws(ITEMS[:2], 0.0)
    narrow = 0.8 * masks()
    whole = held_parts(asked, DENSITY, narrow, painted(masks())._replace(outline=narrow), GRID, draws)[2]
    assert np.array_equal(whole.region, masks())
    assert whole.at_most  # what is darker stays
    assert whole.mean_hu == pytest.approx([0.7 * (LUNG_HU + GLASS_HU[0]) + 0.3 * CORE_HU[0]] * 2)


def test_a_soft_border_takes_from_the_mean_what_it_takes_from_the_lesion() -> None:
    """Held to the mean of a sharp one, its middle would have to be denser."""
    soft = ndimage.gaussian_filter(masks(), (0, 1.5, 1.5, 1.5))
    sharp, softened = (
        held_parts(Attributes(texture="ground_glass"), DENSITY, made, painted(masks()), GRID, TWO)[0]
        for made in (masks(), soft)
    )
    left = (soft * masks()).sum(axis=(1, 2, 3)) / masks().sum(axis=(1, 2, 3))
    assert softened.mean_hu - LUNG_HU == pytest.approx(left * (sharp.mean_hu - LUNG_HU), rel=1e-4)


def test_counting_beside_vessels_unless_they_are_most_of_a_lesion() -> None:
    vessels = np.zeros(masks().shape, bool)
    vessels[0, 11:13, 11:13], vessels[1] = True, True
    beside = painted(masks()).beside(vessels)
    assert not beside.counted[0][vessels[0]].any()
    assert beside.counted[0].sum() == pytest.approx(masks()[0].sum(), rel=1e-5)
    assert np.array_equal(beside.counted[1], masks()[1])


def test_ground_glass_is_moved_as_a_whole_and_kept_even_well_inside() -> None:
    found = Densities(Attributes(texture="ground_glass"), DENSITY, masks(), painted(masks()), GRID, TWO)
    inner = find_inner(found)
    assert is_even(found)
    assert all_parts(found)[0].even
    assert (inner <= (masks() > 0)).all()
    assert ndimage.distance_transform_edt(masks()[0])[inner[0]].min() > 1


def test_glass_is_kept_even_where_no_core_blurs_it() -> None:
    found = Densities(Attributes(texture="part_solid"), DENSITY, masks(), painted(masks()), GRID, TWO)
    cores = found.cores
    assert cores is not None
    assert is_even(found)
    assert not ndimage.binary_dilation(cores[0] > 0.05)[found.glass[0] > 0].any()
    assert not (find_inner(found) & (found.glass == 0)).any()


@pytest.mark.parametrize(
    "asked",
    [
        {"texture": "solid"},
        {"texture": "part_solid", "mean_hu": -300},
        {"heterogeneity_hu": 200},
        {"lesion": "none"},
    ],
)
def test_nothing_else_is_kept_as_even(asked: dict) -> None:
    wish = Attributes.model_validate({"texture": "ground_glass", **asked})
    assert not is_even(Densities(wish, DENSITY, masks(), painted(masks()), GRID, TWO))


@pytest.mark.parametrize("share", [0.1, 0.27, 0.8])
def test_a_core_takes_the_share_that_was_asked_for(share: float) -> None:
    wish = Attributes(texture="part_solid", solid_share=share)
    core = held_parts(wish, DENSITY, masks(), painted(masks()), GRID, TWO)[1].region
    assert (core[0] > 0.5).sum() / masks()[0].sum() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 1),
        ({"calcification": "none"}, 1),
        ({"texture": "ground_glass"}, 1),
        ({"texture": "part_solid"}, 3),
        ({"texture": None}, 0),
        ({"mean_hu": -100}, 0),
        ({"lesion": "none"}, 0),
    ],
)
def test_only_a_density_left_open_is_held(asked: dict, count: int) -> None:
    wish = Attributes.model_validate(asked)
    assert len(held_parts(wish, DENSITY, masks(), painted(masks()), GRID, TWO)) == count
    assert held_parts(wish, Density(None, None), masks(), painted(masks()), GRID, TWO) == []


def test_glass_and_core_of_one_lesion_are_drawn_apart() -> None:
    count, small = 500, np.ones((500, 1, 1, 1), np.float32)
    draws = LesionDraws([(seed, 0) for seed in range(count)])
    found = Densities(Attributes(texture="part_solid"), DENSITY, small, painted(small), GRID, draws)
    assert found.glass_hu is not None
    assert found.core_hu is not None
    assert abs(np.corrcoef(found.glass_hu, found.core_hu)[0, 1]) < 0.15
