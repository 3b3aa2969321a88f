"""Annotations by a network that saw synthetic pairs alone: pairs, variation, training, labels, command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.cli.__main__ import main
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, WeightsError
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.systems.mddpm.anatomy_maps import structures
from lesionbrush.systems.mddpm.anatomy_maps.maps import fit
from lesionbrush.systems.mddpm.annotating import pairs as drawing
from lesionbrush.systems.mddpm.annotating.annotate import annotate
from lesionbrush.systems.mddpm.annotating.network import Annotator, make_network, train_annotator
from lesionbrush.systems.mddpm.annotating.pairs import Pairs, draw_pairs
from lesionbrush.systems.mddpm.annotating.planes import AIR_HU, SIDE, SPACING_MM, leave_plane, read_plane
from lesionbrush.systems.mddpm.annotating.variation import vary
from lesionbrush.systems.mddpm.evaluation.annotations import compare, mean_dice
from lesionbrush.systems.mddpm.slices import MDDPM
from lesionbrush.systems.mddpm.whole import MDDPMWhole
from mddpm_kit import guided_card, slice_network
from PIL import Image
from test_anatomy_layouts import chest_with_layout
from test_anatomy_maps import fitted

NAMES = ("body", "right lung", "left lung", "mediastinum", "spine")


class ByDensity(torch.nn.Module):
    """Knows structures by their HU in the window of everything, and lungs by their side."""

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        hu = shown[:, 2] * 1000
        right = (torch.arange(SIDE) >= SIDE / 2)[None, None]
        lung = (hu > -930) & (hu < -600)
        found = torch.stack(
            [hu < -930, hu > -600, lung & right, lung & ~right, (hu > 35) & (hu < 100), hu > 200], dim=1
        ).float()
        return 20 * found + 10 * found.cumsum(1)


BY_DENSITY = Annotator(ByDensity(), NAMES, {})


def ellipses(count: int = 8) -> Pairs:
    """Bodies with two lungs, a mediastinum and a spine, that density tells apart."""
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    labels = np.zeros((count, SIDE, SIDE), np.uint8)
    for k, one in enumerate(labels):
        size = 1 + 0.03 * k
        one[(y / 50) ** 2 + (x / 75) ** 2 < size] = 1
        for number, middle in ((2, 38), (3, -38)):
            one[(y / 35) ** 2 + ((x - middle) / 22) ** 2 < size] = number
        one[((y - 10) / 20) ** 2 + (x / 13) ** 2 < size] = 4
        one[((y + 30) / 10) ** 2 + (x / 10) ** 2 < size] = 5
    hu = np.array([-1000, 0, -850, -850, 60, 300])[labels].astype(np.int16)
    return Pairs(hu, labels, NAMES)


class TestPlanes:
    SPACING_MM = np.array([1.0, 1.5])

    def test_a_ramp_there_and_back_is_the_ramp(self) -> None:
        ramp = np.add.outer(np.arange(200) * 2.0, np.arange(180) * 3.0)
        plane = read_plane(ramp, self.SPACING_MM)
        middle_mm = (np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM
        wanted = 199 + 2 * middle_mm[60:130, None] + 268.5 + 2 * middle_mm[None, 60:130]
        assert plane[60:130, 60:130] == pytest.approx(wanted, abs=0.1)
        (back,) = leave_plane(plane[None], (200, 180), self.SPACING_MM)
        assert back[20:-20, 20:-20] == pytest.approx(ramp[20:-20, 20:-20], abs=0.2)

    def test_beyond_a_slice_is_air_and_a_wide_one_is_cut(self) -> None:
        small = read_plane(np.zeros((50, 60)), self.SPACING_MM)
        assert (small == AIR_HU).mean() == pytest.approx(1 - 25 * 45 / SIDE**2, abs=0.01)
        wide = read_plane(np.full((600, 600), 7.0), self.SPACING_MM)
        assert wide == pytest.approx(np.full((SIDE, SIDE), 7.0))
        assert leave_plane(wide[None], (600, 600), self.SPACING_MM).shape == (1, 600, 600)


class TestPairs:
    def test_one_seed_draws_the_same_pairs_and_another_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drawing, "STEPS", 1)
        card = guided_card("mddpm")
        whole = MDDPMWhole(MDDPM(card, slice_network(card), torch.device("cpu")))
        whole.shapes = fitted()
        one, again, other = (draw_pairs(whole, 2, seed) for seed in (0, 0, 1))
        assert one.hu.shape == one.labels.shape == (2, SIDE, SIDE)
        assert one.names == NAMES
        assert set(np.unique(one.labels)) == {0, 1, 2, 3, 4, 5}
        right, left = (np.nonzero(one.labels[0] == number)[1].mean() for number in (2, 3))
        assert right > left, "the plane runs to the right"
        assert np.array_equal(one.hu, again.hu)
        assert not np.array_equal(one.labels, other.labels)

    def test_they_come_back_from_their_file(self, tmp_path: Path) -> None:
        ellipses(3).save(tmp_path / "pairs.npz")
        back = Pairs.load(tmp_path / "pairs.npz")
        assert np.array_equal(back.labels, ellipses(3).labels)
        assert back.names == NAMES

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.npz"
        path.write_bytes(b"no archive")
        with pytest.raises(DamagedFile, match="holds no pairs"):
            Pairs.load(path)
        small = ellipses(2)
        Pairs(small.hu[:, :64, :64], small.labels[:, :64, :64], NAMES).save(path)
        with pytest.raises(DamagedFile, match="another version"):
            Pairs.load(path)


class TestVariation:
    def test_structures_stay_what_they_are(self) -> None:
        pair, rng, cut = ellipses(1), np.random.default_rng(0), 0
        for _ in range(12):
            hu, labels = vary(pair.hu[0], pair.labels[0], rng)
            assert hu.shape == labels.shape == (SIDE, SIDE)
            assert hu.isfinite().all()
            assert {2, 3, 4, 5} <= set(labels.unique().tolist()) <= {0, 1, 2, 3, 4, 5}
            assert hu[labels == 2].median() < -600
            assert hu[labels == 4].median() > -600
            cut += int((hu == AIR_HU).float().mean() > 0.5)
        assert 0 < cut < 12

    def test_one_generator_gives_the_same(self) -> None:
        pair = ellipses(1)
        one, again = (vary(pair.hu[0], pair.labels[0], np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(one[0], again[0])
        assert torch.equal(one[1], again[1])


def test_training_learns_what_is_where_and_its_file_knows_it(tmp_path: Path) -> None:
    pairs, losses = ellipses(), list[float]()
    network = train_annotator(pairs, 25, 0, losses.append)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    path = tmp_path / "own.safetensors"
    Annotator(network, NAMES, {"pairs": "8"}).save(path)
    back = Annotator.load(path)
    assert (back.names, back.made_by) == (NAMES, {"pairs": "8"})
    found = back.chances(pairs.hu.astype(np.float32)).argmax(axis=1)
    lungs = np.isin(pairs.labels, (2, 3))
    assert (np.isin(found, (2, 3)) & lungs).sum() > 0.4 * lungs.sum()  # after 25 steps


def test_a_file_that_is_no_annotator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"weights of something else")
    with pytest.raises(WeightsError, match="annotate learn"):
        Annotator.load(path)
    Annotator(make_network(3), NAMES, {}).save(path)
    with pytest.raises(WeightsError, match="annotate learn"):
        Annotator.load(path)


@pytest.fixture
def _small_hearts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of the phantom."""
    monkeypatch.setattr(structures, "AREAS_MM2", {**structures.AREAS_MM2, "mediastinum": (500.0, 13_000.0)})


