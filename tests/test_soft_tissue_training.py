"""What a model of soft tissue learns from: composed lesions, grain, textures, the split; how it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import NETWORK, tiny_network
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import write_volume
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.soft_tissue import pack as packs
from lesionbrush.systems.lesion_inpainting.soft_tissue.compose import (
    Texture,
    TextureSource,
    compose,
    draw_grain,
    draw_shape,
    random_rotation,
    spare,
)
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import SoftBatches, SoftPack
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import is_held_out, sarcoma_names, write_pack
from lesionbrush.systems.lesion_inpainting.soft_tissue.plan import Look
from lesionbrush.systems.lesion_inpainting.soft_tissue.recipes import RECIPES
from lesionbrush.systems.lesion_inpainting.soft_tissue.told import TOLD, blur_mm, tell
from lesionbrush.systems.lesion_inpainting.soft_tissue.trainer import SoftTissueTrainer, widen
from lesionbrush.training.recipes import Patches
from scipy import ndimage
from soft_tissue_kit import ball_in, body, soft_network

SIDE = 32
PATCHES = Patches(sides=(16,), shares=(1.0,), counts=(2,))


def made(margin: float = 1.0, heterogeneity_hu: float = 0.0, contrast_hu: float = -40.0):
    rng = np.random.default_rng(0)
    host = rng.normal(110, 10, (SIDE,) * 3).astype(np.float32)
    mask = draw_shape((SIDE,) * 3, 24.0, rng)
    texture = Texture(np.sign(rng.standard_normal(mask.shape)), heterogeneity_hu)
    grain = rng.normal(0, 10, mask.shape)
    return host, compose(host, mask, Look(contrast_hu), margin, texture, grain, rng)


class TestCompose:
    def test_away_from_the_lesion_the_host_stays(self) -> None:
        host, composed = made()
        far = ndimage.distance_transform_edt(composed.mask == 0) > 6
        assert np.array_equal(composed.hu[far], host[far])

    def test_inside_it_is_what_was_planned(self) -> None:
        _, composed = made()
        deep = ndimage.distance_transform_edt(composed.mask >= 0.5) > 3
        assert composed.hu[deep].mean() == pytest.approx(70, abs=2)
        assert composed.plan[deep].mean() == pytest.approx(70, abs=1)

    def test_the_grain_is_as_strong_as_the_hosts(self) -> None:
        host, composed = made()
        deep = ndimage.distance_transform_edt(composed.mask >= 0.5) > 3
        assert composed.hu[deep].std() == pytest.approx(host.std(), rel=0.25)

    def test_a_poor_margin_reaches_further(self) -> None:
        reached = []
        for margin in (1.0, 0.0):
            host, composed = made(margin, contrast_hu=-90)
            changed = np.abs(ndimage.gaussian_filter(composed.hu - host, 1.0)) > 12
            reached.append(int((changed & (composed.mask == 0)).sum()))
        assert reached[1] > 1.5 * reached[0]

    def test_bone_and_air_are_spared(self) -> None:
        host = np.full((SIDE,) * 3, 60.0)
        host[:10], host[24:] = 900.0, -900.0
        mask = spare(draw_shape((SIDE,) * 3, 40.0, np.random.default_rng(1)), host)
        assert not mask[:9].any()
        assert not mask[25:].any()
        assert mask[12:20].any()

    @pytest.mark.parametrize("diameter_mm", [9.0, 20.0, 36.0])
    def test_shapes_have_about_the_size_asked_for(self, diameter_mm: float) -> None:
        found = []
        for seed in range(8):
            mask = draw_shape((SIDE + 8,) * 3, diameter_mm, np.random.default_rng(seed))
            found.append(2 * (3 * mask.sum() * packs.SPACING_MM**3 / (4 * np.pi)) ** (1 / 3))
        assert np.median(found) == pytest.approx(diameter_mm, rel=0.2)

    def test_rotations_are_rotations(self) -> None:
        r = random_rotation(np.random.default_rng(0))
        assert np.allclose(r @ r.T, np.eye(3))


class TestGrain:
    def test_it_has_the_autocovariance_it_was_given(self) -> None:
        """Of white noise blurred by a Gaussian, which is known in closed form."""
        rng, blur = np.random.default_rng(0), 1.0
        noise = ndimage.gaussian_filter(rng.normal(0, 20, (64,) * 3), blur, mode="wrap")
        power = np.abs(np.fft.fftn(noise)) ** 2 / noise.size
        covariance = np.fft.fftshift(np.fft.ifftn(power).real)
        wide = slice(32 - 8, 32 + 8)
        drawn = draw_grain(np.fft.ifftshift(covariance[wide, wide, wide]), 48, rng)
        assert drawn.std() == pytest.approx(20 / (2 * np.sqrt(np.pi) * blur) ** 1.5, rel=0.1)
        beside = (drawn[1:] * drawn[:-1]).mean() / drawn.var()
        assert beside == pytest.approx(np.exp(-1 / (4 * blur**2)), abs=0.06)

    def test_textures_are_standard_in_the_mask(self) -> None:
        ct = body()
        source = TextureSource(ct.array, ball_in(ct, 15.0).array * 255)
        mask = draw_shape((SIDE,) * 3, 20.0, np.random.default_rng(0))
        field = source.draw(mask, np.random.default_rng(1))
        inside = mask >= 0.5
        assert field[inside].mean() == pytest.approx(0, abs=0.1)
        assert field[inside].std() == pytest.approx(1, abs=0.1)


class TestTold:
    def test_of_healthy_tissue_nothing_else_is_said(self) -> None:
        told = tell(lesion=False)
        assert told[0] == 0
        assert np.isnan(told[1:]).all()

    def test_what_is_open_is_open(self) -> None:
        assert np.isnan(tell(True, heterogeneity_hu=10)[1])
        assert tell(True, 0.5, 10).tolist() == pytest.approx([1, 0.5, 0.2])

    def test_a_poor_margin_is_softer(self) -> None:
        assert blur_mm(0.0) > blur_mm(1.0) > 0


class TestStart:
    def test_a_lung_model_says_the_same_until_it_learns_of_plans(self) -> None:
        recipe = RECIPES["ours"]
        small = {"attributes": len(TOLD), "conditions": 5, **NETWORK.model_dump()}
        trainer = SoftTissueTrainer(replace(recipe, network=LesionUNetConfig(**small)), torch.device("cpu"))
        lung = tiny_network()
        trainer.start_from(lung.state_dict())
        rng = torch.Generator().manual_seed(0)
        x, seen = (torch.randn(1, n, 16, 16, 16, generator=rng) for n in (1, 3))
        plan, level = torch.randn(1, 2, 16, 16, 16, generator=rng), torch.full((1,), 0.6)
        words = torch.tensor([[1.0, 0.5, 0.0, 1.0, 1.0, 0.0]])
        lung_words = torch.zeros(1, 20)
        lung_words[0, [0, 2, 10, 12]] = torch.tensor([1.0, 0.5, 1.0, 1.0])
        with torch.inference_mode():
            ours = trainer.network(x, level, level, torch.cat((seen, plan), dim=1), words)
            theirs = lung(x, level, level, seen, lung_words)
        assert torch.allclose(ours, theirs, atol=1e-5)

    def test_its_own_weights_are_taken_as_they_are(self) -> None:
        small = {"attributes": len(TOLD), "conditions": 5, **NETWORK.model_dump()}
        trainer = SoftTissueTrainer(
            replace(RECIPES["ours"], network=LesionUNetConfig(**small)), torch.device("cpu")
        )
        weights = soft_network(3).state_dict()
        trainer.start_from(weights)
        assert all(torch.equal(value, weights[name]) for name, value in trainer.network.state_dict().items())

    def test_new_inputs_come_last_and_silent(self) -> None:
        wide = widen(torch.ones(2, 3, 1, 1, 1), torch.Size((2, 5, 1, 1, 1)))
        assert wide[:, :3].eq(1).all()
        assert wide[:, 3:].eq(0).all()


@pytest.fixture(scope="module")
def phantom_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of phantoms with the files that are looked for, and the pack of it."""
    data = tmp_path_factory.mktemp("data")
    for folder in ("abdomen_ct", "chest_ct", "sarcoma_ct"):
        (data / folder).mkdir()
    ct = body((52, 48, 40))
    organs = ct.with_array(np.where(ball_in(ct, 24.0).array > 0, 6, 0).astype(np.uint8))
    for name in packs.ABDOMENS:
        write_volume(ct, data / "abdomen_ct" / f"{name}.nii.gz")
        write_volume(organs, data / "abdomen_ct" / f"{name}_organs.nii.gz")
    for name in packs.CHESTS:
        write_volume(ct, data / "chest_ct" / f"{name}.nii.gz")
    rows = ["id,nx"]
    for k in range(10):
        rows.append(f"STS_{k:03d},1")
        write_volume(ct, data / "sarcoma_ct" / f"STS_{k:03d}_ct.nii.gz")
        write_volume(ball_in(ct, 10.0), data / "sarcoma_ct" / f"STS_{k:03d}_gtv.nii.gz")
    (data / "sarcoma_ct" / "index.csv").write_text("\n".join(rows), encoding="utf-8")
    outline = tmp_path_factory.mktemp("outlines") / "metastases.nii.gz"
    write_volume(ct.with_array(ball_in(ct, 6.0).array + ball_in(ct, 3.0).array), outline)
    patch = pytest.MonkeyPatch()
    patch.setattr(packs, "METASTASES", outline)
    write_pack(data, data / "pack.npz")
    patch.undo()
    return data / "pack.npz"


