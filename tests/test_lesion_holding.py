"""What estimates are held to, on a network that sees nothing but an even cloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import tiny_card
from lesionbrush.core.hu import HUWindow
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.card import Calcium, LesionCard
from lesionbrush.systems.lesion_inpainting.laws.density import GLASS_STRAYS_HU
from lesionbrush.systems.lesion_inpainting.laws.holding import Holding
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import drawn, drawn_shape
from scipy import ndimage

SHAPE, LUNG_HU, GLASS_HU, CORE_HU = (32,) * 3, -860.0, -610.0, 40.0
CARD = LesionCard.of(tiny_card()).model_copy(
    update={"core_hu": (CORE_HU, 0.0), "ground_glass_above_lung_hu": (GLASS_HU - LUNG_HU, 0.0)}
)
WINDOW = HUWindow(-1000.0, 1000.0)

CALCIUM = Calcium(base_hu=100, per_inverse_diameter=0, spread_hu=0, middle_hu=(1400, 0))


def ball() -> np.ndarray:
    return (np.linalg.norm(np.stack(np.indices(SHAPE), -1) - 15.5, axis=-1) <= 9).astype(np.float32)


def vessel() -> np.ndarray:
    _, y, x = np.indices(SHAPE)
    return (y - 16) ** 2 + (x - 18) ** 2 <= 1.5**2


def rois(hu: np.ndarray | None = None) -> RoiBatch:
    hu = np.full(SHAPE, LUNG_HU, np.float32) if hu is None else hu
    mask, near = ball(), ndimage.binary_dilation(ball(), iterations=4)
    return RoiBatch(hu[None], mask[None], near[None], np.ones((1, *SHAPE), bool))


def holding(asked: dict, hu: np.ndarray | None = None) -> Holding:
    request, batch = parse_request(asked), rois(hu)
    assert isinstance(request, SynthesisRequest)
    shape = drawn(batch.mask[0], batch.editable[0], 1.0, drawn_shape(request), np.random.default_rng(0))
    return Holding(
        CARD,
        WINDOW,
        request,
        batch,
        [(0, 0)],
        batch.mask,
        type(shape).stacked([shape]),
        batch.editable,
        SCHEDULES["cosine"](),
        torch.device("cpu"),
    )


def estimate(asked: dict, hu: np.ndarray | None = None, cloud_hu: float = LUNG_HU) -> np.ndarray:
    """HU, where the network says the same everywhere."""
    cloud = torch.full((1, 1, *SHAPE), cloud_hu / 1000)
    return holding(asked, hu).on(lambda x, t: cloud)(cloud, 500)[0, 0].numpy() * 1000


def with_vessel() -> np.ndarray:
    return np.where(vessel(), 30, LUNG_HU).astype(np.float32)


def test_healthy_tissue_is_held_to_nothing() -> None:
    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        return x

    assert holding({"attributes": {"lesion": "none", "texture": "part_solid"}}).on(denoise) is denoise


@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("texture", ["ground_glass", "part_solid"])
def test_a_vessel_is_seen_through_glass_whatever_its_margin(texture: str, margin: float | None) -> None:
    asked = {"attributes": {"texture": texture, "margin": margin}}
    deep, beside = vessel() & (ball() > 0), ball() > 0
    found = estimate(asked, with_vessel())[deep]
    assert np.median(found) > -250
    unseen = estimate({**asked, "keep_vessels": False}, with_vessel())
    if texture == "ground_glass":
        assert unseen[deep].max() < GLASS_HU + GLASS_STRAYS_HU
        assert np.median(estimate(asked, with_vessel())[beside]) == pytest.approx(GLASS_HU, abs=60)


def test_no_vessel_is_kept_in_a_solid_lesion() -> None:
    assert holding({"attributes": {"texture": "solid"}}, with_vessel()).seen is None


def test_ground_glass_of_a_mean_that_was_asked_for_has_it_and_is_even() -> None:
    found = estimate({"attributes": {"texture": "ground_glass", "mean_hu": -450}})[ball() > 0]
    assert found.mean() == pytest.approx(-450, abs=1)
    assert found.std() < 60


@pytest.mark.parametrize(
    "wish", [{}, {"margin": 0.2}, {"spiculation": 1}, {"margin": 0.3, "lobulation": 0.8}]
)
def test_a_core_is_soft_tissue_whatever_the_outline(wish: dict) -> None:
    """Held to a mean that a carved border takes from, its middle would be as dense as bone."""
    asked = {"attributes": {"texture": "part_solid", "solid_share": 0.3, **wish}}
    request, cloud = holding(asked), torch.full((1, 1, *SHAPE), GLASS_HU / 1000)
    denoise, x = request.on(lambda x, t: cloud_of[0]), cloud
    cloud_of = [cloud]
    for t in (900, 700, 500, 300, 100):  # a network that takes over whatever it is given
        cloud_of[0] = denoise(x, t)
    found = cloud_of[0][0, 0].numpy() * 1000
    assert found.max() < CORE_HU + 1
    cores, glass = request._densities.cores, request._densities.glass
    assert cores is not None
    assert found[cores[0] > 0.95].mean() > -150
    assert found[glass[0] > 0].max() < GLASS_HU + GLASS_STRAYS_HU + 1


@pytest.mark.parametrize("texture", ["solid", "part_solid", "ground_glass"])
def test_without_calcium_nothing_is_far_above_soft_tissue(texture: str) -> None:
    """A network that makes half of the lesion as dense as bone."""
    _, _, x = np.indices(SHAPE)
    cloud = torch.from_numpy(np.where(x > 15, 0.9, -0.3).astype(np.float32))[None, None]
    found = [
        holding({"attributes": {"texture": texture, "calcification": kind}}).on(lambda x, t: cloud)(
            cloud, 500
        )
        for kind in ("none", None)
    ]
    capped_, free = ((1000 * hu[0, 0].numpy())[ball() > 0] for hu in found)
    assert capped_.max() < CORE_HU + 250
    if texture == "solid":
        assert free.max() > CORE_HU + 400


def test_hu_that_were_asked_for_may_be_above_soft_tissue() -> None:
    found = estimate({"attributes": {"mean_hu": 400}}, cloud_hu=350)[ball() > 0]
    assert found.mean() == pytest.approx(400, abs=1)


def test_a_calcified_lesion_is_soft_tissue_before() -> None:
    card = CARD.model_copy(update={"calcium": CALCIUM})
    asked = {"attributes": {"calcification": "central", "mean_hu": 300}}
    before = replace(holding(asked), card=card)
    assert (before.wish.calcification, before.wish.mean_hu) == ("none", None)
    soft = estimate({})
    after = before.calcified(soft[None])[0]
    assert after[ball() > 0].mean() == pytest.approx(300, abs=0.1)
    left_to_the_network = holding(asked)
    assert left_to_the_network.wish == left_to_the_network.request.attributes
    assert np.array_equal(left_to_the_network.calcified(soft[None])[0], soft)


def test_a_mean_below_soft_tissue_leaves_room_for_calcium() -> None:
    card = CARD.model_copy(update={"calcium": CALCIUM})
    asked = {"attributes": {"calcification": "solid", "mean_hu": -500}}
    cloud = torch.full((1, 1, *SHAPE), -0.1)
    soft = replace(holding(asked), card=card).on(lambda x, t: cloud)(cloud, 500)[0, 0].numpy() * 1000
    assert soft[ball() > 0].mean() < -550