@pytest.mark.usefixtures("_small_hearts")
class TestAnnotate:
    @pytest.mark.parametrize("turn", [False, True])
    def test_what_is_where_on_the_grid_of_the_ct(self, turn: bool) -> None:
        ct, _, lungs = chest_with_layout()
        if turn:  # stored from the head down and from right to left: the same patient
            affine = ct.affine @ np.diag([-1.0, 1, -1, 1])
            affine[:3, 3] += ct.affine[:3, 0] * (ct.shape[0] - 1) + ct.affine[:3, 2] * (ct.shape[2] - 1)
            ct = Volume(np.ascontiguousarray(ct.array[::-1, :, ::-1]), affine)
            lungs = lungs[::-1, :, ::-1]
        found = annotate(ct, BY_DENSITY)
        assert np.array_equal(found.labels.affine, ct.affine)
        assert set(found.names.values()) == set(NAMES)
        for name, number in (("right lung", 1), ("left lung", 2)):
            mine, theirs = found.mask(name), number == lungs.T
            assert 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()) > 0.95

    def test_a_slice_without_lungs_has_no_labels(self) -> None:
        ct, _, _ = chest_with_layout()
        ct.array[:, :, :2] = 0
        found = annotate(ct, BY_DENSITY)
        assert not found.labels.array[:, :, :2].any()
        assert found.labels.array[:, :, 2:].any(axis=(0, 1)).all()

    def test_a_slice_with_a_liver_for_a_heart_has_no_labels(self) -> None:
        ct, _, lungs = chest_with_layout()
        ct.array[:, :, 3][(lungs.T == 0)[:, :, 3] & (ct.array[:, :, 3] > -500)] = 60
        found = annotate(ct, BY_DENSITY)
        assert not found.labels.array[:, :, 3].any()
        assert found.labels.array[:, :, 2].any()

    def test_air_around_the_body_is_no_lung(self) -> None:
        ct, _, _ = chest_with_layout()
        ct.array[ct.array == -1000] = -850
        found = annotate(ct, BY_DENSITY)
        assert not found.labels.array[:20, :20].any()

    def test_crumbs_go_to_what_is_around(self) -> None:
        ct, _, _ = chest_with_layout()
        y, x = 120, 60  # in a lung
        ct.array[x - 3 : x + 3, y - 3 : y + 3, 2] = 300
        found = annotate(ct, BY_DENSITY)
        assert not (found.mask("spine")[x - 5 : x + 5, y - 5 : y + 5, 2]).any()

    def test_an_anatomy_is_fitted_to_what_was_found(self) -> None:
        ct, _, _ = chest_with_layout()
        model, slices = fit([ct], [annotate(ct, BY_DENSITY)])
        assert slices >= 3
        assert [one.name for one in model.structures] == list(NAMES)
        assert 0.5 < model.spread_mm < 10

    def test_agreement_is_measured_where_thresholds_find_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ct, _, lungs = chest_with_layout()
        monkeypatch.setattr(structures, "segment_lungs", lambda volume: volume.with_array(lungs.T))
        agreement = compare("phantom", ct, annotate(ct, BY_DENSITY))
        assert agreement.dice["right lung"] > 0.95
        assert agreement.dice["spine"] > 0.6
        assert agreement.slices == agreement.by_threshold == agreement.annotated > 2
        assert "whole anatomies in" in agreement.line()
        estimate = mean_dice([agreement], "right lung")
        assert (estimate.n, estimate.value) == (1, pytest.approx(agreement.dice["right lung"], abs=1e-3))
        nothing = Layout(ct.with_array(np.zeros(ct.shape, np.uint8)), {})
        assert compare("phantom", ct, nothing).dice["right lung"] == 0


