"""The laws and their switches, on a network that sees nothing but an even cloud."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import tiny_card, tiny_model
from lesionbrush.core.hu import HUWindow
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting import model as system
from lesionbrush.systems.lesion_inpainting.card import Calcium, LesionCard, SmallSolid
from lesionbrush.systems.lesion_inpainting.laws import LAWS, choose_laws, scene
from lesionbrush.systems.lesion_inpainting.laws.batch import LesionBatch
from lesionbrush.systems.lesion_inpainting.laws.haze import GLASS_STRAYS_HU
from lesionbrush.systems.lesion_inpainting.laws.painted import measure_surroundings
from lesionbrush.systems.lesion_inpainting.laws.scene import Scene
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.shape import Drawn
from scipy import ndimage

SHAPE, LUNG_HU, GLASS_HU, CORE_HU = (32,) * 3, -860.0, -610.0, 40.0
SECTION = LesionCard.of(
    tiny_card(core_hu=(CORE_HU, 0.0), ground_glass_above_lung_hu=(GLASS_HU - LUNG_HU, 0.0))
)
CALCIUM = Calcium(base_hu=100, per_inverse_diameter=0, spread_hu=0, middle_hu=(1400, 0))
WITH_CALCIUM = SECTION.model_copy(update={"calcium": CALCIUM})
ALL = tuple(LAWS)


def ball(radius: float = 9.0) -> np.ndarray:
    return (np.linalg.norm(np.stack(np.indices(SHAPE), -1) - 15.5, axis=-1) <= radius).astype(np.float32)


def vessel() -> np.ndarray:
    _, y, x = np.indices(SHAPE)
    return (y - 16) ** 2 + (x - 18) ** 2 <= 1.5**2


def rois(hu: np.ndarray | None = None) -> RoiBatch:
    hu = np.full(SHAPE, LUNG_HU, np.float32) if hu is None else hu
    mask, near = ball(), ndimage.binary_dilation(ball(), iterations=4)
    return RoiBatch(hu[None], mask[None], near[None], np.ones((1, *SHAPE), bool))


def lesions(
    asked: dict, hu: np.ndarray | None = None, card: LesionCard = SECTION, laws: Collection[str] = ALL
) -> LesionBatch:
    request, batch = parse_request(asked), rois(hu)
    assert isinstance(request, SynthesisRequest)
    window, schedule = HUWindow(-1000, 1000), SCHEDULES["cosine"]()
    made = Scene(card, window, schedule, request, batch, choose_laws(laws))
    return LesionBatch(made, [(0, 0)], Drawn.stack([made.draw(0, 0)]), batch.editable, torch.device("cpu"))


def held(batch: LesionBatch, cloud_hu: float | np.ndarray = LUNG_HU) -> np.ndarray:
    """HU, where the network says the same everywhere, or this."""
    cloud = torch.from_numpy(np.full((1, 1, *SHAPE), cloud_hu, np.float32) / 1000)
    return batch.hold(lambda x, t: cloud)(cloud, 500)[0, 0].numpy() * 1000


def estimate(asked: dict, hu: np.ndarray | None = None, cloud_hu: float = LUNG_HU) -> np.ndarray:
    return held(lesions(asked, hu), cloud_hu)


def with_vessel() -> np.ndarray:
    return np.where(vessel(), 30, LUNG_HU).astype(np.float32)


def test_healthy_tissue_is_held_to_nothing() -> None:
    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        return x

    assert lesions({"attributes": {"lesion": "none", "texture": "part_solid"}}).hold(denoise) is denoise


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
    assert lesions({"attributes": {"texture": "solid"}}, with_vessel()).seen is None


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
    batch, cloud = lesions(asked), torch.full((1, 1, *SHAPE), GLASS_HU / 1000)
    denoise, x = batch.hold(lambda x, t: cloud_of[0]), cloud
    cloud_of = [cloud]
    for t in (900, 700, 500, 300, 100):  # a network that takes over whatever it is given
        cloud_of[0] = denoise(x, t)
    found = cloud_of[0][0, 0].numpy() * 1000
    assert found.max() < CORE_HU + 1
    cores, glass = batch.densities.cores, batch.densities.glass
    assert cores is not None
    assert found[cores[0] > 0.95].mean() > -150
    assert found[glass[0] > 0].max() < GLASS_HU + GLASS_STRAYS_HU + 1


@pytest.mark.parametrize("texture", ["solid", "part_solid", "ground_glass"])
def test_without_calcium_nothing_is_far_above_soft_tissue(texture: str) -> None:
    """A network that makes half of the lesion as dense as bone."""
    _, _, x = np.indices(SHAPE)
    asked = [{"attributes": {"texture": texture, "calcification": kind}} for kind in ("none", None)]
    capped_, free = (held(lesions(one), np.where(x > 15, 900, -300))[ball() > 0] for one in asked)
    assert capped_.max() < CORE_HU + 250
    if texture == "solid":
        assert free.max() > CORE_HU + 400


def test_hu_that_were_asked_for_may_be_above_soft_tissue() -> None:
    found = estimate({"attributes": {"mean_hu": 400}}, cloud_hu=350)[ball() > 0]
    assert found.mean() == pytest.approx(400, abs=1)


def test_a_calcified_lesion_is_soft_tissue_before() -> None:
    asked = {"attributes": {"calcification": "central", "mean_hu": 300}}
    before = lesions(asked, card=WITH_CALCIUM)
    assert (before.scene.wish.calcification, before.scene.wish.mean_hu) == ("none", None)
    soft = estimate({})
    after = before.finish(soft[None])[0]
    assert after[ball() > 0].mean() == pytest.approx(300, abs=0.1)


@pytest.mark.parametrize(
    ("card", "laws"), [(SECTION, ALL), (WITH_CALCIUM, [name for name in LAWS if name != "calcium"])]
)
def test_calcium_may_be_left_to_the_network(card: LesionCard, laws: Collection[str]) -> None:
    """Where the card knows of none, or the law is switched off."""
    batch = lesions({"attributes": {"calcification": "central", "mean_hu": 300}}, card=card, laws=laws)
    assert batch.scene.wish == batch.scene.request.attributes
    soft = estimate({})
    assert np.array_equal(batch.finish(soft[None])[0], soft)


def test_a_mean_below_soft_tissue_leaves_room_for_calcium() -> None:
    asked = {"attributes": {"calcification": "solid", "mean_hu": -500}}
    soft = held(lesions(asked, card=WITH_CALCIUM), -100)
    assert soft[ball() > 0].mean() < -550
    without = [name for name in LAWS if name not in ("room", "core", "uncalcified")]
    assert held(lesions(asked, card=WITH_CALCIUM, laws=without), -100)[ball() > 0].mean() > -150


SMALL = SmallSolid(base_hu=-200, per_inverse_diameter=0, per_slice_mm=0, per_hu_around=0, spread_hu=0)
EVERYTHING = tiny_card(
    core_hu=(CORE_HU, 10.0),
    ground_glass_above_lung_hu=(GLASS_HU - LUNG_HU, 10.0),
    calcium=CALCIUM.model_dump(),
    small_solid=SMALL.model_dump(),
    outline_of_blur=-0.2,
    temperature=1.0,
)
ASKED: dict[str, dict] = {
    "rim": {},
    "shape": {"attributes": {"spiculation": 1}},
    "uncalcified": {},
    "glass": {"attributes": {"texture": "ground_glass"}},
    "core": {},
    "small_solid": {},
    "room": {"attributes": {"calcification": "solid", "mean_hu": -500}},
    "moments": {"attributes": {"mean_hu": -100}},
    "haze": {"attributes": {"texture": "ground_glass"}},
    "outline": {"attributes": {"spiculation": 1}},
    "vessels": {"attributes": {"texture": "ground_glass"}},
    "calcium": {"attributes": {"calcification": "solid"}},
}
"""A request that every law has something to do for."""


class Dense(torch.nn.Module):
    """A network that makes bone, and holes in it, until there is an image to go on with."""

    def forward(
        self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, *_: torch.Tensor
    ) -> torch.Tensor:
        return x / alpha[0] if sigma[0] / alpha[0] < 0.2 else torch.where(x > 0, 0.9, -0.9)


def samples(asked: dict, laws: Collection[str], radius: float) -> np.ndarray:
    batch = replace(rois(with_vessel()), slice_mm=2.5)
    batch = replace(batch, mask=ball(radius)[None])
    model = system.LesionInpainting(EVERYTHING, Dense(), torch.device("cpu")).with_laws(laws)
    return model.sample(batch, parse_request({"steps": 4, **asked}), [0], lambda done, total: None).hu


@pytest.mark.parametrize("name", LAWS)
def test_a_law_that_is_switched_off_changes_the_lesions_that_it_is_for(name: str) -> None:
    radius = 3 if name == "small_solid" else 9
    request = parse_request(ASKED[name])
    assert LAWS[name].concerns(request)
    on, off = (samples(ASKED[name], laws, radius) for laws in (ALL, set(LAWS) - {name}))
    assert not np.array_equal(on, off)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_that_is_switched_off_leaves_other_lesions_as_they_are(name: str) -> None:
    others = {other: asked for other, asked in ASKED.items() if not LAWS[name].concerns(parse_request(asked))}
    others["none"] = {"attributes": {"lesion": "none"}, "healthy_from": "model"}
    for asked in others.values():
        assert np.array_equal(samples(asked, ALL, 9), samples(asked, set(LAWS) - {name}, 9))


def test_a_law_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"laws gravity: known are rim, shape.*calcium"):
        tiny_model().with_laws({"core", "gravity"})
    assert tiny_model().laws == frozenset(LAWS)
    assert tiny_model().with_laws({"core"}).laws == {"core"}


def test_what_all_lesions_share_is_measured_once_whatever_parts_they_are_run_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = []
    monkeypatch.setattr(
        scene, "measure_surroundings", lambda rois: measured.append(rois) or measure_surroundings(rois)
    )
    request, parts = parse_request({"steps": 1, "attributes": {"texture": "ground_glass"}}), []
    model = system.LesionInpainting(EVERYTHING, Dense(), torch.device("cpu"))
    fallback = system.OutOfMemoryFallback
    monkeypatch.setattr(system, "OutOfMemoryFallback", lambda *given: fallback(*given, at_once_on_cpu=2))
    hu = model.sample(rois(with_vessel()), request, range(5), lambda done, total: parts.append(done)).hu
    assert (len(parts), len(measured)) == (3, 1)
    alone = model.sample(rois(with_vessel()), request, [4], lambda done, total: None).hu
    assert np.array_equal(hu[4], alone[0])
