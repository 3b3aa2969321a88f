"""What a model is asked for in an evaluation, by its system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_fixtures import FakeModel, ball, make_ct, paints
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.evaluation.card_figures import Case
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest

CT = make_ct()
MASK = ball(CT, (20, 18, 15), 5)
GROUND_GLASS = Attributes(texture="ground_glass")


class Listening:
    """A fake model that remembers its requests."""

    def __init__(self, system: str) -> None:
        self.fake: FakeModel = paints(0.0, system=system)
        self.card, self.hooks = self.fake.card, self.fake.hooks
        self.requests: list[BaseRequest] = []

    def sample(self, rois: RoiBatch, request: BaseRequest, seeds: Sequence[int], *watch: Any) -> Sampled:
        self.requests.append(request)
        return self.fake.sample(rois, request, seeds, *watch)


def nodule() -> Nodule:
    return Nodule(Case("n", CT, MASK, GROUND_GLASS), "LIDC-IDRI-0000", {})


def test_what_a_card_says_of_sampling_makes_another_synthesis_and_its_texts_do_not(tmp_path: Path) -> None:
    model = Listening("lesion_inpainting")
    maker = Maker(model, tmp_path)
    calmer = {**model.card.section, "temperature": 0.5}
    for change in ({}, {"limits": ("none",), "figures": {"cases": 3.0}}, {"section": calmer}):
        model.card = model.card.model_copy(update=change)
        maker.one(nodule(), GROUND_GLASS)
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("system", "request_"),
    [
        (
            "lesion_inpainting",
            SynthesisRequest(attributes=GROUND_GLASS, seed=3, draw_shape=False, keep_vessels=False),
        ),
        ("lung_ddpm_plus", LungDDPMPlusRequest(seed=3)),
    ],
)
def test_a_system_is_asked_in_its_own_words_and_once(
    system: str, request_: BaseRequest, tmp_path: Path
) -> None:
    model = Listening(system)
    maker = Maker(model, tmp_path)
    first, again = (maker.one(nodule(), GROUND_GLASS, seed=3) for _ in range(2))
    assert model.requests == [request_]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, CT.array)
