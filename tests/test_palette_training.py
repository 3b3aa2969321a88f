"""Training of Palette: its network, what a batch shows and hides, who is held out, what the loss is of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lesionbrush.cli.__main__ import main
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.palette.data import HEALTHY, SHARES, TUMOUR, PaletteBatch, PaletteBatches
from lesionbrush.systems.palette.fills import OPEN, fill_number
from lesionbrush.systems.palette.holes import box_around, draw_blob, grow, leave_context
from lesionbrush.systems.palette.network import (
    FASTEST,
    FREQUENCIES,
    SLOWEST,
    PaletteUNet,
    PaletteUNetConfig,
    ScaleShiftBlock,
    SelfAttention,
    fourier_of,
)
from lesionbrush.systems.palette.noise import PALETTE_SCHEDULES
from lesionbrush.systems.palette.pack import UNSURE, KnownCT, list_sources, load_side, read_source, write_pack
from lesionbrush.systems.palette.recipes import RECIPES, PaletteRecipe
from lesionbrush.systems.palette.scale import FULL, LUNG, SOFT_TISSUE, holds
from lesionbrush.systems.palette.trainer import PaletteTrainer
from lesionbrush.training.recipes import Loss, Patches
from palette_kit import SARCOMAS, write_palette_data
from PIL import Image
from torch.nn import functional as F

CPU = torch.device("cpu")
TINY = PaletteUNetConfig(channels=(8, 16), attention=(False, True), norm_groups=4, head_channels=8)
PATCHES = Patches(sides=(32,), shares=(1.0,), counts=(6,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_palette_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pack(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    write_pack(folder, path)
    return path


@pytest.fixture(scope="module")
def seen(pack: Path) -> list[KnownCT]:
    return load_side(pack, validation=False)


def batches(cts: list[KnownCT], *, drop_fill: float = 0.0, seed: int = 0, **more: Any) -> PaletteBatches:
    scale = more.get("scale", SOFT_TISSUE)
    return PaletteBatches(cts, scale, np.random.default_rng(seed), PATCHES, drop_fill)


def trainer(**changes: Any) -> PaletteTrainer:
    changed = {"network": TINY, "patches": PATCHES, "steps": 4, **changes}
    recipe: PaletteRecipe = replace(RECIPES["ours"], **changed)
    return PaletteTrainer(recipe, CPU)


class TestNetwork:
    @pytest.mark.parametrize("scale", ["gamma", "log_snr"])
    @pytest.mark.parametrize("gamma", [0.001, 0.3, 0.9])
    def test_a_level_is_told_as_sines_and_cosines_of_its_scale(self, scale: Any, gamma: float) -> None:
        level = gamma if scale == "gamma" else math.log(math.sqrt(gamma) / math.sqrt(1 - gamma))
        span = math.log(FASTEST[scale] / SLOWEST[scale]) / (FREQUENCIES - 1)
        angles = [level * SLOWEST[scale] * math.exp(span * k) for k in range(FREQUENCIES)]
        wanted = [*map(math.sin, angles), *map(math.cos, angles)]
        told = fourier_of(torch.tensor([gamma, 0.5]), scale)
        assert told.shape == (2, 2 * FREQUENCIES)
        assert told[0].tolist() == pytest.approx(wanted, abs=2e-4)

    def test_a_block_scales_and_shifts_by_what_it_is_told(self) -> None:
        torch.manual_seed(0)
        block = ScaleShiftBlock(8, 8, replace(TINY, dropout=0.0))
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        x, told = torch.randn(2, 8, 6, 6), torch.randn(2, 4 * TINY.channels[0])

        def normed(h: torch.Tensor, layer: torch.nn.GroupNorm) -> torch.Tensor:
            groups = h.reshape(2, 4, -1)
            centred = groups - groups.mean(2, keepdim=True)
            flat = centred / torch.sqrt(centred.square().mean(2, keepdim=True) + layer.eps)
            return flat.reshape(h.shape) * layer.weight[:, None, None] + layer.bias[:, None, None]

        modulation = told @ block.modulation.weight.T + block.modulation.bias
        h = block.conv1(F.silu(normed(x, block.norm1)))
        h = normed(h, block.norm2) * (1 + modulation[:, :8, None, None]) + modulation[:, 8:, None, None]
        torch.testing.assert_close(block(x, told), x + block.conv2(F.silu(h)), atol=1e-5, rtol=1e-4)

    def test_attention_has_heads_of_so_many_channels_and_sees_every_place(self) -> None:
        torch.manual_seed(0)
        attention = SelfAttention(32, replace(TINY, head_channels=8))
        assert attention.heads == 4
        torch.nn.init.normal_(attention.answer.weight)
        x = torch.randn(1, 32, 4, 4)
        moved = x.clone()
        moved[..., 0, 0] += 1
        assert ((attention(x) - attention(moved)).abs().amax(dim=1) > 0).all()

    def test_it_starts_silent_and_knows_level_fill_and_hole(self) -> None:
        torch.manual_seed(0)
        network = PaletteUNet(TINY).eval()
        x, hole = torch.randn(2, 1, 32, 32), torch.zeros(2, 1, 32, 32)
        asked = [x, torch.tensor([0.3, 0.3]), torch.cat((x, hole), dim=1), torch.tensor([0, 0])]
        assert not network(*asked).any()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        said = network(*asked)
        assert said.shape == x.shape
        assert said.dtype == torch.float32
        others = (
            (1, torch.tensor([0.9, 0.3])),
            (2, torch.cat((x, 1 - hole), dim=1)),
            (3, torch.tensor([2, 0])),
        )
        for place, other in others:
            changed = [*asked[:place], other, *asked[place + 1 :]]
            assert not torch.allclose(network(*changed)[0], said[0])

    @pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
    def test_sizes_of_the_recipes(self, recipe: PaletteRecipe) -> None:
        network = recipe.network
        assert network.multiple == 16
        assert network.attention == (False, False, False, False, True)
        assert network.dropout == (0.2 if recipe.name == "paper" else 0.1)
        assert network.head_channels == 32
        assert all(side % network.multiple == 0 for side in recipe.patches.sides)
        count = sum(p.numel() for p in PaletteUNet(network).parameters())
        assert recipe.name == "paper" or 5e6 < count < 6e6


class TestHoles:
    def test_a_mask_grows_by_a_distance(self) -> None:
        mask = np.zeros((21, 21), bool)
        mask[10, 10] = True
        y, x = np.indices(mask.shape) - 10
        assert np.array_equal(grow(mask, 5.0), np.hypot(y, x) <= 5)
        assert np.array_equal(grow(mask, 0.0), mask)
        assert not grow(np.zeros_like(mask), 3.0).any()

    def test_a_box_is_as_wide_as_the_mask_and_more_and_ends_with_the_patch(self) -> None:
        mask = np.zeros((20, 20), bool)
        mask[1, 8] = mask[9, 12] = True
        box = box_around(mask, 3.0)
        assert box.sum() == 13 * 11
        assert box[0, 5]
        assert box[12, 15]
        assert not box_around(np.zeros_like(mask), 3.0).any()

    @pytest.mark.parametrize("seed", range(5))
    def test_a_blob_is_one_piece_of_about_its_size(self, seed: int) -> None:
        blob = draw_blob(96, 20.0, np.random.default_rng(seed))
        assert 0.4 < np.count_nonzero(blob) / (np.pi * 20**2) < 2.2
        assert blob[47:49, 47:49].all()
        assert np.array_equal(blob, draw_blob(96, 20.0, np.random.default_rng(seed)))

    def test_something_of_a_patch_is_known(self) -> None:
        full = np.ones((32, 32), bool)
        assert not leave_context(full, 8, 0.6)[:8].any()
        part = np.zeros((32, 32), bool)
        part[:, :10] = True
        assert np.array_equal(leave_context(part, 8, 0.6), part)


class TestPack:
    def test_patients_are_held_out_by_name(self, folder: Path, pack: Path, seen: list[KnownCT]) -> None:
        theirs = {ct.name for ct in load_side(pack, validation=True)}
        assert {ct.name for ct in seen} == {"CRLM-CT-1006", "TCGA-09-2043", "R01-001", *SARCOMAS[:3]}
        assert theirs == {"CRLM-CT-1004", *SARCOMAS[3:]}
        assert {one.name for one in list_sources(folder) if one.held_out} == theirs

    def test_the_labels_are_ours_and_only_trusted_ones_count(self, folder: Path) -> None:
        by_name = {one.name: one for one in list_sources(folder)}
        labels = {name: read_source(by_name[name])[1] for name in ("CRLM-CT-1006", "TCGA-09-2043")}
        liver, kidney, spleen = (fill_number(fill) for fill in ("liver", "kidney", "spleen"))
        assert set(np.unique(labels["TCGA-09-2043"])) == {0, liver, kidney}
        assert np.flatnonzero((labels["TCGA-09-2043"] > 0).any(axis=(1, 2))).min() >= 80
        assert set(np.unique(labels["CRLM-CT-1006"])) == {0, liver, kidney, spleen, UNSURE}
        doubtful = np.flatnonzero((labels["CRLM-CT-1006"] == UNSURE).any(axis=(1, 2)))
        assert doubtful.min() >= 12
        assert doubtful.max() <= 22

    def test_without_sarcomas_it_says_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"holds no index\.csv: point --data"):
            list_sources(tmp_path)

    def test_an_empty_side_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="one side of the split has no CT"):
            batches([])


class TestBatches:
    def test_noise_is_in_the_hole_alone_and_what_is_scored_too(self, seen: list[KnownCT]) -> None:
        batch = batches(seen).draw()
        hole = batch.hole > 0
        assert torch.equal(batch.masked[~hole], batch.image[~hole])
        assert float(batch.masked[hole].std()) == pytest.approx(1, abs=0.1)
        assert set(batch.scored.unique().tolist()) == {0.0, 1.0}
        assert not batch.scored[~hole].any()
        assert batch.image.abs().max() <= 1
        assert (batch.scored.sum(dim=(1, 2, 3)) > 0).all()

    def test_everything_comes_from_the_generator(self, seen: list[KnownCT]) -> None:
        one, again = (batches(seen, drop_fill=0.5).draw() for _ in range(2))
        for name in ("image", "hole", "masked", "scored", "fill"):
            assert torch.equal(getattr(one, name), getattr(again, name))

    def test_the_class_is_left_open_at_random(self, seen: list[KnownCT]) -> None:
        source = batches(seen, drop_fill=0.3)
        samples = [replace(source.sample(32), fill=TUMOUR) for _ in range(4)] * 200
        told = source.collate(samples).fill
        assert float((told == OPEN).float().mean()) == pytest.approx(0.3, abs=0.06)
        assert set(told.tolist()) == {OPEN, TUMOUR}
        for drop, wanted in ((0.0, TUMOUR), (1.0, OPEN)):
            assert set(batches(seen, drop_fill=drop).collate(samples[:8]).fill.tolist()) == {wanted}

    def test_what_is_unknown_is_not_scored(self, seen: list[KnownCT]) -> None:
        """Of one abdomen only three labels count: beside them nothing is held against the network."""
        (partly,) = [ct for ct in seen if ct.name == "TCGA-09-2043"]
        source = batches([partly])
        names = {"organ", "organs", "box", "blob"}
        for _ in range(30):
            drawn = source.sample(32)
            assert drawn.scored.any()
            assert not (drawn.scored & ~drawn.hole).any()
        assert names <= set(SHARES)
        box = source._box(32)
        assert np.count_nonzero(box.hole) > np.count_nonzero(box.scored)

    def test_no_healthy_shape_touches_a_tumour(self, seen: list[KnownCT]) -> None:
        sarcomas = [ct for ct in seen if ct.name in SARCOMAS]
        source = batches(sarcomas)
        drawn = [source._blob(48) for _ in range(40)]
        assert {one.fill for one in drawn} == {HEALTHY}
        assert not source._offers("organ")
        assert source._offers("tumour")

    def test_a_window_decides_what_can_be_learned(self, seen: list[KnownCT]) -> None:
        lung = fill_number("lung")
        assert lung not in batches(seen)._slices
        assert lung in batches(seen, scale=LUNG)._slices
        assert {lung, TUMOUR} <= set(batches(seen, scale=FULL)._slices)
        assert holds(SOFT_TISSUE, 40)
        assert not holds(SOFT_TISSUE, -800)

    def test_beyond_a_ct_there_is_air_that_is_not_scored(self, seen: list[KnownCT]) -> None:
        source = batches([ct for ct in seen if ct.name in SARCOMAS])
        drawn = source._tumour(128)
        assert (drawn.hu < -900).any()
        assert not drawn.scored[drawn.hu < -900].any()


class TestLoss:
    def batch(self) -> PaletteBatch:
        rng = torch.Generator().manual_seed(0)
        image = torch.rand(3, 1, 32, 32, generator=rng) * 2 - 1
        hole = torch.zeros_like(image)
        hole[..., 8:20, 8:20] = 1
        masked = torch.where(hole > 0, torch.randn(image.shape, generator=rng), image)
        return PaletteBatch(image, hole, masked, hole, torch.zeros(3, dtype=torch.long), torch.ones(3))

    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    def test_the_right_answer_costs_nothing_and_known_pixels_are_clean_at_every_level(
        self, prediction: Any
    ) -> None:
        run, batch = trainer(prediction=prediction, data_spread=1.0), self.batch()
        levels = []

        class Right(torch.nn.Module):
            def forward(self, noisy, gamma, conditions, fill):
                outside = batch.hole == 0
                assert torch.equal(noisy[outside], batch.image[outside])
                assert torch.equal(conditions[:, :1], batch.masked)
                assert torch.equal(conditions[:, 1:], batch.hole)
                levels.extend(gamma.tolist())
                alpha, sigma = (a.sqrt()[:, None, None, None] for a in (gamma, 1 - gamma))
                noise = (noisy - alpha * batch.image) / sigma
                return {"eps": noise, "x0": batch.image, "v": alpha * noise - sigma * batch.image}[prediction]

        losses = [float(run.loss(Right(), batch, torch.Generator().manual_seed(seed))) for seed in range(8)]
        assert max(losses) < 1e-4
        assert max(levels) - min(levels) > 0.5

    def test_it_is_of_the_hole_alone(self) -> None:
        run, batch = trainer(), self.batch()
        hole = batch.hole

        class Wrong(torch.nn.Module):
            """Says nonsense outside the hole."""

            def forward(self, noisy, gamma, conditions, fill):
                return torch.where(hole > 0, torch.zeros_like(noisy), 1e3)

        class Zero(torch.nn.Module):
            def forward(self, noisy, gamma, conditions, fill):
                return torch.zeros_like(noisy)

        losses = [
            float(run.loss(network(), batch, torch.Generator().manual_seed(1))) for network in (Wrong, Zero)
        ]
        assert losses[0] == losses[1] > 0

    def test_what_is_not_scored_of_a_hole_is_not(self) -> None:
        run, batch = trainer(), self.batch()
        hidden = replace(batch, scored=torch.zeros_like(batch.scored))
        with torch.no_grad():
            assert float(run.loss(run.network, hidden, torch.Generator().manual_seed(1))) == 0

    def test_the_average_has_no_dropout(self) -> None:
        run = trainer()
        assert run.network.training
        assert not run.average.training


class TestRecipes:
    def test_the_paper_s(self) -> None:
        """Sedykh 2024, Sec. 3.2; its levels and optimiser are of Palette's usual implementation."""
        paper = RECIPES["paper"]
        assert (paper.timesteps, paper.schedule, paper.prediction) == (2000, "palette_training", "eps")
        assert (paper.patches.sides, paper.loss) == ((256,), Loss(weighted=False))
        assert (paper.optimiser.kind, paper.optimiser.learning_rate) == ("adam", 5e-5)
        assert paper.network.channels[:4] == tuple(64 * factor for factor in (1, 2, 4, 8))
        assert not paper.network.shows_hole
        assert paper.differs

    def test_windows_are_the_thesis_s(self) -> None:
        assert [RECIPES[name].scale for name in ("ours", "ours-lung", "ours-full-hu")] == [
            SOFT_TISSUE,
            LUNG,
            FULL,
        ]
        assert (SOFT_TISSUE.lo_hu, SOFT_TISSUE.hi_hu) == (50 - 200, 50 + 200)
        assert (LUNG.lo_hu, LUNG.hi_hu) == (-600 - 750, -600 + 750)

    def test_its_levels(self) -> None:
        for name, levels, ends in (
            ("palette_training", 2000, (1e-6, 1e-2)),
            ("palette_sampling", 1000, (1e-4, 9e-2)),
        ):
            betas = np.linspace(*ends, levels)
            wanted = np.cumprod(1 - betas)
            np.testing.assert_allclose(PALETTE_SCHEDULES[name](levels).alphas_bar, wanted, rtol=1e-9)


class TestRuns:
    def test_a_run_goes_on_bit_for_bit(self, seen: list[KnownCT], tmp_path: Path) -> None:
        def run(from_: PaletteTrainer, steps: int) -> PaletteTrainer:
            source = batches(seen)
            source.rng = from_.numpy_rng
            for _ in range(steps):
                from_.step([source.draw()])
            return from_

        whole = run(trainer(), 3)
        run(trainer(), 2).save(tmp_path)
        second = trainer()
        assert second.resume(tmp_path)
        run(second, 1)
        for a, b in zip(whole.average.parameters(), second.average.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.slow
def test_the_command_trains_goes_on_and_draws(folder: Path, tmp_path: Path, capsys) -> None:
    command = ["train", "palette", "--data", str(folder), "--out", str(tmp_path), "--device", "cpu"]
    command += ["--sides", "32", "--channels", "32", "32", "--steps"]
    assert main([*command, "2"]) == 0
    assert main([*command, "3"]) == 0
    assert "going on from step 2 of 3" in capsys.readouterr().out
    with Image.open(tmp_path / "samples-000003.png") as picture:
        assert picture.width > 100
