"""Pictures: grey values, orientation, proportions, outlines, layout."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from lesionbrush.core.volume import SourceHeader, Volume
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest
from lesionbrush.montage import (
    AXIAL,
    BONE,
    CORONAL,
    CYAN,
    LIVER,
    LUNG,
    ORANGE,
    OUTSIDE_HU,
    SOFT,
    Panel,
    View,
    Window,
    badge_of,
    compare,
    draw_panel,
    montage,
    sheet,
    to_lps,
    windows_for,
)
from PIL import Image

WHOLE = (0.0, 0.0)
CODES = ["LPS", "RAS", "RPI", "SLA", "PIR", "IRP"]


def lps_volume(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(array, np.diag((-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0)))


def stored_as(codes: str, volume: Volume) -> Volume:
    """The same volume with its axes stored in another order and direction."""
    own = nib.orientations.io_orientation(volume.affine)
    turn = nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(codes))
    array = nib.orientations.apply_orientation(volume.array, turn)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape))


def case(
    spacing_mm: tuple[float, float, float] = (2, 2, 2), shape: tuple[int, int, int] = (60, 50, 40)
) -> tuple[Volume, Volume, Volume]:
    """Reference at -850 HU, a box as mask, the box at 40 HU."""
    mask = np.zeros(shape, np.uint8)
    mask[20:28, 22:30, 18:24] = 1
    reference = np.full(shape, -850, np.int16)
    synthetic = np.where(mask > 0, 40, reference).astype(np.int16)
    return tuple(lps_volume(array, spacing_mm) for array in (reference, mask, synthetic))  # type: ignore[return-value]


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def where(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """(N, 2) rows and columns of the pixels of one colour."""
    return np.argwhere((pixels(picture) == colour).all(axis=-1))


@pytest.mark.parametrize(
    ("window", "black", "grey", "white"),
    [(LUNG, -1350, -600, 150), (SOFT, -160, 40, 240), (LIVER, 0, 100, 200), (BONE, -500, 400, 1300)],
)
def test_windows_map_their_level_to_mid_grey_and_their_ends_to_black_and_white(
    window: Window, black: int, grey: int, white: int
) -> None:
    hu = np.array([-1024 - 3000, black, grey, white, 3071], np.int16)
    assert window.to_grey(hu).tolist() == [0, 0, 128, 255, 255]
    assert window.to_grey(hu).dtype == np.uint8
    assert 0 < window.to_grey(np.array([black + window.width_hu / 50]))[0] < 10


def test_a_window_says_its_level_and_width() -> None:
    assert [str(window) for window in (LUNG, SOFT, LIVER, BONE)] == [
        "lung -600/1500",
        "soft tissue 40/400",
        "liver 100/200",
        "bone 400/1800",
    ]


@pytest.mark.parametrize(
    ("around", "first"),
    [
        ({-850: 100}, LUNG),
        ({-850: 40, 50: 60}, LUNG),  # at the pleura
        ({-400: 100}, LUNG),  # ground glass
        ({-990: 80, -930: 20}, LUNG),  # emphysema
        ({110: 100}, SOFT),
        ({-850: 20, 110: 80}, SOFT),  # under the dome of the diaphragm
        ({-100: 100}, SOFT),  # fat
        ({-1000: 70, 40: 30}, SOFT),  # skin, and bowel with air in it
        ({900: 100}, SOFT),
        ({}, LUNG),
    ],
)
def test_windows_follow_the_tissue_around(around: dict[int, int], first: Window) -> None:
    hu = np.repeat(np.array([*around], np.int16), [*around.values()])
    rest = {LUNG: (SOFT, BONE), SOFT: (LIVER, BONE)}[first]
    assert windows_for(hu) == (first, *rest)


def test_a_lesion_in_soft_tissue_is_shown_in_its_windows() -> None:
    """The lesion is lung's own density: what counts is what lies around it."""
    reference, mask, synthetic = case()
    inside = mask.array > 0
    reference, synthetic = (
        one.with_array(np.where(inside, one.array, 110)) for one in (reference, synthetic)
    )
    picture = pixels(montage(reference, mask, synthetic, panel_px=100))
    row_px, beside = 19 + 100 + 6, 6 + 10
    shown = [int(picture[6 + 19 + 50 + n * row_px, beside, 0]) for n in range(4)]
    expected = [int(window.to_grey(np.array(110))) for window in (SOFT, LIVER, BONE, SOFT)]
    assert shown == expected


