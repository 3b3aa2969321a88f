"""What a text is about: what it says that there is, where, and how much of it."""

from __future__ import annotations

import pytest
from lesionbrush.systems.medsyn.finding.placing import FindingWish
from lesionbrush.systems.medsyn.finding.topics import (
    complete,
    denies_all,
    fills,
    find_side,
    lowers,
    read_small,
)
from lesionbrush.systems.medsyn.request import FindingRequest

AGAINST = FindingRequest.model_fields["against"].default


def test_what_a_text_does_not_speak_of_stays_as_it_is() -> None:
    assert complete("Small left effusion", AGAINST) == (
        "Small left effusion No emphysema. No consolidation. Normal heart size."
    )
    assert complete("Cardiomegaly. Emphysema.", "Fluid, normal heart. Clear.") == (
        "Cardiomegaly. Emphysema. Clear."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Large right effusion", (True, False, "right")),
        ("Severe emphysema of both lungs", (False, True, None)),
        ("Bilateral effusions, left more than right, and bullae", (True, True, None)),
        ("Left pneumonia, bilateral fluid", (True, False, None)),
        ("Moderate left-sided effusion. The right hemithorax is clear.", (True, False, "left")),
        ("No right effusion, large left effusion", (True, False, "left")),
        ("Pleural effusion, large, on the left", (True, False, "left")),
        ("No pleural fluid on the right, much on the left", (True, False, "left")),
        ("Severe emphysema, no effusion", (False, True, None)),
    ],
)
def test_what_a_text_may_do(text: str, said: tuple[bool, bool, str | None]) -> None:
    assert (fills(text), lowers(text), find_side(text)) == said


@pytest.mark.parametrize(
    ("text", "said", "ml"),
    [
        ("Small left pleural effusion.", "large left pleural effusion.", 150),
        ("Trace of fluid on both sides. Mild emphysema.", "large fluid on both sides. Mild emphysema.", 80),
        ("Large right effusion, mild cardiomegaly", "Large right effusion, mild cardiomegaly", None),
        ("No effusion. Small heart.", "No effusion. Small heart.", None),
        ("Small right effusion, large left effusion.", "Small right effusion, large left effusion.", None),
        ("Small right effusion, tiny left effusion.", "large right effusion, large left effusion.", 190),
        ("No small effusion on the right.", "No small effusion on the right.", None),
    ],
)
def test_small_fluid_is_a_little_of_a_large_one(text: str, said: str, ml: float | None) -> None:
    assert read_small(text) == (said, ml)


def test_each_finding_has_its_own_side() -> None:
    wish = FindingWish.of("Large right effusion. Severe emphysema of the left lung.", None)
    assert (wish.side, wish.low_side) == ("right", "left")
    wish = FindingWish.of("Large right effusion. Severe emphysema.", None)
    assert (wish.side, wish.low_side) == ("right", None)


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("No pleural effusion.", True),
        ("No emphysema, heart size is normal.", True),
        ("No effusion, severe emphysema.", False),
        ("bonjour", False),
    ],
)
def test_a_text_that_says_that_there_is_nothing_is_known(text: str, denied: bool) -> None:
    assert denies_all(text) == denied
