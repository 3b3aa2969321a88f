"""One lesion into another organ: closed forms of balls in balls, on grids of all kinds, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import EmptyMask, InvalidRequest
from lesionbrush.transfer.carry import carry
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.places import HostOrgan
from lesionbrush.transfer.results import Carried, Refused
from scipy.ndimage import distance_transform_edt
from transfer_kit import THICK, THIN, TILT, ball, centroid_mm, grid, spread_mm, union, volume_mm3

RIGID = CarryLimits(deform=0.0)
SOURCE_GRIDS = [grid(THIN), grid(THICK), grid(THIN, axes=TILT)]
TURNED = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])


def try_carry(
    lesion: Volume,
    organ: Volume | None,
    host: Volume | HostOrgan,
    limits: CarryLimits = RIGID,
    seed: int = 0,
    **more,
) -> Carried | Refused:
    host = host if isinstance(host, HostOrgan) else HostOrgan.of(host)
    return carry(lesion, organ, host, limits, np.random.default_rng(seed), **more)


def carried(*arguments: object, **more) -> Carried:
    result = try_carry(*arguments, **more)
    assert isinstance(result, Carried), result
    return result


def refused(*arguments: object, **more) -> Refused:
    result = try_carry(*arguments, **more)
    assert isinstance(result, Refused), result
    return result


def keeps_margin(mask: Volume, organ: Volume, margin_mm: float) -> bool:
    """By the whole volume, which nothing but the definition is in."""
    inside = np.pad(organ.array > 0, 1)
    depth = distance_transform_edt(inside, sampling=organ.spacing_mm)[1:-1, 1:-1, 1:-1]
    return bool(depth[mask.array > 0].min() > margin_mm)


@pytest.mark.parametrize("source", SOURCE_GRIDS)
@pytest.mark.parametrize("target", [grid((1.2, 1.2, 1.5)), grid(THICK, axes=TILT)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_ball_stays_a_ball_and_grows_with_its_organ(source, target, seed: int) -> None:
    lesion, organ = ball((10, 5, 0), 11, source), ball((0, 0, 0), 30, source)
    host = ball((2, -3, 1), 45, target)
    made = carried(lesion, organ, host, seed=seed)
    scale = np.cbrt(volume_mm3(host) / volume_mm3(organ))
    assert made.move.scale == pytest.approx(scale, rel=1e-6)
    assert made.move.scale == pytest.approx(1.5, rel=0.02)
    wanted = volume_mm3(lesion) * scale**3
    assert abs(volume_mm3(made.mask) - wanted) <= host.voxel_volume_mm3 / 2 + 1e-6
    assert spread_mm(made.mask) == pytest.approx(np.full(3, 1.5 * 11 / np.sqrt(5)), rel=0.1)
    assert keeps_margin(made.mask, host, RIGID.margin_mm)
    assert centroid_mm(made.mask) == pytest.approx(np.array(made.move.centre_mm), abs=0.7)


def test_the_largest_that_fits_lies_in_the_middle_and_a_larger_one_is_refused() -> None:
    on = grid((1.0, 1.0, 1.0), 90.0)
    organ = ball((0, 0, 0), 30, on)
    limits = CarryLimits(deform=0.0, margin_mm=5, tries=20, shift_mm=3)
    made = carried(ball((0, 0, 0), 23, on), organ, organ, limits)
    assert np.linalg.norm(made.move.centre_mm) < 2.5
    no = refused(ball((0, 0, 0), 27, on), organ, organ, limits)
    assert no.why == "no_room"
    assert "5 mm are asked for" in no.reason


@pytest.mark.parametrize("axes", [np.eye(3)[:, [1, 2, 0]], np.diag((-1.0, -1.0, 1.0)), TURNED])
@pytest.mark.parametrize("poking", [False, True])
def test_a_grid_turned_by_90_degrees_gets_the_same_lesion_at_the_same_place(axes, poking: bool) -> None:
    straight = grid((2.0, 2.0, 2.0), 100.0)
    other = grid((2.0, 2.0, 2.0), 100.0, axes)
    centre = (28, 8, 3) if poking else (9, 5, -4)
    lesion, organ = ball(centre, 8, straight, (1, 0.8, 1.3)), ball((0, 0, 0), 32, straight)
    host = ball((0, 0, 0), 36, straight, (1, 0.8, 1.1))
    elsewhere = ball((0, 0, 0), 36, other, (1, 0.8, 1.1))
    limits = CarryLimits()
    one, two = (carried(lesion, organ, organs, limits, seed=3) for organs in (host, elsewhere))
    three = carried(ball(centre, 8, other, (1, 0.8, 1.3)), ball((0, 0, 0), 32, other), host, limits, seed=3)
    for same in (two, three):
        assert same.move.centre_mm == pytest.approx(one.move.centre_mm, abs=1e-6)
        assert same.move.turn_deg == pytest.approx(one.move.turn_deg, abs=1e-6)
    back = mask_on_grid(two.mask, host).array
    assert np.count_nonzero(back != one.mask.array) <= 2  # equal distances may be put in another order
    assert np.count_nonzero(three.mask.array != one.mask.array) <= 2


def test_a_seed_gives_the_same_mask_and_another_seed_another_one() -> None:
    on = grid(THICK)
    lesion, organ = ball((10, 5, 0), 9, on), ball((0, 0, 0), 40, on)
    one, again, other = (carried(lesion, organ, organ, CarryLimits(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.mask.array, again.mask.array)
    assert one.move == again.move
    assert not np.array_equal(one.mask.array, other.mask.array)


def test_nothing_is_done_where_nothing_may_be_done() -> None:
    """No turn, bend, shift or scale: the very same voxels."""
    on = grid((1.0, 1.0, 3.0))
    lesion, organ = ball((8, -6, 3), 10, on, (1, 0.7, 1.2)), ball((0, 0, 0), 40, on)
    still = CarryLimits(deform=0, rotation_deg=0, mirror=False, shift_mm=0, scale=(1, 1))
    made = carried(lesion, organ, organ, still)
    assert np.count_nonzero(made.mask.array != lesion.array) <= 0.03 * np.count_nonzero(lesion.array)
    assert np.linalg.norm(made.move.shift_mm) < 1e-6
    assert (made.move.turn_deg, made.move.mirrored, made.move.bent_mm) == (0, False, 0)


def test_turns_deformations_and_shifts_keep_their_limits() -> None:
    on = grid((1.5, 1.5, 3.0))
    lesion, organ = ball((6, 0, 0), 10, on), ball((0, 0, 0), 45, on)
    limits = CarryLimits(rotation_deg=20, deform=0.2, shift_mm=12)
    made = [carried(lesion, organ, organ, limits, seed=seed).move for seed in range(8)]
    radius = np.cbrt(volume_mm3(lesion) * 3 / 4 / np.pi)
    assert all(move.turn_deg <= 20 + 1e-6 for move in made)
    assert all(move.bent_mm <= 0.2 * radius + 1e-6 for move in made)
    assert all(np.linalg.norm(move.shift_mm) <= 12 + 1e-6 for move in made)
    assert {move.mirrored for move in made} == {True, False}
    assert max(move.turn_deg for move in made) > 10


def test_a_bent_ball_is_none_and_keeps_its_volume() -> None:
    on = grid((1.0, 1.0, 1.0), 90.0)
    lesion, organ = ball((0, 0, 0), 15, on), ball((0, 0, 0), 38, on)
    made = carried(lesion, organ, organ, CarryLimits(deform=0.25, scale=(1, 1), margin_mm=1), seed=4)
    away = np.linalg.norm(np.argwhere(made.mask.array) - np.argwhere(made.mask.array).mean(axis=0), axis=1)
    assert away.max() > 15.8
    assert away.max() < 15 * 1.25 + 1
    assert volume_mm3(made.mask) == pytest.approx(volume_mm3(lesion), abs=1)


def test_the_scale_is_held_within_its_limits() -> None:
    on = grid(THIN)
    lesion, organ, host = ball((0, 0, 0), 6, on), ball((0, 0, 0), 20, on), ball((0, 0, 0), 50, on)
    made = carried(lesion, organ, host, CarryLimits(scale=(0.5, 1.5)))
    assert made.move.organ_scale == pytest.approx(2.5, rel=0.02)
    assert made.move.scale == 1.5
    assert volume_mm3(made.mask) == pytest.approx(volume_mm3(lesion) * 1.5**3, rel=0.01)


class TestPokingOut:
    on = grid((1.5, 1.5, 3.0), 150.0)
    organ = ball((0, 0, 0), 40, on)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("centre", [(38, 0, 0), (0, -42, 0), (24, 24, 24)])
    def test_it_keeps_its_share_outside_and_its_direction(self, centre, seed: int) -> None:
        lesion, host = ball(centre, 12, self.on), ball((0, 0, 0), 48, grid(THICK, 150.0))
        made = carried(lesion, self.organ, host, CarryLimits(exophytic=(0, 0.8)), seed=seed)
        outside = np.count_nonzero(lesion.array[self.organ.array == 0]) / np.count_nonzero(lesion.array)
        assert made.move.outside_before == pytest.approx(outside)
        there = np.count_nonzero(made.mask.array[host.array == 0]) / np.count_nonzero(made.mask.array)
        assert made.move.outside == pytest.approx(there)
        assert abs(there - outside) <= 0.1
        direction = centroid_mm(made.mask) / np.linalg.norm(centroid_mm(made.mask))
        assert direction @ np.array(centre) / np.linalg.norm(centre) > np.cos(np.deg2rad(50))
        assert made.move.turn_deg <= 30 + 1e-6

    def test_one_that_was_cut_out_of_its_organ_is_inside_all_the_same(self) -> None:
        """Organ and tumour are often two labels, so that no voxel of a tumour is organ."""
        lesion = ball((15, 0, 0), 12, self.on)
        bitten = self.organ.with_array(self.organ.array & (1 - lesion.array))
        made = carried(lesion, bitten, self.organ)
        assert made.move.outside_before == 0
        assert made.move.scale == pytest.approx(1)
        assert keeps_margin(made.mask, self.organ, 3)

    def test_one_cut_out_of_the_edge_pokes_out_about_as_far(self) -> None:
        lesion = ball((40, 0, 0), 12, self.on)
        bitten = self.organ.with_array(self.organ.array & (1 - lesion.array))
        whole = carried(lesion, self.organ, self.organ, CarryLimits(exophytic=(0, 0.8)))
        made = carried(lesion, bitten, self.organ, CarryLimits(exophytic=(0, 0.8)))
        assert made.move.outside_before == pytest.approx(whole.move.outside_before, abs=0.15)

    def test_more_or_less_of_it_outside_than_allowed(self) -> None:
        lesion = ball((40, 0, 0), 12, self.on)
        for limits in (CarryLimits(exophytic=(0, 0.2)), CarryLimits(exophytic=(0.8, 0.9))):
            no = refused(lesion, self.organ, self.organ, limits)
            assert no.why == "exophytic"
            assert "%" in no.reason
        inside = refused(
            ball((0, 0, 0), 12, self.on), self.organ, self.organ, CarryLimits(exophytic=(0.1, 0.9))
        )
        assert inside.why == "exophytic"

    def test_one_beside_its_organ_is_refused_whatever_is_allowed(self) -> None:
        no = refused(ball((60, 0, 0), 8, self.on), self.organ, self.organ, CarryLimits(exophytic=(0, 1)))
        assert no.why == "exophytic"

    def test_its_outside_keeps_clear_of_other_organs(self) -> None:
        around = ball((0, 0, 0), 70, self.on).array & (1 - self.organ.array)
        host = HostOrgan.of(self.organ, others=around)
        no = refused(ball((38, 0, 0), 12, self.on), self.organ, host)
        assert no.why == "taken"
        assert "other organs" in no.reason

    def test_no_surface_that_faces_its_way(self) -> None:
        """Of a round organ, without any turn: almost none does."""
        lesion = ball((-38, 0, 0), 12, self.on)
        no = refused(lesion, self.organ, self.organ, CarryLimits(rotation_deg=0.01))
        assert no.why == "no_room"
        assert "faces the same way" in no.reason

    def test_an_organ_too_small_to_hold_its_share(self) -> None:
        lesion, tiny = ball((38, 0, 0), 12, self.on), ball((0, 0, 0), 6, self.on)
        no = refused(lesion, self.organ, tiny, CarryLimits(scale=(1, 1), rotation_deg=90))
        assert no.why == "surface"
        assert "none has as much outside" in no.reason

    def test_its_outside_lies_in_the_ct(self) -> None:
        lesion = ball((-38, 0, 0), 12, self.on)
        ends = np.zeros(self.on[0], np.uint8)
        ends[:50] = 1
        no = refused(lesion, self.organ, Volume(ends, self.on[1]), CarryLimits(shift_mm=60))
        assert no.why == "taken"
        assert "end of the CT" in no.reason


class TestRefusals:
    on = grid(THIN)
    organ = ball((0, 0, 0), 30, on)
    lesion = ball((0, 0, 0), 10, on)

    def test_an_organ_that_is_too_thin(self) -> None:
        flat = ball((0, 0, 0), 40, self.on, (1, 1, 0.2))
        no = refused(self.lesion, self.organ, flat)
        assert no.why == "no_room"
        assert "the best of" in no.reason
        assert "4 mm are asked for" in no.reason

    def test_no_place_near_the_corresponding_one(self) -> None:
        ring = ball((0, 0, 0), 50, self.on).array & (1 - ball((0, 0, 0), 22, self.on).array)
        far = self.organ.with_array(ring)
        near, wide = (CarryLimits(shift_mm=mm, scale=(1, 1)) for mm in (5, 60))
        assert refused(self.lesion, self.organ, far, near).why == "no_room"
        carried(self.lesion, self.organ, far, wide)

    def test_other_lesions_leave_no_room(self) -> None:
        host = HostOrgan.of(self.organ, taken=ball((0, 0, 0), 22, self.on).array)
        no = refused(ball((0, 0, 0), 4, self.on), self.organ, host, CarryLimits(gap_mm=20))
        assert no.why == "taken"
        assert "20 mm" in no.reason

    def test_the_gap_to_other_lesions_is_kept(self) -> None:
        taken = ball((0, 0, 0), 10, self.on)
        made = carried(ball((0, 0, 0), 4, self.on), self.organ, HostOrgan.of(self.organ, taken=taken.array))
        away = distance_transform_edt(taken.array == 0, sampling=taken.spacing_mm)
        assert away[made.mask.array > 0].min() > RIGID.gap_mm

    def test_smaller_than_a_voxel(self) -> None:
        coarse = ball((0, 0, 0), 30, grid((6.0, 6.0, 6.0)))
        no = refused(ball((0, 0, 0), 1.6, self.on), self.organ, coarse, CarryLimits(scale=(1, 1)))
        assert no.why == "too_small"
        assert "half a voxel" in no.reason

    def test_a_lesion_that_would_fall_apart(self) -> None:
        """Two balls and a thin bar between them, on voxels of 6 mm."""
        on = grid((1.0, 1.0, 1.0), 60.0)
        two = union(ball((-16, 0, 0), 6, on), ball((16, 0, 0), 6, on), ball((0, 0, 0), 1, on, (14, 1, 1)))
        coarse = ball((0, 0, 0), 50, grid((6.0, 6.0, 6.0)))
        no = refused(two, None, coarse, CarryLimits(tries=2))
        assert no.why == "apart"
        assert "6 x 6 x 6 mm" in no.reason

    def test_the_other_side_without_mirroring(self) -> None:
        no = refused(self.lesion, self.organ, self.organ, CarryLimits(mirror=False), opposite=True)
        assert no.why == "not_there"

    def test_the_end_of_the_volume_is_the_end_of_the_organ(self) -> None:
        """An organ that is cut off by the field of view: what lies beyond is not known."""
        cut_off = Volume(np.ones((40, 40, 20), np.uint8), np.diag((1.0, 1.0, 2.0, 1.0)))
        made = carried(ball((0, 0, 0), 8, self.on), None, cut_off)
        assert keeps_margin(made.mask, cut_off, 3)
        assert refused(ball((0, 0, 0), 19, self.on), None, cut_off).why == "no_room"

    @pytest.mark.parametrize("empty", ["lesion", "organ", "host"])
    def test_empty_masks(self, empty: str) -> None:
        masks = {"lesion": self.lesion, "organ": self.organ, "host": self.organ}
        masks[empty] = self.organ.with_array(0 * self.organ.array)
        with pytest.raises(EmptyMask):
            try_carry(*masks.values())


def test_a_lesion_whose_organ_is_not_known_keeps_its_size_and_may_go_anywhere() -> None:
    on = grid(THIN)
    lesion, host = ball((0, 0, 0), 6, on), ball((0, 0, 0), 50, on)
    made = [carried(lesion, None, host, seed=seed) for seed in range(5)]
    assert all(volume_mm3(one.mask) == pytest.approx(volume_mm3(lesion), abs=2) for one in made)
    assert all(one.move.shift_mm is None and one.move.organ_scale is None for one in made)
    assert np.array([one.move.centre_mm for one in made]).std(axis=0).min() > 8


def test_the_other_side_is_the_mirror_image() -> None:
    """A lesion in front, with a wing to the patient's left: on the other side it points to the right."""
    on = grid((1.5, 1.5, 1.5), 150.0)
    right, left = ball((-30, 0, 0), 25, on), ball((30, 0, 0), 25, on)
    lesion = union(ball((-32, 10, 0), 6, on), ball((-40, 10, 0), 4, on))
    still = CarryLimits(deform=0, rotation_deg=0, shift_mm=0)
    made = carried(lesion, right, left, still, opposite=True)
    assert made.move.mirrored
    mirrored = lesion.array[::-1]
    assert np.count_nonzero(made.mask.array != mirrored) <= 0.05 * np.count_nonzero(mirrored)


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin_mm": -1},
        {"gap_mm": float("nan")},
        {"exophytic": (0.5, 0.2)},
        {"exophytic": (0, 1.5)},
        {"scale": (0, 1)},
        {"rotation_deg": 181},
        {"deform": 0.3},
        {"shift_mm": -1},
        {"tries": 0},
    ],
)
def test_limits_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        CarryLimits(**wrong)
