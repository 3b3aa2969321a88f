"""An organ moved in a layout and found again in the CT made of it, and the network that finds organs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.semantic import finder
from lesionbrush.evaluation.semantic.finder import loss_of, trained_finder
from lesionbrush.evaluation.semantic.moving import MovedOrgan, measure_moved, move_left
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.systems.semantic.classes import BODY, UNKNOWN
from lesionbrush.systems.semantic.pack import ClassedCT
from semantic_kit import painting
from semantic_study_kit import HOW, PATIENT, find_liver, slices_of

pytest_plugins = ("cli_fixtures", "semantic_study_kit")


class TestMoved:
    def test_left_is_left(self) -> None:
        labels = np.zeros((1, 2, 6), np.uint8)
        labels[0, 0, 4:], labels[0, 0, 1] = 6, 1
        assert move_left(labels, 6, 2)[0, 0].tolist() == [0, 1, 6, 6, 0, 0]
        assert move_left(labels, 6, 5)[0, 0].tolist() == [6, 1, 0, 0, 0, 0]

    def test_a_network_that_follows_the_layout_passes(self, data: Path) -> None:
        moved = MovedOrgan.of(PATIENT, data)
        found, made = measure_moved(moved, painting(), find_liver, HOW, "painter")
        assert made.shape == moved.ct.shape
        assert (found.dice.value or 0) > 0.7
        assert (found.gained.value or 0) > 0.5
        assert (found.lost.value or 0) > 0.8
        assert (found.as_it_was.value or 1) < found.kept_share + 0.1 < 0.6
        assert found.slices == 6

    def test_one_that_leaves_the_ct_as_it_was_fails(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MovedOrgan, "edit", lambda self, model, how: self.ct)
        found, _ = measure_moved(MovedOrgan.of(PATIENT, data), painting(), find_liver, HOW, "idle")
        assert found.dice == found.as_it_was
        assert (found.dice.value or 1) < 0.6
        assert (found.gained.value or 0) < 0.3
        assert (found.ceiling.value or 0) > 0.7

    def test_a_patient_without_the_organ_is_refused(self, data: Path, tmp_path: Path) -> None:
        ct = read_volume(PATIENT.image(data))
        (tmp_path / "abdomen_ct").mkdir()
        write_volume(ct, PATIENT.image(tmp_path))
        write_volume(ct.with_array(np.zeros(ct.shape, np.uint8)), PATIENT.labels(tmp_path))
        with pytest.raises(InvalidRequest, match="CRLM-CT-1004 has no liver in its labels"):
            MovedOrgan.of(PATIENT, tmp_path)


class TestFinder:
    def test_what_is_unknown_counts_for_nothing(self) -> None:
        said = torch.zeros(1, BODY + 1, 4, 4)
        said[:, 6] = 20.0
        classes = torch.full((1, 4, 4), UNKNOWN)
        classes[0, 0] = 6
        assert float(loss_of(said, classes)) < 0.01
        classes[0, 0] = 1
        assert float(loss_of(said, classes)) > 10

    def test_it_is_trained_once(
        self, patient: ClassedCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(finder, "SIDE", 32)
        slices = slices_of(patient)
        path = tmp_path / "finder.safetensors"
        found = trained_finder([patient], path, steps=2).find(slices.hu)
        assert found.shape == slices.hu.shape
        assert found.max() <= BODY
        before = path.read_bytes()
        again = trained_finder([], path).find(slices.hu)
        assert path.read_bytes() == before
        assert np.array_equal(found, again)
