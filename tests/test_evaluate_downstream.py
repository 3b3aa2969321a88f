"""`evaluate downstream`: boxes, made and pasted lesions, scores in closed form, and a run that goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_kit import save_chest, save_nodules
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.cases import load_nodules
from lesionbrush.evaluation.downstream import folds
from lesionbrush.evaluation.downstream.arms import ARMS, REAL, Material, choose_patients
from lesionbrush.evaluation.downstream.classification import train_classifier
from lesionbrush.evaluation.downstream.folds import FoldResult, split_patients
from lesionbrush.evaluation.downstream.made import MadePair, paste, place_donors
from lesionbrush.evaluation.downstream.results import DownstreamReport, HeldOutLesions, TrainedRun
from lesionbrush.evaluation.downstream.samples import (
    SHAPE,
    SIDE,
    LesionBox,
    draw_batch,
    held_out_patches,
    real_sample,
)
from lesionbrush.evaluation.downstream.scores import score_outlines
from lesionbrush.evaluation.downstream.segmenter import outline, train_segmenter
from lesionbrush.evaluation.downstream.study import (
    DownstreamOrder,
    classify_in_folds,
    evaluate_downstream,
)
from lesionbrush.evaluation.downstream.tables import lines
from lesionbrush.evaluation.hosts import load_hosts
from lesionbrush.evaluation.network import CNN
from lesionbrush.evaluation.patches import UNKNOWN_HU, Patch
from lesionbrush.training.split import is_validation

PATIENTS = [f"LIDC-IDRI-{number:04d}" for number in range(1, 40)]
SEEN = [patient for patient in PATIENTS if not is_validation(patient)]
HELD_OUT = [patient for patient in PATIENTS if is_validation(patient)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nodules of both sides of the split, and a chest of either."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(3)
    save_nodules(folder, [*SEEN[:3], *HELD_OUT[:2]], rng)
    save_chest(folder / "chest_ct", SEEN[4], rng)
    save_chest(folder / "chest_ct", HELD_OUT[2], rng)
    return folder


def sample(seed: int = 0, radius: float = 6.0) -> LesionBox:
    """A ball of 50 HU in lung; the CT ends eight voxels below and above its middle."""
    z, y, x = np.indices((SIDE,) * 3) - SIDE // 2
    inside, known = np.sqrt(z**2 + y**2 + x**2) < radius, np.abs(z) < 8
    hu = np.where(inside, 50.0, -850.0) + np.random.default_rng(seed).normal(0, 30, inside.shape)
    hu = np.where(known, hu, UNKNOWN_HU).astype(np.float32)
    return LesionBox(Patch(hu, inside & known, known), f"patient {seed}", "solid")


class TestSamples:
    def test_what_another_ct_does_not_show_tells_nothing(self) -> None:
        low = np.zeros((SIDE,) * 3, bool)
        low[: SIDE // 2] = True
        seen = sample().through(low)
        assert not seen.patch.inside[SIDE // 2 :].any()
        assert (seen.patch.hu[SIDE // 2 :] == UNKNOWN_HU).all()

    def test_batches_are_moved_and_mirrored_and_keep_the_lesion(self) -> None:
        batch = draw_batch([sample()], 8, np.random.default_rng(0))
        assert batch.shown.shape == (8, 2, *SHAPE)
        assert batch.inside.sum() == 8 * sample().volume_mm3
        middles = {tuple(np.argwhere(one[0].numpy()).mean(axis=0).round(1)) for one in batch.inside}
        assert len(middles) > 4

    def test_held_out_ones_are_shown_the_same_way_every_time(self) -> None:
        one, again = (held_out_patches([sample(k) for k in range(3)]) for _ in range(2))
        assert all(np.array_equal(a.hu, b.hu) for a, b in zip(one, again, strict=True))


class TestScores:
    def test_in_closed_form(self) -> None:
        inside = np.zeros((2, *SHAPE), bool)
        inside[0, 4, :10, :10] = True
        found = np.zeros_like(inside)
        found[0, 4, :10, 5:20] = True  # 50 right of 100, 100 beyond
        known = np.ones(SHAPE, bool)
        known[:, :, 20:] = False
        patches = [Patch(np.zeros(SHAPE), one, known) for one in inside]
        scores = score_outlines(found, patches)
        seen = known.sum() - 100
        expected = {"dice": 0.4, "jaccard": 0.25, "sensitivity": 0.5, "specificity": (seen - 100) / seen}
        assert {name: float(values[0]) for name, values in scores.items()} == pytest.approx(expected)
        assert all(np.isnan(values[1]) for values in scores.values())

    def test_an_attention_unet_learns_to_outline_a_ball_and_says_nothing_where_there_is_no_ct(self) -> None:
        balls = [sample(k, radius=5.0 + k) for k in range(3)]
        network = train_segmenter(balls, 30, seed=0)
        found, patches = outline(network, balls) > 0, held_out_patches(balls)
        assert score_outlines(found, patches)["dice"].min() > 0.6
        assert not any(found[k][~patch.known].any() for k, patch in enumerate(patches))

    def test_the_same_seed_is_the_same_network(self) -> None:
        one, again, other = (
            torch.cat([p.flatten() for p in train_segmenter([sample()], 2, seed).parameters()])
            for seed in (0, 0, 1)
        )
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


class TestArms:
    def test_a_smaller_share_of_patients_is_part_of_a_larger_one(self, data: Path) -> None:
        nodules = load_nodules(data, validation=False)
        few, others = choose_patients(nodules, 0.34)
        more, _ = choose_patients(nodules, 0.67)
        assert [len(few), len(others), len(more)] == [1, 2, 2]
        assert {one.name for one in few} < {one.name for one in more}

    def test_each_arm_has_what_it_says(self) -> None:
        pairs = [MadePair(sample(k), sample(k), sample(k)) for k in range(9)]
        material = Material([], pairs, [])
        material.__dict__["real"] = [sample()] * 4
        object.__setattr__(material, "donors", [None] * 4)
        counts = {name: len(arm(material)) for name, arm in ARMS.items() if "more real" not in name}
        assert counts == {
            REAL: 4,
            "real + made 100 %": 8,
            "real + made 200 %": 12,
            "real + pasted 200 %": 12,
            "made 200 % alone": 8,
        }

    def test_donors_lie_in_lung_and_away_from_what_a_chest_has(self, data: Path) -> None:
        donors, hosts = load_nodules(data, validation=False), load_hosts(data)
        placed = list(place_donors(donors, hosts, 6, np.random.default_rng(0)))
        assert len(placed) == 6
        for one in placed:
            lesion = one.mask.array > 0
            assert one.host.ct.array[lesion].mean() < -500
            assert not (lesion & (one.host.nodules[0].array > 0)).any()
            assert abs(np.count_nonzero(lesion) - np.count_nonzero(one.donor.inside)) < 30
        with pytest.raises(InvalidRequest, match="no CT of a training patient"):
            list(place_donors(donors, [], 1, np.random.default_rng(0)))

    def test_what_is_pasted_is_the_donor_inside_and_the_host_outside(self) -> None:
        host = replace(sample(1).patch, hu=np.full((SIDE,) * 3, -800, np.float32))
        donor = sample(2).patch
        made = paste(host, donor)
        core = donor.inside & np.roll(donor.inside, 2, 1) & np.roll(donor.inside, -2, 1)
        assert np.abs(made.hu - donor.hu)[core].max() < 100
        assert (made.hu[:, :8] == -800).all()
        assert np.array_equal(made.inside, donor.inside)


def report(**arms: tuple[float, ...]) -> DownstreamReport:
    tested = HeldOutLesions(patients=("A", "B", "B"), groups=("solid",) * 3, volumes_mm3=(10, 20, 30))
    runs = [
        TrainedRun(real_share=0.25, arm=arm, seed=seed, samples=4, seconds=1.0, scores=dict.fromkeys(
            ("dice", "jaccard", "sensitivity", "specificity"), tuple(v + 0.1 * seed for v in values)))
        for arm, values in arms.items() for seed in (0, 1)
    ]  # fmt: skip
    return DownstreamReport(
        created="",
        machine="",
        model="m",
        weights_sha256="",
        steps=3,
        real=16,
        tested=tested,
        runs=tuple(runs),
    )


def test_gains_are_lesion_by_lesion_and_seeds_are_averaged() -> None:
    found = report(**{REAL: (0.2, 0.4, 0.6), "made 200 % alone": (0.3, 0.5, 0.7)})
    assert found.figure(0.25, REAL, "dice").value == pytest.approx(0.45)
    gain = found.gain(0.25, "made 200 % alone", REAL, "dice")
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.spread(0.25, REAL, "dice") == pytest.approx(0.1 / np.sqrt(2))
    assert any("made 200 % alone | 4 |" in line and "+22%" in line for line in lines(found))


def test_a_run_makes_trains_and_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    order = DownstreamOrder("lung_lesion", data, tmp_path, "a machine", (0.5,), tuple(ARMS)[:2], 1, 1)
    said: list[str] = []
    first = evaluate_downstream(order, said.append)
    assert [(run.arm, run.samples) for run in first.runs] == [(REAL, 2), ("real + made 100 %", 4)]
    assert all((tmp_path / name).is_file() for name in ("downstream.png", "0.5_pairs.png", "clear.png"))
    assert all(run.detection is not None for run in first.runs)
    more = evaluate_downstream(replace(order, seeds=2), said.append)
    assert more.runs[:2] == first.runs
    assert more.classified[:2] == first.classified
    assert [(run.arm, run.seed) for run in more.classified] == [(run.arm, run.seed) for run in more.runs]
    assert [run.seed for run in more.runs] == [0, 0, 1, 1]
    assert "going on after 4 networks" in said
    with pytest.raises(InvalidRequest, match="is of other lesions, weights or steps: choose another --out"):
        evaluate_downstream(replace(order, steps=2))


class TestFolds:
    def test_every_patient_is_tested_once_by_networks_that_did_not_see_it(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said, seen = list[str](), list[set[str]]()

        def pair(donor: str) -> MadePair:
            return MadePair(
                *(replace(sample(k), patient=who) for k, who in enumerate((donor, donor, SEEN[4])))
            )

        def train(lesions: list[LesionBox], healthy: list[LesionBox], *rest: object) -> CNN:
            seen.append({box.patient for box in (*lesions, *healthy)})
            return train_classifier(lesions, healthy, 1, 0)

        monkeypatch.setattr(folds, "place_donors", lambda *_: [])
        monkeypatch.setattr(folds, "make_pairs", lambda *_: [pair(SEEN[0]), pair(HELD_OUT[0])])
        monkeypatch.setattr(folds, "train_classifier", train)
        order = DownstreamOrder("lung_lesion", data, tmp_path / "out", "here", steps=2, cases=3)
        found = classify_in_folds(order, said.append)
        lesions = {one for one, label in zip(found.patients, found.labels, strict=True) if label}
        assert sorted(lesions) == sorted({*SEEN[:3], *HELD_OUT[:2]})
        assert all(len(one) == len(found.labels) for one in found.logits.values())
        everybody = {*SEEN[:3], SEEN[4], *HELD_OUT[:3]}
        assert set(found.patients) == everybody
        fold_of = split_patients(sorted(everybody), 0)
        for said_of, patients in zip(said, seen, strict=True):
            fold = int(said_of.split()[1]) - 1
            assert not {one for one in patients if fold_of[one] == fold}
        table = list(found.lines())
        assert table[3].startswith("| real |")
        assert len(said) == 2 * len({line.split(",")[0] for line in said})

    def test_figures_are_those_of_all_folds_together(self) -> None:
        labels = np.array([1, 1, 0, 0])
        logits = {"real": np.array([1.0, -1, 1, -1]), "real + made and twins": np.array([1.0, 1, -1, -1])}
        found = FoldResult(("a", "b", "c", "d"), labels, logits)
        assert found.figure("real", "accuracy").value == 0.5
        assert found.figure("real + made and twins", "AUC").value == 1
        assert found.gain("accuracy").value == 0.5

    def test_a_fold_has_as_many_patients_as_another(self) -> None:
        of = split_patients([f"p{k % 23:02d}" for k in range(99)], 0)
        assert len(of) == 23
        assert sorted(np.bincount(list(of.values()))) == [4, 4, 5, 5, 5]
        for seed in range(5):
            of = split_patients(["p1_chest", "p1", "p2", "p3", "p4", "p5"], seed)
            assert of["p1_chest"] == of["p1"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shares": (0.0,)}, "--shares 0: give shares above 0"),
        ({"steps": 0}, "--steps 0"),
        ({"arms": ("magic",)}, "--arms magic: known are real;"),
    ],
)
def test_what_cannot_be_asked(data: Path, tmp_path: Path, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        replace(DownstreamOrder("lung_lesion", data, tmp_path, ""), **wrong)  # type: ignore[arg-type]


def test_models_of_other_systems_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="palette is of palette: this needs lesion_inpainting"):
        evaluate_downstream(DownstreamOrder("palette", data, tmp_path, ""))


def test_a_real_lesion_keeps_its_patient_and_texture(data: Path) -> None:
    nodule = load_nodules(data, validation=True)[0]
    found = real_sample(nodule)
    assert (found.patient, found.group) == (nodule.patient, nodule.texture)
    assert abs(found.volume_mm3 - np.count_nonzero(nodule.inside)) < 60
