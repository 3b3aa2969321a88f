"""Lesions found and false positives: levels in closed form, boxes without a lesion, and their table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import CHEST_SHAPE, ball, save_chest
from lesionbrush.evaluation.downstream.arms import REAL
from lesionbrush.evaluation.downstream.clear import as_seen, clear_boxes
from lesionbrush.evaluation.downstream.detection import LEAST_VOXELS, count_pieces, detect, level
from lesionbrush.evaluation.downstream.results import Detection, DownstreamReport, HeldOutLesions, TrainedRun
from lesionbrush.evaluation.downstream.samples import SHAPE, SIDE, LesionBox
from lesionbrush.evaluation.downstream.tables import lines
from lesionbrush.evaluation.hosts import Host, load_hosts
from lesionbrush.evaluation.patches import UNKNOWN_HU, Patch

KNOWN = np.ones(SHAPE, bool)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Two balls of lung of 22 mm, a nodule in the middle of one."""
    folder = tmp_path_factory.mktemp("data")
    save_chest(folder / "chest_ct", "LIDC-IDRI-0001", np.random.default_rng(0))
    (found,) = load_hosts(folder)
    return found


class TestClearBoxes:
    def test_none_is_near_a_marked_lesion_and_all_are_in_lung(self, host: Host) -> None:
        hu = np.where(host.nodules[0].array > 0, 900, host.ct.array).astype(np.int16)
        bright = Host(host.name, host.ct.with_array(hu), host.lungs, host.nodules)
        boxes = clear_boxes(bright, "A", 12, np.random.default_rng(0))
        assert len(boxes) == 12
        for box in boxes:
            assert not box.patch.inside.any()
            assert box.patch.hu[SIDE // 2, SIDE // 2, SIDE // 2] < -700
            assert box.patch.hu.max() < 400  # no voxel of the nodule, which is brighter here

    def test_a_lesion_in_every_reach_leaves_none(self, host: Host) -> None:
        everywhere = host.ct.with_array(np.ones(CHEST_SHAPE, np.uint8))
        crowded = Host(host.name, host.ct, host.lungs, (everywhere,))
        assert clear_boxes(crowded, "A", 12, np.random.default_rng(0)) == []

    def test_they_are_seen_through_the_windows_of_lesions(self) -> None:
        hu = np.full((SIDE,) * 3, -800, np.float32)
        box = LesionBox(Patch(hu, hu > 0, hu < 0), "A", "no lesion")
        low = np.arange(SIDE)[:, None, None] + hu * 0 < 20
        (seen,) = as_seen([box], [LesionBox(Patch(hu, low, low), "B", "solid")])
        assert np.array_equal(seen.patch.known, low)
        assert (seen.patch.hu[~low] == UNKNOWN_HU).all()


class TestLevels:
    def test_as_many_voxels_reach_it_as_make_a_finding(self) -> None:
        logits, where = np.zeros(SHAPE), ball(SHAPE, (8, 20, 20), 4)
        logits[where] = np.random.default_rng(0).normal(size=np.count_nonzero(where))
        found = level(logits, where)
        assert np.count_nonzero(logits[where] >= found) == LEAST_VOXELS

    def test_a_lesion_of_which_too_little_is_shown_counts_for_neither(self) -> None:
        where = ball(SHAPE, (8, 20, 20), 1)
        assert np.isnan(level(np.ones(SHAPE), where))

    def test_pieces_touch_by_corners_and_specks_are_none(self) -> None:
        found = np.zeros(SHAPE, bool)
        assert count_pieces(found) == 0
        found[:2, :3, :3] = True
        found[2, 3, 3] = True  # a corner of the first
        found[8:10, 20:23, 20:23] = True
        found[0, 30, 30] = True
        assert count_pieces(found) == 2


def detection(found: int, alarmed: int) -> Detection:
    """Ten lesions and ten boxes without; so many are outlined."""
    inside = ball(SHAPE, (8, 20, 20), 3)
    lesions = [Patch(np.zeros(SHAPE, np.float32), inside, KNOWN)] * 10
    clear = [Patch(np.zeros(SHAPE, np.float32), inside & False, KNOWN)] * 10
    logits = np.stack([np.where(inside, k + 1.0 if k < found else -1.0, -5.0) for k in range(10)])
    others = np.stack([np.where(inside, 4.5 if k < alarmed else -1.0, -5.0) for k in range(10)])
    return detect(logits, lesions, others, clear)


def test_found_and_false_positives_at_the_operating_point_and_at_the_same_alarms() -> None:
    one = detection(found=8, alarmed=2)
    assert np.nanmean(one.found()) == pytest.approx(0.8)
    assert np.mean(np.array(one.false_positives, dtype=float)) == pytest.approx(0.2)
    assert np.nanmean(one.found_at(0.5)) == pytest.approx(0.8)
    assert np.nanmean(one.found_at(0.1)) == pytest.approx(0.4)  # above 4.5: those of logits 5 to 8


def test_the_table_has_them_with_intervals_by_patient() -> None:
    patients = tuple("AABBCCDDEE")
    runs = tuple(
        TrainedRun(
            real_share=0.1, arm=arm, seed=seed, samples=1, seconds=1.0,
            scores=dict.fromkeys(("dice", "jaccard", "sensitivity", "specificity"), (0.5,) * 10),
            detection=detection(found, alarmed),
        )
        for arm, found, alarmed in ((REAL, 8, 2), ("made 200 % alone", 6, 4)) for seed in (0, 1)
    )  # fmt: skip
    report = DownstreamReport(
        created="", machine="", model="m", weights_sha256="", steps=1, real=10, runs=runs,
        tested=HeldOutLesions(patients=patients, groups=("solid",) * 10, volumes_mm3=tuple(range(10))),
        clear_patients=("X",) * 5 + ("Y",) * 5,
    )  # fmt: skip
    assert report.detected(0.1, REAL).value == pytest.approx(0.8)
    alarms = report.false_positives(0.1, REAL)
    assert (alarms.value, alarms.low, alarms.high) == pytest.approx((0.2, 0.0, 0.4))
    assert report.gain_detected(0.1, "made 200 % alone", REAL, 0.1).value == pytest.approx(-0.2)
    printed = "\n".join(lines(report))
    assert "| detection | found | false positives per box | found at 0.1 | over real |" in printed
    assert "in 10 boxes of 2 held-out patients" in printed


def test_a_report_from_before_has_no_detection(tmp_path: Path) -> None:
    report = DownstreamReport(
        created="", machine="", model="m", weights_sha256="", steps=1, real=10,
        tested=HeldOutLesions(patients=("A",), groups=("solid",), volumes_mm3=(1,)),
    )  # fmt: skip
    assert report.detected(0.1, REAL).value is None
    assert report.false_positives(0.1, REAL).value is None
    assert not any("etection" in line for line in lines(report))