class TestPack:
    def test_the_sides_share_no_case(self, phantom_pack: Path) -> None:
        seen, held_out = (SoftPack(phantom_pack, held_out=flag) for flag in (False, True))
        names = [{case.name for case in (*pack.hosts, *pack.tumours)} for pack in (seen, held_out)]
        assert not names[0] & names[1]
        assert "CRLM-CT-1004" in names[1]
        assert len([name for name in names[1] if name.startswith("STS")]) == 8

    def test_the_last_eight_of_the_index_are_held_out(self, phantom_pack: Path) -> None:
        names = sarcoma_names(phantom_pack.parent)
        assert [is_held_out(name) for name in names] == [False] * 2 + [True] * 8

    def test_what_is_unknown_is_no_place_for_a_lesion(self, phantom_pack: Path) -> None:
        host = next(h for h in SoftPack(phantom_pack, held_out=False).hosts if h.name == "TCGA-09-2043")
        assert 0 < host.known.mean() < 0.9
        assert not host.tissue[~host.known].any()
        assert host.known[tuple(host.centres.astype(int).T)].all()

    def test_batches_hold_together(self, phantom_pack: Path) -> None:
        batches = SoftBatches(SoftPack(phantom_pack, held_out=False), np.random.default_rng(0), PATCHES)
        for _ in range(6):
            batch = batches.draw()
            assert batch.conditions.shape == (2, 5, 16, 16, 16)
            assert not (batch.visible * batch.scored).any()
            assert not batch.plan[batch.planned == 0].any()
            assert all(torch.isfinite(part).all() for part in vars(batch).values())

    def test_the_same_generator_draws_the_same(self, phantom_pack: Path) -> None:
        pack = SoftPack(phantom_pack, held_out=False)
        one, two = (SoftBatches(pack, np.random.default_rng(1), PATCHES).draw() for _ in range(2))
        assert torch.equal(one.image, two.image)

    def test_data_that_are_not_there_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"sarcoma_ct/index\.csv: point --data"):
            write_pack(tmp_path, tmp_path / "pack.npz")

    def test_a_pack_of_one_side_is_refused(self, phantom_pack: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "empty.npz", host_names=np.array([], str), tumour_names=np.array([], str))
        with pytest.raises(InvalidRequest, match="no hosts or no tumours"):
            SoftPack(tmp_path / "empty.npz", held_out=False)
