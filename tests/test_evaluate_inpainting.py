"""`evaluate inpainting`: figures known in closed form, ways to fill, readers, and the command."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import Command
from core_fixtures import ball
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.inpainting import organ_reader, study
from lesionbrush.evaluation.inpainting.crops import BEYOND_HU, CropFrame, SliceCrop
from lesionbrush.evaluation.inpainting.holes import OrganHole, cut_to_circle, list_holes
from lesionbrush.evaluation.inpainting.methods import FillMethod, list_methods, take_neighbours
from lesionbrush.evaluation.inpainting.organ_reader import NamedCrop, train_reader
from lesionbrush.evaluation.inpainting.reader import ReadCrops, ScriptedReader
from lesionbrush.evaluation.inpainting.results import InpaintingReport
from lesionbrush.evaluation.inpainting.scores import (
    fid,
    inception_score,
    measure_floor,
    measure_method,
    slices_of,
)
from lesionbrush.evaluation.inpainting.thresholds import OrganThreshold, dice, fit_threshold, near_hole
from lesionbrush.montage import LUNG, SOFT
from lesionbrush.systems.palette.fills import Fill, fill_number
from lesionbrush.systems.palette.pack import KnownCT
from med_ddpm_kit import install_med
from palette_kit import install_palette, make_liver, write_palette_data
from PIL import Image
from soft_tissue_kit import install_soft
from torch import Tensor, nn

pytest_plugins = "cli_fixtures"
SPACING_MM = (1.2, 1.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_palette_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def hole() -> OrganHole:
    """Three slices of liver of 100 HU."""
    ct = make_liver()
    mask = ball(ct, (20, 14, 7), 10.0)
    mask.array[:, :, :6] = mask.array[:, :, 9:] = 0
    return OrganHole("liver", "phantom", ct, mask)


class Says(nn.Module):
    """Features and logits of a picture: its mean and its largest value."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.stack((x.mean(dim=(1, 2, 3)), x.amax(dim=(1, 2, 3))), dim=1)
        return features, torch.cat((features, features[:, :1]), dim=1)