def test_a_panel_shows_the_grey_of_its_hu() -> None:
    picture = draw_panel(Panel(np.full((32, 32), 40, np.int16), (1, 1), SOFT), 64)
    assert picture.size == (64, 64)
    assert (pixels(picture)[:40] == 128).all()


def test_the_last_slices_are_no_brighter_than_the_others() -> None:
    """Nothing lies beyond them: -2000 HU beside tissue would make a bright band where it is resized."""
    hu = np.full((32, 32), 40, np.int16)
    hu[:8] = hu[24:] = OUTSIDE_HU
    drawn = pixels(draw_panel(Panel(hu, (1, 1), SOFT), 96))[:, :40, 0]
    assert (drawn[24:72] == 128).all()
    assert not drawn[:24].any()


def test_an_outline_that_nobody_painted_is_called_by_its_name() -> None:
    for word in ("mask", "edit"):
        first, second, *_ = compare(*case(), outlined=word)
        assert second.caption.startswith(f"{word}, axial")
        assert first.note.endswith(f"HU in the {word}")


@pytest.mark.parametrize("codes", CODES)
def test_any_stored_order_becomes_left_back_up(codes: str) -> None:
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    stored = stored_as(codes, lps_volume(array, (1, 2, 3)))
    assert nib.aff2axcodes(stored.affine) == tuple(codes)
    turned, spacing_mm = to_lps(stored)
    assert np.array_equal(turned, array)
    assert spacing_mm == (1, 2, 3)


@pytest.mark.parametrize("codes", CODES)
def test_markers_are_where_a_radiologist_looks_for_them(codes: str) -> None:
    """A marker at the patient's left, back and head; the views pass through it."""
    array = np.full((30, 24, 18), -1000, np.int16)
    array[25, 20, 15] = 3000
    stored = stored_as(codes, lps_volume(array))
    axial = View(AXIAL, 15, WHOLE, None).cut(stored)
    coronal = View(CORONAL, 20, WHOLE, None).cut(stored)
    assert axial.shape == (24, 30)
    assert np.argwhere(axial == 3000).tolist() == [[20, 25]]
    assert coronal.shape == (18, 30)
    assert np.argwhere(coronal == 3000).tolist() == [[17 - 15, 25]]


@pytest.mark.parametrize("codes", CODES)
def test_the_montage_does_not_depend_on_how_the_volume_is_stored(codes: str) -> None:
    volumes = case(spacing_mm=(2, 2, 3))
    expected = montage(*volumes, panel_px=80)
    turned = montage(*(stored_as(codes, volume) for volume in volumes), panel_px=80)
    assert np.array_equal(pixels(turned), pixels(expected))


def test_an_oblique_grid_is_shown_along_its_nearest_axes() -> None:
    array = np.zeros((4, 5, 6), np.int16)
    tilt = np.deg2rad(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag((-1.0, -1.0, 1.0))
    turned, spacing_mm = to_lps(Volume(array, affine))
    assert turned.shape == (4, 5, 6)
    assert spacing_mm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("spacing_mm", "size"),
    [((1, 1), (100, 50)), ((4, 1), (50, 100)), ((1, 2), (100, 25)), ((2, 1), (100, 100))],
)
def test_millimetres_are_square(spacing_mm: tuple[float, float], size: tuple[int, int]) -> None:
    panel = Panel(np.zeros((20, 40), np.int16), spacing_mm, LUNG)
    assert draw_panel(panel, 100).size == size


