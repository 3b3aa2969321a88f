"""A model that was not made for where the lesion lies: said before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.client.answers import ConnectionReport, ModelFacts
from LesionBrushLib.logic.layout import windows_for
from panel_kit import CARD, SHAPE_KJI, Bench, facts

LUNG = {"name": "lung", "hu": [-1000, -300], "least_share": 0.3}
SOFT = {"name": "soft tissue", "hu": [-150, 300], "least_share": 0.6}


def offer(bench: Bench, recommended: str = "", **tissues: Any) -> None:
    """A server with a model for each tissue."""
    schema = facts().models["lung_lesion"].schema
    models = {
        name: ModelFacts(
            name, {**CARD, "title": name, "tissue": tissue, "recommended": name == recommended}, schema
        )
        for name, tissue in tissues.items()
    }
    bench.client.report = ConnectionReport(True, "ok", "connected", facts(models=models))
    bench.connect()


def put_hu(bench: Bench, hu: int) -> None:
    slicer.util.updateVolumeFromArray(bench.logic.parameters.reference, np.full(SHAPE_KJI, hu, np.int16))
    bench.panel.refresh()


def choose(bench: Bench, name: str) -> None:
    box = bench.ui.modelBox
    box.currentIndex = [box.itemText(n) for n in range(box.count)].index(name)


@pytest.mark.parametrize(("hu", "wrong", "right"), [(110, "lung", "soft"), (-850, "soft", "lung")])
def test_the_other_model_is_named(bench: Bench, hu: int, wrong: str, right: str) -> None:
    bench.ready()
    offer(bench, lung=LUNG, soft=SOFT)
    put_hu(bench, hu)
    choose(bench, wrong)
    words = bench.ui.reasonLabel.text
    assert f"tissue of {hu} HU" in words
    assert words.endswith(f"choose {right}.")
    assert bench.ui.synthesizeButton.enabled  # it is advice
    assert bench.client.orders == []
    choose(bench, right)
    assert bench.ui.reasonLabel.text == ""


def test_of_several_the_recommended_one_is_chosen_and_named_first(bench: Bench) -> None:
    bench.ready()
    offer(bench, recommended="soft", lung=LUNG, cubes=SOFT, soft=SOFT)
    assert bench.ui.modelBox.currentText == "soft"
    put_hu(bench, 110)
    choose(bench, "lung")
    assert bench.ui.reasonLabel.text.endswith("choose soft or cubes.")


def test_where_no_model_fits_it_says_so(bench: Bench) -> None:
    bench.ready()
    offer(bench, lung=LUNG, unsaid=None)
    put_hu(bench, 900)
    choose(bench, "lung")
    assert bench.ui.reasonLabel.text.endswith("no model of this server was made for it.")
    choose(bench, "unsaid")
    assert bench.ui.reasonLabel.text == ""


def test_the_windows_would_follow_too(bench: Bench) -> None:
    bench.ready()
    put_hu(bench, 110)
    place = bench.logic.surroundings()
    assert place is not None
    assert windows_for(place.shown_hu)[0].title == "soft tissue"
