"""Lesions of a case: their sizes and places, what they hang on, what is measured of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cohort_kit import LEFT_LUNG, LIVER, begin, depth_mm, one_host, specification, write_references
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.findings import NotPlaced, PlacedLesion, place_lesions
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.hosts import CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack
from lesionbrush.cohorts.shapes import draw_form
from lesionbrush.cohorts.truth import axes_mm, measure, seam_hu
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, NoLungs
from lesionbrush.files.io import read_volume, write_volume
from transfer_kit import TILT, ball, grid

pytest_plugins = "cli_fixtures"


@pytest.fixture(autouse=True)
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_references(folder / "cts")
    return folder


def placed(base: Path, number: int = 1, **rule: object) -> tuple[CohortHost, list[PlacedLesion]]:
    one = one_host(base, findings=[{"diameter_mm": 7, **rule}])
    case = PlannedCase(f"{one.case.reference}-{number:04d}", one.case.reference, "train")
    return one.host, place_lesions(one.specification, case, one.host)


# --- bodies ---


@pytest.mark.parametrize("shape", ["round", "lobulated", "spiculated"])
@pytest.mark.parametrize("elongation", [1.0, 2.0])
def test_a_body_has_the_volume_and_the_length_asked_for(shape: str, elongation: float) -> None:
    form = draw_form(12.0, shape, elongation, np.random.default_rng(0))
    assert form.volume_mm3 == pytest.approx(np.pi / 6 * 12**3, rel=0.06)
    if shape == "round":
        assert form.reach_mm == pytest.approx(6 * elongation**0.5, rel=0.15)


# --- places ---


def test_a_lesion_lies_in_its_organ_with_its_size(base: Path) -> None:
    host, (one,) = placed(base, place={"inside": "liver"})
    inside = one.mask(host.ct).array > 0
    assert set(host.patient.organs.labels.array[inside]) == {LIVER}
    assert inside.sum() * host.ct.voxel_volume_mm3 == pytest.approx(np.pi / 6 * 7**3, rel=0.05)


@pytest.mark.parametrize("ends", [(1.0, 3.0), (5.0, 9.0)])
def test_a_lesion_is_as_far_from_the_surface_as_asked(base: Path, ends: tuple[float, float]) -> None:
    host, (one,) = placed(base, diameter_mm=5, place={"inside": "left lung", "surface_mm": ends})
    organ = host.patient.organs.labels.array == LEFT_LUNG
    measured = depth_mm(one.mask(host.ct).array > 0, organ, host.ct.spacing_mm)
    assert ends[0] < measured <= ends[1] + max(host.ct.spacing_mm)
    assert one.settled.surface_mm == pytest.approx(measured, abs=0.01)


def test_sides(base: Path) -> None:
    for side, label in (("left", "lung_left"), ("right", "lung_right")):
        found = {placed(base, n, place={"inside": "lung", "side": side})[1][0].organ for n in range(1, 5)}
        assert found == {label}
    both = {placed(base, n, place={"inside": "lung"})[1][0].organ for n in range(1, 9)}
    assert both == {"lung_left", "lung_right"}


def test_several_keep_their_gap(base: Path) -> None:
    one = one_host(
        base, findings=[{"number": 4, "diameter_mm": 5, "place": {"gap_mm": 4, "edits_may_meet": True}}]
    )
    four = place_lesions(one.specification, one.case, one.host)
    places = [np.argwhere(lesion.mask(one.host.ct).array) * one.host.ct.spacing_mm for lesion in four]
    apart = [
        np.linalg.norm(a[:, None] - b, axis=-1).min() for k, a in enumerate(places) for b in places[k + 1 :]
    ]
    assert len(four) == 4
    assert min(apart) > 4


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"place": {"inside": "spleen"}}, "findings.0: the target has no 'spleen'"),
        ({"place": {"inside": "liver", "side": "left"}}, "no left liver is among the labels"),
        ({"diameter_mm": 40}, "40 mm across|no_room|to the organ's surface"),
        ({"diameter_mm": 5, "place": {"surface_mm": [13, 14]}}, "more than 13 mm, at most 14 mm"),
    ],
)
def test_what_has_no_place_says_why(base: Path, rule: dict[str, object], said: str) -> None:
    with pytest.raises(NotPlaced, match=said):
        placed(base, **rule)


def test_lesions_that_are_there_are_kept_clear_of(base: Path) -> None:
    one = one_host(base)
    full = one.host.with_taken(one.host.patient.organs.labels.array > 0)
    with pytest.raises(NotPlaced, match="but for lesions nearer than 5 mm"):
        place_lesions(one.specification, one.case, full)


def test_a_case_hangs_on_seed_and_id_alone(base: Path) -> None:
    def masks(number: int, seed: int, count: int = 1) -> list[np.ndarray]:
        rule = {"number": count, "diameter_mm": {"uniform": [5.0, 8.0]}}
        one = one_host(base, seed=seed, findings=[rule])
        case = PlannedCase(f"{one.case.reference}-{number:04d}", one.case.reference, "train")
        return [p.mask(one.host.ct).array for p in place_lesions(one.specification, case, one.host)]

    (first,) = masks(1, 0)
    assert np.array_equal(first, masks(1, 0)[0])
    assert np.array_equal(first, masks(1, 0, count=2)[0])
    assert not np.array_equal(first, masks(2, 0)[0])
    assert not np.array_equal(first, masks(1, 1)[0])


def test_rows_of_a_table_are_for_all_cts_or_for_one(base: Path) -> None:
    table = base / "rows.csv"
    table.write_text(
        "reference,diameter_mm,inside,attributes.mean_hu\nMiller_0_ct,6,liver,-20\nother,5,lung,0\n"
    )
    one = one_host(base, findings=[{"table": str(table)}])
    (found,) = place_lesions(one.specification, one.case, one.host)
    assert (found.wanted.diameter_mm, found.organ, found.wanted.attributes) == (6, "liver", {"mean_hu": -20})
    table.write_text("reference,diameter_mm\nother,5\n")
    later = one_host(base, findings=[{"table": str(table), "shape": "lobulated"}])
    with pytest.raises(NotPlaced, match="has no row for 'Miller_0_ct'"):
        place_lesions(later.specification, later.case, later.host)


def test_real_masks_are_carried_over(base: Path) -> None:
    donor = base / "donors" / "a"
    donor.mkdir(parents=True)
    on = grid((1.2, 1.2, 2.0), 90.0)
    write_volume(ball((0, 0, 0), 4, on), donor / "mask.nii.gz")
    limits = {"scale": [1, 1], "margin_mm": 1}
    rule = {"transfer": {"cases": str(base / "donors"), "into": "liver", "limits": limits}}
    one = one_host(base, findings=[rule])
    (found,) = place_lesions(one.specification, one.case, one.host)
    inside = found.mask(one.host.ct).array > 0
    assert set(one.host.patient.organs.labels.array[inside]) == {LIVER}
    assert inside.sum() * one.host.ct.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 64, rel=0.15)
    assert found.wanted.donor == "a, lesion 1"
    assert found.wanted.move is not None
    nowhere = one_host(base, findings=[{"transfer": {"cases": str(base / "donors")}}])
    with pytest.raises(NotPlaced, match="none of 1 donors fits; a, lesion 1: it touches no organ"):
        place_lesions(nowhere.specification, nowhere.case, nowhere.host)


def test_a_host_that_does_not_fit_its_labels(tmp_path: Path) -> None:
    write_references(tmp_path / "cts", 1)
    labels = tmp_path / "cts" / "Miller_0_ct_organs.nii.gz"
    organs = read_volume(labels)
    write_volume(Volume(organs.array[1:], organs.affine), labels)
    with pytest.raises(GeometryMismatch, match="label volume"):
        one_host(tmp_path)
    with pytest.raises(NoLungs):
        one_host(tmp_path, references=[{"folder": "cts", "files": "*_ct.nii.gz"}])


# --- truth ---


def test_truth_of_a_ball_in_even_tissue() -> None:
    on = grid((1.0, 1.0, 1.0), 40.0)
    inside = ball((0, 0, 0), 6, on)
    other = ball((0, 12, 0), 3, on)
    hu = np.where(inside.array > 0, 30, np.where(other.array > 0, 500, -800)).astype(np.int16)
    truth = measure(inside.with_array(hu), inside.array, other.array)
    assert truth.volume_ml == pytest.approx(4 / 3 * np.pi * 216 / 1000, rel=0.03)
    assert truth.ball_mm == pytest.approx(12, rel=0.02)
    assert truth.long_axis_mm == pytest.approx(12, abs=1.2)
    assert truth.short_axis_mm == pytest.approx(12, abs=1.2)
    assert (truth.mean_hu, truth.ring_hu, truth.contrast_hu, truth.cnr) == (30, -800, 830, None)
    without = measure(inside.with_array(hu), inside.array)
    assert without.ring_hu is not None
    assert without.ring_hu > -800


def test_axes_are_in_the_axial_plane_whatever_the_order_of_axes() -> None:
    """A body of 20 mm along the patient's front, 8 across, 30 along the axis of the body."""
    squash = (0.4, 1.0, 1.5)
    straight = ball((0, 0, 0), 10, grid((1.0, 1.0, 1.0), 60.0), squash)
    turned = Volume(straight.array.transpose(2, 0, 1), straight.affine[:, [2, 0, 1, 3]])
    tilted = ball((0, 0, 0), 10, grid((0.8, 0.8, 1.0), 60.0, TILT), squash)
    for lesion in (straight, turned, tilted):
        long_mm, short_mm = axes_mm(lesion)
        assert long_mm == pytest.approx(20, abs=1.5)
        assert short_mm == pytest.approx(8, abs=1.5)