class TestCommand:
    def test_a_ct_is_annotated_and_drawn(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Annotator(make_network(len(NAMES)).eval(), NAMES, {}).save(tmp_path / "by.safetensors")
        ct, _, _ = chest_with_layout()
        write_volume(ct, tmp_path / "ct.nii.gz")
        command = ["annotate", "find", str(tmp_path / "ct.nii.gz"), "-o", str(tmp_path / "out")]
        assert main([*command, "--by", str(tmp_path / "by.safetensors")]) == 0
        found = read_layout(tmp_path / "out" / "ct_anatomy.nii.gz")
        assert found.labels.shape == ct.shape
        assert "read by nobody" in capsys.readouterr().out
        assert main([*command, "--by", str(tmp_path / "by.safetensors")]) == 2, "nothing is written over"

    def test_the_one_that_comes_with_it_finds_lungs(self, tmp_path: Path) -> None:
        ct, _, lungs = chest_with_layout()
        write_volume(ct, tmp_path / "ct.nii.gz")
        picture = tmp_path / "ct.png"
        command = ["annotate", "find", str(tmp_path / "ct.nii.gz"), "-o", str(tmp_path / "out")]
        assert main([*command, "--montage", str(picture)]) == 0
        found = read_layout(tmp_path / "out" / "ct_anatomy.nii.gz")
        right = found.mask("right lung")
        assert (right & (lungs.T == 1)).sum() > 0.8 * (lungs == 1).sum()
        with Image.open(picture) as drawn:
            assert drawn.width > 800

    def test_what_cannot_be_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = str(tmp_path / "own.safetensors")
        assert main(["annotate", "learn", "-o", out, "--model", "lung_lesion"]) == 2
        assert "mddpm_whole does" in capsys.readouterr().err
        assert main(["annotate", "learn", "-o", out, "--steps", "0"]) == 2
        assert "--steps 0" in capsys.readouterr().err
        assert main(["annotate", "learn", "-o", str(tmp_path / "own.pt")]) == 2
