"""All lesions of a mask: which organ each is of, where it goes, and that none runs into another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest
from lesionbrush.transfer.hosts import HostPatient
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.patients import Attempt, SourcePatient, carry_all, organ_of, split_lesions
from lesionbrush.transfer.results import Carried, Refused
from scipy.ndimage import distance_transform_edt
from transfer_kit import ball, centroid_mm, grid, union, volume_mm3

ON = grid((1.8, 1.8, 3.0), 160.0)
LIVER = ball((30, 0, 0), 42, ON)
RIGHT, LEFT = ball((-40, 30, 0), 20, ON), ball((-40, -35, 0), 22, ON)
AMOS = {2: "right kidney", 3: "left kidney", 6: "liver"}
TOTAL = {1: "liver", 5: "kidney_left", 9: "kidney_right"}


def labels(names: Mapping[int, str], organs: Mapping[int, Volume]) -> Layout:
    array = np.zeros(ON[0], np.uint8)
    for number, organ in organs.items():
        array[organ.array > 0] = number
    return Layout(Volume(array, ON[1]), names)


SOURCE = labels(AMOS, {2: RIGHT, 3: LEFT, 6: LIVER})
TARGET = labels(TOTAL, {1: LIVER, 5: LEFT, 9: RIGHT})


def run(
    lesions: Volume,
    source: Layout | None = SOURCE,
    target: Layout = TARGET,
    *,
    there: Volume | None = None,
    into: str | None = None,
    limits: CarryLimits | None = None,
) -> list[Attempt]:
    limits = limits or CarryLimits()
    host = HostPatient.of(target, there, into)
    return list(carry_all(SourcePatient(lesions, source), host, limits, np.random.default_rng(5)))


def test_each_lesion_goes_into_the_organ_of_its_name() -> None:
    lesions = union(ball((25, 0, 0), 10, ON), ball((-42, 28, 0), 5, ON), ball((-40, -35, 0), 7, ON))
    made = run(lesions)
    assert [(one.number, one.organ, one.into) for one in made] == [
        (1, "liver", "liver"),
        (2, "left kidney", "kidney_left"),
        (3, "right kidney", "kidney_right"),
    ]
    for one in made:
        assert isinstance(one.result, Carried)
        assert set(TARGET.labels.array[one.result.mask.array > 0]) == {
            number for number, name in TOTAL.items() if name == one.into
        }


def test_carried_ones_keep_clear_of_each_other_and_of_what_is_there() -> None:
    lesions = union(*(ball((5 + 18 * n, 0, 0), 8, ON) for n in range(4)))
    there = ball((30, 0, 0), 12, ON)
    made = run(lesions, there=there, limits=CarryLimits(scale=(1, 1), shift_mm=100, gap_mm=4))
    masks = [one.result.mask.array > 0 for one in made if isinstance(one.result, Carried)]
    assert len(masks) == 4
    for number, mask in enumerate(masks):
        others = np.any([there.array > 0, *masks[:number], *masks[number + 1 :]], axis=0)
        away = distance_transform_edt(~others, sampling=there.spacing_mm)
        assert away[mask].min() > 4


def test_a_missing_side_is_taken_from_the_other_mirrored() -> None:
    one_sided = labels(TOTAL, {1: LIVER, 5: LEFT})
    lesion = ball((-46, 30, 3), 5, ON)
    made = run(lesion, target=one_sided)[0]
    assert isinstance(made.result, Carried)
    assert (made.organ, made.into, made.result.move.mirrored) == ("right kidney", "kidney_left", True)
    no = run(lesion, target=one_sided, limits=CarryLimits(mirror=False))[0]
    assert isinstance(no.result, Refused)
    assert no.result.why == "not_there"


def test_the_other_side_takes_what_does_not_fit() -> None:
    """The right kidney is full; what fits on the left goes there."""
    lesion = ball((-40, 30, 0), 6, ON)
    made = run(lesion, there=RIGHT)[0]
    assert isinstance(made.result, Carried)
    assert (made.into, made.result.move.mirrored) == ("kidney_left", True)
    both = run(lesion, there=union(RIGHT, LEFT))[0]
    assert isinstance(both.result, Refused)
    assert (both.into, both.result.why) == ("kidney_right", "taken")


def test_another_organ_by_name_and_only_that_side() -> None:
    lesion = ball((25, 0, 0), 10, ON)
    made = run(lesion, into="Right Kidney")[0]
    assert isinstance(made.result, Carried)
    assert (made.organ, made.into) == ("liver", "kidney_right")
    assert made.result.move.scale == pytest.approx(0.5)  # held: the kidney is 0.47 times as long
    assert run(ball((-42, 28, 0), 5, ON), into="kidneys")[0].into == "kidney_right"  # its own side first
    with pytest.raises(InvalidRequest, match="it has liver, kidney_left, kidney_right"):
        run(lesion, into="spleen")
    one_sided = labels({5: "kidney_left"}, {5: LEFT})
    with pytest.raises(InvalidRequest, match="no 'right kidney'"):
        run(lesion, into="right kidney", target=one_sided)


def test_a_source_without_organs_needs_the_name_of_one() -> None:
    lesion = ball((70, 70, 60), 6, ON)
    no = run(lesion, source=None)[0]
    assert isinstance(no.result, Refused)
    assert no.result.why == "no_organ"
    made = run(lesion, source=None, into="liver")[0]
    assert isinstance(made.result, Carried)
    assert volume_mm3(made.result.mask) == pytest.approx(volume_mm3(lesion), abs=10)


@pytest.mark.parametrize(
    ("lesion", "target", "why", "said"),
    [
        (ball((70, 70, 60), 6, ON), TARGET, "no_organ", "touches no organ"),
        (ball((25, 0, 0), 6, ON), labels({5: "kidney_left"}, {5: LEFT}), "not_there", "it has kidney_left"),
        (ball((25, 0, 0), 6, ON), labels(TOTAL, {5: LEFT}), "not_there", "no voxel"),
    ],
)
def test_refusals(lesion: Volume, target: Layout, why: str, said: str) -> None:
    made = run(lesion, target=target)[0]
    assert isinstance(made.result, Refused)
    assert made.result.why == why
    assert said in made.result.reason


def test_what_cannot_be_asked() -> None:
    lesion = ball((25, 0, 0), 6, ON)
    with pytest.raises(EmptyMask):
        run(lesion.with_array(0 * lesion.array))
    elsewhere = ball((0, 0, 0), 6, grid((2.0, 2.0, 3.0), 160.0))
    with pytest.raises(GeometryMismatch, match="lesion mask"):
        SourcePatient(elsewhere, SOURCE)
    with pytest.raises(GeometryMismatch, match="target's lesions"):
        HostPatient.of(TARGET, elsewhere)


def test_a_tumour_that_is_a_label_of_its_own_is_no_organ() -> None:
    """As in KiTS: one file, in which kidney and tumour are two labels, both with a name."""
    tumour = ball((-52, -35, 0), 8, ON)
    array = np.where(tumour.array > 0, 2, np.where(LEFT.array > 0, 1, 0)).astype(np.uint8)
    kits = Layout(Volume(array, ON[1]), {1: "kidney", 2: "tumor"})
    assert organ_of(tumour, kits) == "kidney"
    made = run(tumour, source=kits)[0]
    assert made.into in ("kidney_left", "kidney_right")
    assert isinstance(made.result, Carried)


def test_the_organ_with_most_of_a_lesion_counts() -> None:
    assert organ_of(ball((-40, 10, 0), 4, ON), SOURCE) == "right kidney"  # beside it, and touching
    assert organ_of(ball((0, 0, 70), 4, ON), SOURCE) is None
    nameless = Layout(SOURCE.labels, {2: "right kidney"})
    assert organ_of(ball((25, 0, 0), 6, ON), nameless) is None


def test_lesions_are_split_and_the_largest_comes_first() -> None:
    small, large = ball((-20, 0, 0), 5, ON), ball((20, 0, 0), 9, ON)
    parts = split_lesions(union(small, large))
    assert [np.count_nonzero(part.array) for part in parts] == [
        np.count_nonzero(large.array),
        np.count_nonzero(small.array),
    ]
    flipped = Volume(union(small, large).array[::-1], ON[1] @ np.diag((-1.0, 1, 1, 1)))
    flipped.affine[:3, 3] = ON[1][:3, 3] + ON[1][:3, 0] * (ON[0][0] - 1)
    for one, other in zip(parts, split_lesions(flipped), strict=True):
        assert centroid_mm(one) == pytest.approx(centroid_mm(other))


def test_a_host_is_as_before_and_measured_once() -> None:
    host = HostPatient.of(TARGET)
    source = SourcePatient(ball((25, 0, 0), 10, ON), SOURCE)
    first, again = (
        next(carry_all(source, host, CarryLimits(), np.random.default_rng(1))).result for _ in range(2)
    )
    assert isinstance(first, Carried)
    assert isinstance(again, Carried)
    assert np.array_equal(first.mask.array, again.mask.array)
    assert not host.taken.any()
    assert set(host.measured) == {"liver"}