class OnlyLogits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class TooSmall(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.reshape(-1, 3 * 64 * 64), x.mean(dim=(2, 3))


def save_script(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(str(path))
    return path


class TestFigures:
    def test_a_perfect_fill_has_no_error_and_no_distance(self, hole: OrganHole) -> None:
        slices = list(slices_of(hole, hole.ct.array))
        features = np.random.default_rng(0).normal(size=(3, 16))
        read = ReadCrops(features, np.full((3, 4), 0.25))
        found = measure_method(slices, read, read, OrganThreshold(80, 120))
        assert [one.name for one in slices] == ["phantom 6", "phantom 7", "phantom 8"]
        assert (found.slices, found.patients) == (3, 1)
        assert found.error_hu.value == found.bias_hu.value == 0
        assert (found.dice.value, found.inception_score.value) == (1, 1)
        assert found.fid.value == pytest.approx(0, abs=1e-6)

    def test_errors_are_those_of_the_window_and_of_the_hole(self, hole: OrganHole) -> None:
        made = np.where(hole.mask.array > 0, hole.ct.array + 7, -500).astype(np.int16)
        found = next(slices_of(hole, made))
        assert found.errors_hu() == pytest.approx((7, 7))
        black = next(slices_of(hole, np.full_like(hole.ct.array, -1000)))
        inside = black.real_hu[black.mask].astype(float)
        assert black.errors_hu() == pytest.approx((-150 - inside.mean(), inside.mean() + 150))

    def test_slices_are_views_of_any_stored_order(self, hole: OrganHole) -> None:
        turned = np.diag([-1.2, 1.2, -4.0, 1.0])
        volumes = (Volume(v.array[::-1, :, ::-1].copy(), turned) for v in (hole.ct, hole.mask))
        other = OrganHole("liver", "phantom", *volumes)
        for one, same in zip(slices_of(hole, hole.ct.array), slices_of(other, other.ct.array), strict=True):
            assert np.array_equal(one.real_hu, same.real_hu)
            assert np.array_equal(one.mask, same.mask)

    def test_inception_scores_of_known_chances(self) -> None:
        assert inception_score(np.full((5, 8), 1 / 8)) == pytest.approx(1)
        assert inception_score(np.eye(4)) == pytest.approx(4)
        assert inception_score(np.eye(4)[[0, 0, 1, 1]]) == pytest.approx(2)
        assert inception_score(np.eye(4)[[2, 2]]) == pytest.approx(1)
        assert np.isnan(inception_score(np.empty((0, 4))))

    def test_fid_of_features_moved_by_one(self) -> None:
        real = np.random.default_rng(0).normal(size=(6, 16))
        assert fid(real + 1, real) == pytest.approx(16)
        assert np.isnan(fid(real[:1], real))

    def test_the_floor_needs_four_slices(self) -> None:
        read = ReadCrops(np.random.default_rng(0).normal(size=(8, 2)), np.full((8, 2), 0.5))
        floor = measure_floor(read, np.random.default_rng(0))
        assert floor.value is not None
        assert floor.value > 0
        assert floor.n == 8
        few = ReadCrops(read.features[:3], read.chances[:3])
        assert measure_floor(few, np.random.default_rng(0)).value is None


class TestThresholds:
    def test_dice_of_halves(self) -> None:
        a, b = np.zeros((2, 4, 4), bool)
        a[:2], b[1:3] = True, True
        assert dice(a, b) == 0.5
        assert dice(a, a) == 1
        assert dice(~a & a, ~a & a) == 1

    def test_the_interval_is_that_of_the_organ(self) -> None:
        hu = np.full((4, 40, 40), -100, np.int16)
        labels = np.zeros(hu.shape, np.uint8)
        labels[1:3, 5:35, 5:35] = fill_number("liver")
        hu[1:3] = np.linspace(50, 150, 40).astype(np.int16)[None, :, None]
        ct = KnownCT("one", hu, labels, np.array([3.0, 1.5, 1.5]), True)
        found = fit_threshold([ct, ct], "liver")
        assert found is not None
        assert found.low_hu == pytest.approx(50 + 100 * (5 + 0.05 * 30) / 40, abs=2)
        assert found.high_hu == pytest.approx(50 + 100 * (35 - 0.05 * 30) / 40, abs=2)
        assert fit_threshold([ct], "spleen") is None

    def test_only_what_is_near_is_found(self) -> None:
        mask = np.zeros((40, 40), bool)
        mask[18:22, 18:22] = True
        near = near_hole(mask, (1.0, 1.0))
        found = OrganThreshold(50, 150).find(np.full((40, 40), 100), near, (1.0, 1.0))
        assert np.array_equal(found, near)
        assert mask.sum() < near.sum() < 16**2


class TestHoles:
    def test_organs_of_the_held_out_abdomen_and_the_held_out_tumours(self, data: Path) -> None:
        holes = list_holes(data, slices=5)
        assert [hole.fill for hole in holes] == ["kidney", "liver", "spleen", *["tumour"] * 8]
        assert {hole.patient for hole in holes[:3]} == {"CRLM-CT-1004"}
        assert [len(hole.slices) for hole in holes] == [5, 5, 5, *[1] * 8]
        assert len({hole.patient for hole in holes[3:]}) == 8

    def test_a_circle_of_an_organ(self, data: Path) -> None:
        (hole,) = (one for one in list_holes(data, 3, hole_mm=12.0) if one.fill == "kidney")
        assert 8.0 <= hole.width_mm <= 14.0
        assert len(hole.slices) == 3

    def test_the_circle_lies_around_the_deepest_place(self) -> None:
        mask = np.zeros((60, 60, 2), bool)
        mask[5:55, 5:9] = mask[30:50, 5:25] = True
        kept = cut_to_circle(mask, (1.0, 1.0, 5.0), 10.0)
        assert np.abs(np.argwhere(kept)[:, :2].mean(axis=0) - (39.5, 14.5)).max() < 1.5
        assert not (kept & ~mask).any()

    def test_data_without_anything_held_out(self, tmp_path: Path) -> None:
        (tmp_path / "sarcoma_ct").mkdir()
        (tmp_path / "sarcoma_ct" / "index.csv").write_text("id,nx\n", encoding="utf-8")
        with pytest.raises(InvalidRequest, match="holds no held-out organ and no held-out tumour"):
            list_holes(tmp_path, 5)


class TestMethods:
    def test_neighbours_of_equal_slices_are_exact(self, hole: OrganHole) -> None:
        alike = np.repeat(hole.ct.array[:, :, :1], hole.ct.shape[2], axis=2)
        ct = hole.ct.with_array(alike)
        assert np.array_equal(take_neighbours(ct, hole.mask, "liver", 0), alike)

    def test_neighbours_come_from_beyond_and_the_last_from_before(self, hole: OrganHole) -> None:
        everywhere = hole.ct.with_array(np.ones(hole.ct.shape, np.uint8))
        made = take_neighbours(hole.ct, everywhere, "liver", 0)
        assert np.array_equal(made[:, :, :-1], hole.ct.array[:, :, 1:])
        assert np.array_equal(made[:, :, -1], hole.ct.array[:, :, -2])
        made = take_neighbours(hole.ct, hole.mask, "liver", 0)
        outside = hole.mask.array == 0
        assert np.array_equal(made[outside], hole.ct.array[outside])

    def test_why_one_is_left_out(self, hole: OrganHole) -> None:
        method = FillMethod("one", "diffusion", ("liver",), take_neighbours, most_mm=30.0)
        assert method.why_not([hole]) is None
        assert method.why_not([replace(hole, fill="lung")]) == "was not taught it"
        assert "20 mm wide, it takes 15 at most: try --hole-mm" in str(
            replace(method, most_mm=15.0).why_not([hole])
        )

    def test_every_installed_model_that_can_fills(
        self, hole: OrganHole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for install in (install_palette, install_med, install_soft):
            install(tmp_path / "models")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        methods = {one.name: one for one in list_methods(tmp_path / "out")}
        assert list(methods) == ["med_ddpm", "palette", "tiny_soft", "neighbouring slice"]
        assert methods["palette"].fills == ("liver", "tumour", "healthy")
        assert "lung" not in methods["med_ddpm"].fills
        for method in methods.values():
            made = method.fill(hole.ct, hole.mask, "liver", 0)
            changed = made != hole.ct.array
            assert changed[hole.mask.array > 0].any()
            assert made.shape == hole.ct.shape


class TestReaders:
    def test_a_scripted_reader_sees_the_window_from_0_to_1(self, tmp_path: Path) -> None:
        reader = ScriptedReader(save_script(Says(), tmp_path / "says.pt"))
        assert (reader.facts.features, reader.facts.classes) == (2, 3)
        grey = np.full((299, 299), SOFT.level_hu, np.float32)
        read = reader.read([SliceCrop(grey, SOFT), SliceCrop(grey + 5000, SOFT), SliceCrop(grey, LUNG)])
        assert read.features[:, 0] == pytest.approx([0.5, 1, 0.927], abs=3e-3)
        assert read.chances.sum(axis=1) == pytest.approx([1, 1, 1])

    @pytest.mark.parametrize(
        ("module", "reason"),
        [
            (OnlyLogits(), r"gives back one tensor of \(2, 3\): it is to map \(N, 3, 299, 299\)"),
            (TooSmall(), r"fails on such images \(.*\): it is to map"),
        ],
    )
    def test_another_shape_is_refused(self, module: nn.Module, reason: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match=reason):
            ScriptedReader(save_script(module, tmp_path / "other.pt"))

    def test_a_file_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match=r"--reader none\.pt: there is no such file"):
            ScriptedReader(tmp_path / "none.pt")
        (tmp_path / "text.pt").write_text("weights", encoding="utf-8")
        with pytest.raises(InvalidRequest, match="is no TorchScript module: save one with"):
            ScriptedReader(tmp_path / "text.pt")

    def test_our_own_learns_to_tell_bright_from_dark(self) -> None:
        crops = [self.crop("liver", 100, k) for k in range(6)] + [
            self.crop("lung", -800, k) for k in range(6)
        ]
        first, again = (train_reader(crops, torch.Generator().manual_seed(0), steps=12) for _ in range(2))
        assert first.named_right(crops) == {"liver": 1, "lung": 1}
        read = first.read([one.crop for one in crops])
        assert read.features.shape == (12, 16)
        assert read.features.std(axis=0, ddof=1) == pytest.approx(np.ones(16), abs=0.01)
        assert np.array_equal(read.features, again.read([one.crop for one in crops]).features)

    def test_one_organ_teaches_nothing(self) -> None:
        with pytest.raises(InvalidRequest, match="show liver: a reader needs two organs"):
            train_reader([self.crop("liver", 100, 0)], torch.Generator())

    @staticmethod
    def crop(fill: Fill, hu: float, seed: int) -> NamedCrop:
        grain = np.random.default_rng(seed).normal(hu, 10, (96, 96)).astype(np.float32)
        return NamedCrop(SliceCrop(grain, SOFT), fill)


def test_a_crop_shows_the_hole_and_what_is_around() -> None:
    hu, mask = np.full((60, 80), 50, np.int16), np.zeros((60, 80), bool)
    mask[20:40, 0:60] = True
    frame = CropFrame.around(mask, SPACING_MM)
    assert frame.side_mm == pytest.approx(1.3 * 59 * 1.2)
    shown = frame.cut(hu, SPACING_MM, 64)
    assert shown[32, 40] == pytest.approx(50)
    assert shown[32, 0] == BEYOND_HU  # left of the CT
    assert (frame.cut(mask, SPACING_MM, 64) > 0.5).mean() == pytest.approx(20 / 60 / 1.3**2, abs=0.02)


class TestCommand:
    def test_tables_json_and_picture(
        self, command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_palette(tmp_path / "models")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        monkeypatch.setattr(organ_reader, "train_reader", partial(train_reader, steps=3))
        out = tmp_path / "out"
        outcome = command("evaluate", "inpainting", "--data", data, "--out", out, "--slices", 4, "--seeds", 2)
        assert outcome.code == 0, outcome.err
        found = InpaintingReport.model_validate_json((out / study.FILE).read_text())
        assert [organ.fill for organ in found.organs] == ["kidney", "liver", "spleen", "tumour"]
        assert [method.name for method in found.methods] == ["palette", "neighbouring slice"]
        assert found.missing == ("pix2pix", "vox2vox")
        liver = found.organs[1]
        assert liver.left_out == {}
        assert {one.slices for one in liver.methods.values()} == {4}
        assert liver.methods["neighbouring slice"].error_hu.value == pytest.approx(
            10 * 2 / np.pi**0.5, rel=0.1
        )
        assert found.organs[0].left_out == {"palette": "was not taught it"}
        assert Image.open(out / study.PICTURE).width > 4 * 220
        for line in (
            "Pix2Pix has no weights in out and is left out: --train-baselines MINUTES",
            "real halves",
        ):
            assert line in outcome.out
        assert "palette is left out of kidney: was not taught it" in outcome.out

    @pytest.mark.parametrize(
        ("what", "options", "reason"),
        [
            ("inpainting", ("--slices", "0"), "--slices 0: give a number of slices, 1 or more"),
            ("inpainting", ("--hole-mm", "-3"), "--hole-mm -3: give millimetres above 0"),
            ("inpainting", ("--train-baselines", "0"), "--train-baselines 0: give minutes above 0"),
            ("inpainting", ("--cases", "3"), "take --slices N"),
            ("inpainting", ("--update-card",), "--update-card does not belong to `evaluate inpainting`"),
            ("inpainting", ("--reader", "none.pt"), "--reader none.pt: there is no such file"),
            ("lesions", ("--slices", "3"), "--slices 3 belongs to `evaluate inpainting`"),
            ("tiny", ("--train-baselines", "3"), "--train-baselines 3.0 belongs to `evaluate inpainting`"),
        ],
    )
    def test_wrong_use_is_one_line(
        self, command: Command, data: Path, tmp_path: Path, what: str, options: tuple[str, ...], reason: str
    ) -> None:
        outcome = command("evaluate", what, "--data", data, "--out", tmp_path / "out", *options)
        assert outcome.code == 2
        assert reason in outcome.one_line
        assert not (tmp_path / "out").exists()