def test_a_ball_is_round_in_thick_slices() -> None:
    z, y, x = np.indices((12, 60, 60))
    ball = ((z - 5.5) * 5) ** 2 + (y - 29.5) ** 2 + (x - 29.5) ** 2 < 20**2
    volume = lps_volume(np.where(ball, 40, -850).astype(np.int16).transpose(2, 1, 0), (1, 1, 5))
    hu = View(CORONAL, 29, WHOLE, None).panel(volume, LUNG, "")
    white = np.argwhere(pixels(draw_panel(hu, 240))[:, :, 0] > 200)
    height, width = np.ptp(white, axis=0) + 1
    assert height == pytest.approx(width, rel=0.12)


def test_the_outline_lies_on_the_border_of_the_mask() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:12, 8:15] = True
    picture = draw_panel(Panel(np.full((20, 20), 40), (1, 1), SOFT, outline=mask), 200)
    shown = np.zeros((200, 200), bool)
    shown[tuple(where(picture, CYAN).T)] = True
    square = np.zeros((200, 200), bool)
    square[50:120, 80:150] = True
    inner = np.zeros((200, 200), bool)
    inner[51:119, 81:149] = True
    assert np.array_equal(shown, square & ~inner)


def test_a_mask_up_to_the_edge_of_the_picture_has_no_line_there() -> None:
    picture = draw_panel(Panel(np.full((4, 4), 40), (1, 1), SOFT, outline=np.ones((4, 4), bool)), 40)
    assert not len(where(picture, CYAN))


def test_three_columns_four_rows() -> None:
    picture = montage(*case(), panel_px=100)
    caption, gap = 19, 6
    assert picture.mode == "RGB"
    assert picture.size == (gap + 3 * (100 + gap), gap + 4 * (caption + 100 + gap))
    assert montage(*case(), panel_px=100, title="x").height > picture.height


def test_the_second_column_has_the_outline_and_the_third_the_badge() -> None:
    picture = montage(*case(), panel_px=120)
    columns = where(picture, CYAN)[:, 1] // 126
    assert set(columns) == {1}
    assert set(where(picture, ORANGE)[:, 1] // 126) == {2}


def test_reference_and_synthetic_show_their_own_hu() -> None:
    picture = pixels(montage(*case(), panel_px=100))
    middle_y, first_x, third_x = 6 + 19 + 50, 6 + 50, 6 + 2 * 106 + 50
    assert picture[middle_y, first_x].tolist() == [int(LUNG.to_grey(np.array(-850)))] * 3
    assert picture[middle_y, third_x].tolist() == [int(LUNG.to_grey(np.array(40)))] * 3


def test_the_field_is_in_millimetres_around_the_lesion() -> None:
    """The box of 8 x 8 voxels of 2 mm is a sixth of a field of 96 mm."""
    picture = montage(*case(), panel_px=240)
    rows, columns = where(picture, CYAN)[: 4 * 40].T
    first = rows < 300
    assert np.ptp(columns[first]) + 1 == pytest.approx(240 * 16 / 96, abs=2)
    centre = (columns[first].min() + columns[first].max()) / 2 - (6 + 246)
    assert centre == pytest.approx(120, abs=3)


def test_a_lesion_larger_than_the_field_is_shown_whole() -> None:
    reference, mask, synthetic = case()
    large = np.zeros_like(mask.array)
    large[5:55, 10:40, 10:30] = 1
    picture = montage(reference, mask.with_array(large), synthetic, field_mm=20, panel_px=100)
    rows, columns = where(picture, CYAN).T
    axial = rows < 130
    assert np.ptp(columns[axial]) == pytest.approx(80, abs=3)


def test_outside_the_volume_is_black() -> None:
    reference, mask, synthetic = case()
    corner = np.zeros_like(mask.array)
    corner[0:3, 0:3, 18:20] = 1
    picture = pixels(montage(reference, mask.with_array(corner), synthetic, panel_px=100))
    assert (picture[30:60, 10:40] == 0).all()


def test_whole_slices_on_request() -> None:
    picture = montage(*case(), field_mm=None, panel_px=120)
    rows = 19 + 100 + 6, 19 + 100 + 6, 19 + 100 + 6, 19 + 80 + 6
    assert picture.height == 6 + sum(rows)


def test_the_largest_of_several_lesions_is_shown() -> None:
    reference, mask, synthetic = case()
    two = mask.array.copy()
    two[50:52, 40:42, 2:4] = 1
    pair = montage(reference, mask.with_array(two), synthetic, panel_px=80)
    alone = montage(reference, mask, synthetic, panel_px=80)
    assert np.array_equal(where(pair, CYAN), where(alone, CYAN))


def test_an_empty_mask_is_refused() -> None:
    reference, mask, synthetic = case()
    with pytest.raises(EmptyMask, match="no lesion to show"):
        montage(reference, mask.with_array(np.zeros_like(mask.array)), synthetic)


@pytest.mark.parametrize("wrong", [1, 2])
def test_other_grids_are_refused(wrong: int) -> None:
    volumes = list(case())
    moved = volumes[wrong].affine.copy()
    moved[0, 3] += 5
    volumes[wrong] = Volume(volumes[wrong].array, moved)
    with pytest.raises(GeometryMismatch, match=("mask", "synthetic CT")[wrong - 1]):
        montage(*volumes)


def test_a_field_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="-5 mm"):
        montage(*case(), field_mm=-5)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 2, 3), (3, 6, 1)])