def test_a_seam_is_the_step_that_an_edit_leaves() -> None:
    before = np.zeros((9, 9, 9), np.int16)
    after = before.copy()
    after[3:6, 3:6, 3:6] = 100
    assert seam_hu(before, after) == 100
    assert seam_hu(before, before) == 0
    edge = before.copy()
    edge[4:] = 100
    moved = edge.copy()
    moved[3] = 50
    assert seam_hu(edge, moved) == 0


# --- making ---


@pytest.fixture(scope="module")
def folder(base: Path, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> CohortFolder:
    return begin(base, tmp_path_factory.mktemp("out") / "cohort")


def test_a_case_changes_nothing_else(base: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))
    rules = [{"number": 2, "diameter_mm": 6, "attributes": {"mean_hu": -50}}]
    one = one_host(base, findings=rules, healthy_twins="healed")
    made = CaseMaker(one.specification, "digest", ModelRack("cpu")).make(one.case, one.host)
    record, ct = made.record, one.host.ct
    assert [lesion.label for lesion in record.lesions] == [1, 2]
    assert set(np.unique(made.mask)) == {0, 1, 2}
    near = np.zeros(ct.shape, bool)
    near[record.box] = made.mask > 0
    away = np.argwhere(near) * ct.spacing_mm
    for array in (made.box, made.twin):
        assert array is not None
        changed = ct.array.copy()
        changed[record.box] = array
        places = np.argwhere(changed != ct.array) * ct.spacing_mm
        assert len(places)
        apart = np.array([np.linalg.norm(away - place, axis=1).min() for place in places])
        assert apart.max() <= record.lesions[0].reach_mm
    assert record.provenance is not None
    assert record.provenance.made_from is not None
    assert record.provenance.made_from.reference_sha256 == ct.voxel_sha256
    truth = record.lesions[0].truth
    assert truth.mean_hu == pytest.approx(made.box[made.mask == 1].mean(), abs=0.01)
    assert record.lesions[0].off_hu == pytest.approx(abs(-50 - truth.mean_hu))
    assert record.worst >= record.lesions[0].off_hu


def test_a_case_without_lesions_is_a_box_as_it_was(
    base: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))
    one = one_host(base, findings=[{"number": 0, "diameter_mm": 6}])
    made = CaseMaker(one.specification, "digest", ModelRack("cpu")).make(one.case, one.host)
    assert np.array_equal(made.box, one.host.ct.array[made.record.box])
    assert not made.mask.any()
    assert made.record.provenance is None
    assert made.record.seam_hu == 0


def test_two_specifications_do_not_share_a_folder(base: Path, folder: CohortFolder) -> None:
    assert begin(base, folder.path).asked == folder.asked
    again = CohortFolder.open(folder.path)
    assert (again.asked, again.cases) == (folder.asked, folder.cases)
    assert specification(base) == again.specification
