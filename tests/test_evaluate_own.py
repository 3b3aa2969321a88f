"""`evaluate downstream` on a user's own folder: what is in it, how it is split, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import CHEST_SHAPE, ball
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, InvalidRequest
from lesionbrush.evaluation.downstream.arms import REAL
from lesionbrush.evaluation.downstream.made import ASK
from lesionbrush.evaluation.downstream.own import OwnLabels, read_own
from lesionbrush.evaluation.downstream.samples import LUNG_WINDOW_HU, SOFT_WINDOW_HU, real_sample
from lesionbrush.evaluation.downstream.study import DownstreamOrder, evaluate_downstream
from lesionbrush.files.io import write_volume
from lesionbrush.files.nnunet_raw import find_raw_dataset
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest

LUNGS = ball(CHEST_SHAPE, (25, 40, 35), 20) | ball(CHEST_SHAPE, (75, 40, 35), 20)
PLACES = {1: ((25, 40, 35), (25, 54, 35)), 2: ((75, 40, 35),)}
ABOUT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
LUNG_AND_LESION = {"background": 0, "lung": [1, 2], "tumour": 2}


def write_case(folder: Path, name: str, places: tuple[tuple[int, ...], ...], number: int = 1) -> None:
    """Two lungs in a body in air, with balls of 4 mm: the second of case 1 is 14 mm from the first."""
    shape = np.array(CHEST_SHAPE)
    lesions = np.any([ball(CHEST_SHAPE, place, 4) for place in places], axis=0) if places else LUNGS & False
    x, y, _ = np.indices(CHEST_SHAPE)
    body = ((x - 50) / 49) ** 2 + ((y - 40) / 38) ** 2 < 1
    hu = np.where(LUNGS, np.where(lesions, 30, -850), np.where(body, 40, -1000))
    hu = hu + np.random.default_rng(len(name)).normal(0, 15, shape)
    labels = np.where(lesions, number, LUNGS * (number - 1)).astype(np.uint8)
    ct = np.rint(hu).astype(np.int16)
    for kind, ending, array in (("imagesTr", "_0000", ct), ("labelsTr", "", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, np.eye(4)), folder / kind / f"{name}{ending}.nii.gz")


def write_dataset(folder: Path, about: Mapping[str, object] = ABOUT, number: int = 1) -> Path:
    """Four patients: P1 and P3 with two lesions, P2 and P4 with one, P1 in a second CT without any."""
    folder.mkdir(parents=True)
    for patient in (1, 2, 3, 4):
        write_case(folder, f"P{patient}_a", PLACES[2 - patient % 2], number)
    write_case(folder, "P1_b", (), number)
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("own") / "Dataset001_Nodules")


class TestReading:
    def test_every_lesion_is_on_the_side_of_its_patient(self, folder: Path) -> None:
        data = read_own(folder, OwnLabels(patient="(P[0-9]+)_"))
        seen, held_out = ({one.patient for one in side} for side in (data.training, data.tested))
        assert len(held_out) == 1
        assert seen | held_out == {"P1", "P2", "P3", "P4"}
        assert not seen & held_out
        assert not {host.name[:2] for host in data.hosts} & held_out
        assert len(data.training) + len(data.tested) == 6
        assert data.window_hu == LUNG_WINDOW_HU

    def test_lesions_are_cut_out_alone_and_what_lies_beside_is_not_shown(self, folder: Path) -> None:
        data = read_own(folder, OwnLabels())
        one = next(one for one in (*data.training, *data.tested) if one.name.startswith("P3"))
        volume = ball(CHEST_SHAPE, (25, 40, 35), 4).sum()
        assert np.count_nonzero(one.inside) == volume
        assert one.others is not None
        assert np.count_nonzero(one.others) == volume
        shown = real_sample(one).patch
        assert abs(np.count_nonzero(shown.inside) - volume) < 0.1 * volume
        dense = (shown.hu > -200) & shown.known & ~shown.inside
        assert np.count_nonzero(~shown.known) >= volume
        assert not dense[24:32, 20:46, 20:36].any()  # the other one would be here; the body is further away
        assert -50 < (one.measured.mean_hu or 0) < 100
        assert one.texture == "lesion"

    def test_lungs_are_found_and_lesions_marked_in_hosts(self, folder: Path) -> None:
        for host in read_own(folder, OwnLabels()).hosts:
            assert host.lungs is not None
            assert 0.8 < np.count_nonzero(host.lungs.array) / np.count_nonzero(LUNGS) < 1.2
            assert bool(host.nodules) == (host.name != "P1_b")

    def test_an_organ_of_the_labels_is_taken_as_it_is(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "Dataset002_X", {**ABOUT, "labels": LUNG_AND_LESION}, number=2)
        data = read_own(folder, OwnLabels("tumour", "lung"))
        assert data.window_hu == SOFT_WINDOW_HU
        for host in data.hosts:
            assert host.lungs is not None
            assert np.count_nonzero(host.lungs.array) == np.count_nonzero(LUNGS)
        request = ASK["soft_tissue_inpainting"](data.training[0], 3)
        assert isinstance(request, SoftTissueRequest)
        assert request.attributes.contrast_hu == 200  # 880 HU, the most that it takes

    def test_what_is_too_small_or_too_wide_is_left_out_and_said(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "Dataset003_X")
        for patient, place in ((5, (25, 40, 35)), (6, (25, 40, 35))):
            write_case(folder, f"P{patient}_a", (place,))
            path = folder / "labelsTr" / f"P{patient}_a.nii.gz"
            array = np.zeros(CHEST_SHAPE, np.uint8)
            array[place] = 1
            array[: 50 * (patient - 5), 40, 35] = 1
            write_volume(Volume(array, np.eye(4)), path)
        said: list[str] = []
        data = read_own(folder, OwnLabels(), say=said.append)
        assert said == [
            "lesions below 14 mm3, left out: 1",
            "lesions wider than 40 mm, which no box holds, left out: 1",
        ]
        assert len(data.training) + len(data.tested) == 6


def about(**fields: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "dataset.json").write_text(json.dumps({**ABOUT, **fields}))


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def add(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).touch()


REFUSED: list[tuple[Callable[[Path], object], OwnLabels, str]] = [
    (remove("dataset.json"), OwnLabels(), "has no dataset.json: a raw dataset of nnU-Net v2 has one"),
    (remove("labelsTr/P2_a.nii.gz"), OwnLabels(), "has no labels of P2_a: add P2_a.nii.gz"),
    (remove("imagesTr/P2_a_0000.nii.gz"), OwnLabels(), "has no CT of P2_a: add P2_a_0000.nii.gz"),
    (lambda f: (f / "dataset.json").write_text("{"), OwnLabels(), "is no JSON"),
    (lambda f: (f / "dataset.json").write_text("{}"), OwnLabels(), "no channel_names or no labels"),
    (about(channel_names={"0": "T1", "1": "T2"}), OwnLabels(), "channels are T1, T2: this needs one"),
    (about(file_ending=None), OwnLabels(), "file_ending is None: write it as '.nii.gz'"),
    (about(labels={"lesion": "1"}), OwnLabels(), "write a number, or a list of them, for each name"),
    (about(dataset={}), OwnLabels(), "files named by 'dataset' are not read"),
    (about(labels=LUNG_AND_LESION), OwnLabels(), "are lung, tumour: say which by --lesion NAME"),
    (about(), OwnLabels("nodule"), "--lesion nodule: labels of Dataset001_X are lesion"),
    (about(), OwnLabels(organ="liver"), "--organ liver: labels of Dataset001_X are lesion"),
    (about(), OwnLabels(patient="(Q)"), r"--patient \(Q\) finds no patient in P1_a"),
    (about(), OwnLabels(patient="(P)"), "1 patients with lesions: a split by patient needs 4"),
    (add("imagesTr/P9_0001.nii.gz"), OwnLabels(), "P9_0001: CTs are called CASE_0000.nii.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "labels", "words"), REFUSED, ids=[words[:30] for *_, words in REFUSED])
def test_what_will_not_do_is_refused_before_a_ct_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], object],
    labels: OwnLabels,
    words: str,
) -> None:
    folder = write_dataset(tmp_path / "Dataset001_X")
    spoil(folder)
    monkeypatch.setattr("lesionbrush.evaluation.downstream.own.require_ct", pytest.fail)
    with pytest.raises(InvalidRequest, match=words):
        read_own(folder, labels)


def test_labels_on_another_grid_are_refused_with_the_case(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "Dataset001_X")
    write_volume(Volume(np.ones((5, 5, 5), np.uint8), np.eye(4)), folder / "labelsTr" / "P2_a.nii.gz")
    with pytest.raises(GeometryMismatch, match="P2_a: the labels is 5 x 5 x 5 voxels"):
        read_own(folder, OwnLabels())


@pytest.mark.parametrize(
    ("patient", "words"), [("P[0-9]", "write a group around the patient"), ("(P", "missing \\)")]
)
def test_expressions_without_a_patient(patient: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        OwnLabels(patient=patient)


def test_labels_are_of_folders_of_nnunet_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--organ liver: data is no dataset of nnU-Net v2"):
        DownstreamOrder("lung_lesion", tmp_path / "data", tmp_path, "", own=OwnLabels(organ="liver"))


def test_regions_are_sets_of_values(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "Dataset001_X", {**ABOUT, "labels": {**LUNG_AND_LESION, "ignore": 3}})
    assert find_raw_dataset(folder).labels == {"lung": {1, 2}, "tumour": {2}}


def test_a_run_over_an_own_folder(folder: Path, tmp_path: Path) -> None:
    order = DownstreamOrder(
        "lung_lesion", folder, tmp_path, "a machine", (0.5,), (REAL, "real + made 100 %"), steps=1, cases=3,
        own=OwnLabels(patient="(P[0-9]+)_"),
    )  # fmt: skip
    report = evaluate_downstream(order)
    assert [run.arm for run in report.runs] == [REAL, "real + made 100 %"]
    assert report.runs[1].samples == 2 * report.runs[0].samples
    assert set(report.tested.groups) == {"lesion"}