def test_a_sheet_has_room_for_every_panel(count: int, columns: int, rows: int) -> None:
    panels = [Panel(np.full((8, 8), 40), (1, 1), SOFT) for _ in range(count)]
    picture = sheet(panels, columns, panel_px=50)
    assert picture.size == (6 + columns * 56, 6 + rows * 56)
    grey = (pixels(picture) == 128).all(axis=-1)
    assert grey.sum() > 0.8 * count * 50 * 50


@pytest.mark.parametrize(("count", "columns"), [(0, 2), (2, 0)])
def test_a_sheet_of_nothing_is_refused(count: int, columns: int) -> None:
    with pytest.raises(InvalidRequest, match="no sheet"):
        sheet([Panel(np.zeros((8, 8)), (1, 1), SOFT)] * count, columns)


def test_captions_make_room_above_the_pictures() -> None:
    plain = Panel(np.full((8, 8), 40), (1, 1), SOFT)
    named = Panel(plain.hu, (1, 1), SOFT, caption="case 1")
    assert sheet([named], 1, panel_px=50).height > sheet([plain], 1, panel_px=50).height


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    """100 voxels of 1 mm on 200 pixels: 20 mm are the longest round length below a quarter, 40 pixels."""
    picture = draw_panel(Panel(np.full((100, 100), -1000), (1, 1), SOFT), 200)
    bar = pixels(picture)[194, :, 0] > 200
    assert bar.sum() == 40


def test_the_same_picture_every_time() -> None:
    first, second = (montage(*case(), title="a", panel_px=64) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("note", "badge"),
    [
        ("", ""),
        ("SYNTHETIC LesionBrush 0.1.0 tiny seed 3", "SYNTHETIC"),
        ("SYNTHETIC GENERATED LesionBrush 0.1.0 noise seed 3", "GENERATED"),
    ],
)
def test_a_reference_that_is_synthetic_itself_says_so_in_the_picture(note: str, badge: str) -> None:
    reference, mask, synthetic = case()
    reference, synthetic = (
        Volume(one.array, one.affine, SourceHeader(one.array.dtype, one.affine, note=note))
        for one in (reference, synthetic)
    )
    assert badge_of(reference) == badge
    noted, plain = (
        pixels(montage(*volumes, panel_px=120)) for volumes in ((reference, mask, synthetic), case())
    )
    changed = np.flatnonzero((noted != plain).any(axis=(0, 2)))
    assert (len(changed) > 0) == (badge != "")
    assert (changed.max(initial=0) > 2 * 126) == (badge == "GENERATED")
