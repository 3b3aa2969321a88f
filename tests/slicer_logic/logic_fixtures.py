"""A small chest in a real MRML scene. Load with `pytest_plugins = "logic_fixtures"`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.layout import VIEW_NAMES
from logic_kit import LESION_HU, answer, ball, chest, straight
from mrml_kit import SliceView, World, boot, paint, require_display


@pytest.fixture
def world() -> World:
    return boot()


@pytest.fixture
def logic(world: World) -> Iterator[LesionBrushLogic]:
    made = LesionBrushLogic(world.scene, world.application)
    yield made
    made.close()


@pytest.fixture
def ct(world: World, logic: LesionBrushLogic) -> Any:
    """The chosen reference."""
    node = world.volume(chest(), straight(), "Chest CT")
    logic.parameters.reference = node
    return node


@pytest.fixture
def lesion(world: World, logic: LesionBrushLogic, ct: Any) -> np.ndarray:
    """(k, j, i) bool: painted into the chosen segment."""
    mask = ball()
    segmentation = logic.ensure_segmentation()
    paint(world, segmentation, logic.parameters.segment_id, mask, ct)
    return mask


@pytest.fixture
def synthetic(logic: LesionBrushLogic, ct: Any, lesion: np.ndarray) -> Any:
    """The node of a result of two variants, LESION_HU and 300."""
    return logic.receive(*answer(ct, lesion, LESION_HU, 300)).node


@pytest.fixture
def open_views(world: World, logic: LesionBrushLogic) -> Callable[..., dict[str, SliceView]]:
    """Make the six views, as the application does when the layout comes up."""

    def make(size: tuple[int, int] = (240, 240)) -> dict[str, SliceView]:
        require_display()
        logic.comparison.layout.enter()
        views = {name: SliceView(world, name, size) for name in VIEW_NAMES}
        for view in views.values():
            logic.marks.attach(view.renderer, view.node)
        logic.comparison.layout.leave()
        return views

    return make
