"""Which windows the rows of the comparison show: those of the tissue around, or the chosen ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lesionbrush import montage
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.layout import SOFT_WINDOWS, WINDOWS, windows_for
from LesionBrushLib.logic.problems import NotReady
from LesionBrushLib.logic.thumbnails import thumbnail
from LesionBrushLib.logic.voxels import Grid
from logic_kit import SHAPE_KJI, SPACING_MM, ball, chest, offsets_mm, straight
from mrml_kit import World, paint
from scipy.ndimage import distance_transform_edt

pytest_plugins = "logic_fixtures"
IN_TISSUE_MM = (0.0, 46.0, 0.0)
"""Behind the lungs."""


def painted(world: World, logic: LesionBrushLogic, mask: np.ndarray) -> None:
    paint(
        world,
        logic.ensure_segmentation(),
        logic.parameters.segment_id,
        mask,
        logic.parameters.reference,
    )


def shown(logic: LesionBrushLogic) -> list[tuple[float, float]]:
    """(width, level) of the rows."""
    displays = [logic.comparison.rows.display(row) for row in WINDOWS]
    return [(display.GetWindow(), display.GetLevel()) for display in displays]


def of(windows: Any) -> list[tuple[float, float]]:
    return [(window.width_hu, window.level_hu) for window in windows]


@pytest.mark.parametrize("hu", [-1000, -930, -850, -400, -100, 40, 110, 900])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_choice_is_the_one_of_the_pictures(hu: int, share: float) -> None:
    around = np.where(np.arange(100) < 100 * share, hu, 50)
    theirs = [(window.width_hu, window.level_hu) for window in montage.windows_for(around)]
    assert of(windows_for(around)) == theirs


def test_a_lesion_in_lung_is_shown_in_the_windows_of_the_lung(
    logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.compare(True)
    assert shown(logic) == of(WINDOWS)


def test_elsewhere_soft_tissue_comes_first_and_the_corners_say_so(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    painted(world, logic, ball(4.0, IN_TISSUE_MM))
    logic.compare(True)
    assert shown(logic) == of(SOFT_WINDOWS)
    labels = [node.GetLayoutLabel() for node in logic.comparison.layout.slice_nodes()]
    assert labels == ["SoR", "SoS", "LiR", "LiS", "BoR", "BoS"]
    assert logic.comparison.rows.node(WINDOWS[1], "Reference").GetName() == "Chest CT [liver]"


def test_another_lesion_brings_its_own_and_a_drag_stays_else(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    painted(world, logic, ball(4.0, IN_TISSUE_MM))
    logic.compare(True)
    logic.comparison.rows.display(WINDOWS[0]).SetWindowLevel(333, 33)
    logic.compare(True)
    assert shown(logic)[0] == (333, 33)
    logic.parameters.segment_id = logic.parameters.segmentation.GetSegmentation().AddEmptySegment("", "B")
    painted(world, logic, ball())
    logic.compare(True)
    assert shown(logic) == of(WINDOWS)


def test_the_windows_can_be_chosen_and_a_strange_name_is_refused(
    world: World, logic: LesionBrushLogic, ct: Any, lesion: np.ndarray
) -> None:
    logic.set_windows("soft tissue")
    logic.compare(True)
    assert shown(logic) == of(SOFT_WINDOWS)
    logic.set_windows("lung")
    assert shown(logic) == of(WINDOWS)
    with pytest.raises(NotReady, match="'brain'"):
        logic.set_windows("brain")
    assert logic.parameters.windows == "lung"
    logic.parameters.windows = "brain"  # as a scene of another version says
    logic.compare(True)
    assert shown(logic) == of(WINDOWS)


def test_what_lies_around_is_a_shell_of_millimetres(world: World, logic: LesionBrushLogic, ct: Any) -> None:
    """Compared with the exact distance from the mask, which is coarse enough not to be thinned."""
    assert logic.surroundings() is None
    mask = ball(9.0, (20.0, 10.0, 5.0))
    painted(world, logic, mask)
    away_mm = distance_transform_edt(~mask, sampling=SPACING_MM[::-1])
    hu = chest()
    place = logic.surroundings()
    assert place is not None
    assert np.array_equal(np.sort(place.inside_hu), np.sort(hu[mask]))
    assert np.array_equal(np.sort(place.around_hu), np.sort(hu[(away_mm > 3) & (away_mm <= 8)]))


def test_fine_voxels_are_thinned_and_a_thin_mask_is_still_found(
    world: World, logic: LesionBrushLogic
) -> None:
    matrix = np.diag((0.5, 0.5, 0.5, 1.0))
    logic.parameters.reference = world.volume(np.full((40, 40, 40), 60, np.int16), matrix)
    mask = np.zeros((40, 40, 40), bool)
    mask[19:22, 19:22, 19:22] = True
    painted(world, logic, mask)
    place = logic.surroundings()
    assert place is not None
    assert 0 < place.around_hu.size < 4 / 3 * np.pi * 10**3 * 8 / 20


def test_without_a_ct_or_with_an_empty_segment_there_are_none(
    world: World, logic: LesionBrushLogic, ct: Any
) -> None:
    logic.ensure_segmentation()
    assert logic.surroundings() is None
    logic.parameters.reference = None
    assert logic.surroundings() is None


@pytest.mark.parametrize(("around", "lesion", "level", "width"), [(-850, 40, -600, 1500), (110, 60, 40, 400)])
def test_thumbnails_have_the_window_of_their_tissue(around: int, lesion: int, level: int, width: int) -> None:
    hu = np.full(SHAPE_KJI, around, np.int16)
    hu[np.linalg.norm(offsets_mm(), axis=-1) < 20] = lesion
    picture = thumbnail(hu, Grid(SHAPE_KJI[::-1], straight()), 64)
    assert abs(int(picture[32, 32, 0]) - round(((lesion - level) / width + 0.5) * 255)) <= 1
