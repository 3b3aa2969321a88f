"""MedSyn's released networks: every key and shape at full size, values of narrow ones, files of others."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adding_kit import ignore
from core_fixtures import grid
from lesionbrush.anatomy.chest.naming import LEFT_UPPER, LOBES, RIGHT_LOWER, RIGHT_UPPER, RIGHT_WHOLE
from lesionbrush.core.generate import generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.core.volume import Volume
from lesionbrush.diffusion.schedules import continuous_cosine
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.published.adding import WeightsOrder, add
from lesionbrush.published.catalogue import find_known
from lesionbrush.systems import list_systems, load_model
from lesionbrush.systems.medsyn import model as models
from lesionbrush.systems.medsyn.channels import LOBE, lobes_from_unit, lobes_to_unit
from lesionbrush.systems.medsyn.field import ChestField
from lesionbrush.systems.medsyn.held import hold
from lesionbrush.systems.medsyn.released import checkpoints
from lesionbrush.systems.medsyn.released.model import ReleasedMedSyn
from lesionbrush.systems.medsyn.released.network import ReleasedConfig, ReleasedUNet
from lesionbrush.systems.medsyn.released.space import ATLAS
from lesionbrush.systems.medsyn.request import ReleasedRequest
from lesionbrush.systems.medsyn.text.vocabulary import Reading
from medsyn_released_kit import HIGH, LOW, Facts, checkpoint, predict, random_tensors, shapes
from torch import Tensor

NAME, LICENCE = "medsyn_published", "CC BY-NC 4.0"
FULL = ((checkpoints.LOW, 716_215_684, 377), (checkpoints.HIGH, 54_307_908, 317))


class Reader:
    """In place of the BERT: a token for every letter."""

    width, longest = LOW.text_width, LOW.tokens

    def read(self, text: str) -> Reading:
        return Reading(tuple(text.split()), ())

    def encode(self, texts: list[str]) -> Tensor:
        said = torch.zeros(len(texts), self.longest, self.width)
        for k, text in enumerate(texts):
            if text.strip():
                said[k] = torch.randn(said[k].shape, generator=torch.Generator().manual_seed(len(text)))
        return said


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released networks, but narrow, and a reader at hand."""
    monkeypatch.setattr(checkpoints, "LOW", LOW)
    monkeypatch.setattr(checkpoints, "HIGH", HIGH)
    monkeypatch.setattr(models, "_bert", lambda card, section: Reader())


@pytest.fixture
def files(narrow: None, tmp_path: Path) -> tuple[Path, Path]:
    """Low, high."""
    paths = tmp_path / "low.bin", tmp_path / "high.bin"
    for path, config in zip(paths, (LOW, HIGH), strict=True):
        torch.save(checkpoint(config), path)
    return paths


def ordered(*files: Path, licence: str = LICENCE) -> WeightsOrder:
    first, *more = map(str, files)
    return WeightsOrder(find_known(NAME), first, licence, more=tuple(more))


@pytest.fixture
def released(files: tuple[Path, Path], tmp_path: Path) -> ReleasedMedSyn:
    add(ordered(*files), ignore, tmp_path / "models")
    installed = find_model(NAME, tmp_path / "models")
    verify_weights(installed)
    model = load_model(installed, "cpu")
    assert isinstance(model, ReleasedMedSyn)
    return model


def loaded(config: ReleasedConfig, seed: int = 0) -> ReleasedUNet:
    network = ReleasedUNet(config)
    network.load_state_dict(random_tensors(config, seed))
    return network.eval()


class TestFullSize:
    """On the meta device: names, shapes and counts, no values."""

    @pytest.mark.parametrize(("config", "parameters", "tensors"), FULL)
    def test_every_key_and_shape(self, config: ReleasedConfig, parameters: int, tensors: int) -> None:
        with torch.device("meta"):
            network = ReleasedUNet(config)
        found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        assert found == shapes(Facts.of(config))
        assert len(found) == tensors
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters

    def test_some_of_them(self) -> None:
        """By hand, from the released program's arguments."""
        low, high = (shapes(Facts.of(config)) for config, *_ in FULL)
        assert low["init_conv.weight"] == (160, 4, 7, 7, 7)
        assert low["null_cond_emb"] == (1, 192, 768)
        assert low["downs.2.2.block1.proj.weight"] == (640, 640, 3, 3, 3)
        assert low["mid_cross_attn4.fn.fn.to_kv.weight"] == (512, 768)
        assert low["ups.0.0.block1.proj.weight"] == (640, 2560, 1, 3, 3)
        assert high["init_conv0.weight"] == (56, 8, 7, 7, 7)
        assert high["mid_spatial_attn.fn.fn.fn.to_qkv.weight"] == (384, 448)
        assert high["downs.0.5.weight"] == (56, 56, 1, 4, 4)
        assert not any(key.startswith(("downs.0.2", "mid_cross", "null")) for key in high)

    def test_the_catalogue_has_it_with_its_licence(self) -> None:
        known = find_known(NAME)
        assert (known.weights_license, known.files) == (LICENCE, 2)
        facts = list_systems()[str(known.architecture)].published().facts
        assert facts["section"]["low"]["width"] == 160
        assert facts["section"]["schedule"] == "continuous_cosine"


class TestValues:
    """Of narrow networks of the same class."""

    @pytest.mark.parametrize("config", [LOW, HIGH, replace(LOW, multiples=(1, 2))])
    def test_are_those_of_a_second_implementation(self, config: ReleasedConfig) -> None:
        generator = torch.Generator().manual_seed(1)
        image, shown = torch.randn(2, 2, 4, 3, 8, 12, generator=generator)
        text = torch.randn(2, config.tokens, config.text_width, generator=generator)
        times = torch.tensor([3, 700])
        with torch.no_grad():
            found = loaded(config)(image, times, shown, text if config.text_width else None)
        given = image if config.text_width else torch.cat((shown, image), dim=1)
        wanted = predict(random_tensors(config), config, given.flip(-1), times, text).flip(-1)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)

    def test_no_text_is_what_was_learned_for_none(self) -> None:
        network, image = loaded(LOW), torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        learned, times = network.null_cond_emb.detach(), torch.tensor([500])
        texts = (None, torch.zeros_like(learned), learned, -learned)
        with torch.no_grad():
            none, empty, same, other = (network(image, times, image[:, :1], text) for text in texts)
        assert torch.equal(none, empty)
        assert torch.equal(none, same)
        assert not torch.allclose(none, other, atol=1e-4)

    def test_the_order_that_no_tensor_shows_matters(self) -> None:
        early, image = replace(LOW, enlarges_last=False), torch.ones(1, 4, 2, 8, 8)
        times = torch.tensor([10])
        with torch.no_grad():
            one, other = (loaded(config)(image, times, image[:, :1]) for config in (LOW, early))
        assert one.shape == other.shape
        assert not torch.allclose(one, other, atol=1e-3)

    def test_noise_levels_are_the_closed_form(self) -> None:
        schedule = continuous_cosine()
        for t in (0, 500, 980):
            assert schedule.alpha(t) == pytest.approx(np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2))


class TestAdded:
    def test_what_was_added_says_what_the_tensors_say(self, released: ReleasedMedSyn) -> None:
        for part, config in ((released.network.low, LOW), (released.network.high, HIGH)):
            image = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
            text = Reader().encode(["effusion"]) if config.text_width else None
            with torch.no_grad():
                found = part(image, torch.tensor([300]), image, text)
                assert torch.equal(found, loaded(config)(image, torch.tensor([300]), image, text))

    def test_a_chest_comes_out_that_follows_the_text(self, released: ReleasedMedSyn) -> None:
        request = ReleasedRequest(steps=1, size=64)
        one, other = (generate(request, released, Inputs(text=text))[0] for text in ("effusion", "none"))
        assert np.isfinite(one.ct.array).all()
        assert -1024 <= one.ct.array.min() < one.ct.array.max() <= 600
        assert "PyTorch" in one.provenance.device
        assert (one.ct.array != other.ct.array).any()
        spacing_mm = np.abs(np.diag(one.ct.affine))[:3]
        assert spacing_mm == pytest.approx([316 / 64, 316 / 64, 292 / 64])

    def test_fine_voxels_are_made_in_tiles_of_theirs(self, released: ReleasedMedSyn) -> None:
        heard = []
        job = models.ChestJob(ReleasedRequest(fine_steps=1), 0, heard.append)
        fine = released._high(job, torch.zeros(4, 18, 18, 18), 72, hold(Inputs(), 72, ATLAS))
        assert fine.shape == (4, 72, 72, 72)
        assert torch.isfinite(fine).all()
        assert len(heard) == 1

    def test_either_order_and_one_tensor_under_one_name(
        self, files: tuple[Path, Path], tmp_path: Path
    ) -> None:
        low, high = files
        state = torch.load(low, weights_only=True)
        for key in [key for key in state if "mid_spatial_attn" in key and ".fn.fn.fn." in key]:
            if "attn2" not in key:
                del state[key]
        torch.save({"ema": state}, low)
        add(ordered(high, low), ignore, tmp_path / "models")
        network = load_model(find_model(NAME, tmp_path / "models"), "cpu").network.low
        wanted = random_tensors(LOW)["mid_spatial_attn1.fn.fn.fn.to_qkv.weight"]
        assert torch.equal(network.state_dict()["mid_spatial_attn4.fn.fn.fn.to_qkv.weight"], wanted)

    def test_the_record_names_both_files(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        origin = add(ordered(*files), ignore, tmp_path / "models").card.origin
        assert origin.source == "low.bin + high.bin"
        both = b"".join(path.read_bytes() for path in files)
        assert (origin.size_bytes, origin.sha256) == (len(both), sha256(both).hexdigest())
        readme = (tmp_path / "models" / NAME / "docs" / "README.md").read_text()
        assert f"run.py generate --model {NAME}" in readme
        assert "nobody here has tried it on the real weights" in readme


class TestRefused:
    @pytest.fixture(autouse=True)
    def nothing_stays(self, tmp_path: Path):
        yield
        assert not (tmp_path / "models" / NAME).exists()

    def test_another_number_of_files(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        with pytest.raises(
            InvalidRequest, match=r"files given: 1; its weights are 2 .*--from FILE --from FILE"
        ):
            add(ordered(files[0]), ignore, tmp_path / "models")
        with pytest.raises(WeightsError, match="both files hold the low network"):
            add(ordered(files[0], files[0]), ignore, tmp_path / "models")

    def test_a_licence_that_was_not_accepted(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match=r"'CC BY-NC 4\.0' \(you accepted 'MIT'\)"):
            add(ordered(*files, licence="MIT"), ignore, tmp_path / "models")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"mid_block1.mlp.1.bias": None}, r"low network .* 1 missing: mid_block1\.mlp\.1\.bias"),
            ({"downs.0.9.weight": torch.ones(1)}, r"1 not known: downs\.0\.9\.weight"),
            ({"final_conv.1.bias": torch.ones(3)}, r"final_conv\.1\.bias is 3 instead of 4"),
            ({"mid_spatial_attn3.fn.fn.fn.to_out.weight": torch.ones(16, 64)}, "are one tensor in MedSyn's"),
            ({"init_conv.weight": None}, r"none of MedSyn's two networks: it has to have init_conv\.weight"),
        ],
    )
    def test_another_network_by_its_keys(
        self, change: dict[str, Any], said: str, files: tuple[Path, Path], tmp_path: Path
    ) -> None:
        state = torch.load(files[0], weights_only=True)
        for name, value in change.items():
            state.pop(f"module.denoise_fn.{name}", None)
            if value is not None:
                state[f"module.denoise_fn.{name}"] = value
        torch.save(state, files[0])
        with pytest.raises(WeightsError, match=said):
            add(ordered(*files), ignore, tmp_path / "models")

    def test_the_state_of_an_optimiser(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        torch.save({"state": {0: {"step": 3}}, "param_groups": []}, files[1])
        with pytest.raises(WeightsError, match=r"take pytorch_model\.bin, not optimizer\.bin"):
            add(ordered(*files), ignore, tmp_path / "models")


class TestSpace:
    """Where their chests lie, and which lobe is which."""

    def test_lobes_are_theirs_in_number(self) -> None:
        labels = np.array([0, LEFT_UPPER, RIGHT_UPPER, RIGHT_LOWER])
        unit = lobes_to_unit(labels, ATLAS.lobes)
        assert unit == pytest.approx([-1, 2 / 5 - 1, 6 / 5 - 1, 1])
        assert lobes_from_unit(unit + 0.15, ATLAS.lobes).tolist() == labels.tolist()

    def test_lungs_that_are_as_their_atlas_fill_its_volume(self) -> None:
        lungs = np.zeros((292, 316, 316), bool)
        lungs[8:272, 57:251, 21:297] = True
        field = ChestField.around(lungs[::2, ::2, ::2], np.full(3, 2.0), ATLAS)
        assert field.size_mm == pytest.approx((292, 316, 316), rel=0.01)
        assert field.first_mm == pytest.approx((-1, -1, -1), abs=1.5)

    def test_what_was_held_is_their_number_in_and_our_name_out(self, released: ReleasedMedSyn) -> None:
        array = np.zeros((50, 40, 44), np.uint8)
        array[4:20, 8:32, 4:40], array[28:44, 8:32, 4:40] = 4, 1
        names = {number: LOBES[number] for number in (1, 4)}
        inputs = Inputs(lobes=Layout(Volume(array, grid((6.0, 6.0, 6.0))), names))
        held = hold(inputs, 64, ATLAS)
        levels = np.unique(held.unit[0, LOBE].numpy())
        assert levels == pytest.approx([-1, 2 / 5 - 1, 6 / 5 - 1])
        (made,) = generate(ReleasedRequest(steps=1, size=64), released, inputs)
        assert made.layout is not None
        for name in names.values():
            assert made.layout.mask(name).sum() > 500

    def test_lungs_that_are_not_told_apart_are_refused(self, released: ReleasedMedSyn) -> None:
        array = np.zeros((50, 40, 44), np.uint8)
        array[4:44, 8:32, 4:40] = RIGHT_WHOLE
        layout = Layout(Volume(array, grid((6.0, 6.0, 6.0))), {RIGHT_WHOLE: LOBES[RIGHT_WHOLE]})
        with pytest.raises(InvalidRequest, match="and not right lung: send lobes that are told apart"):
            generate(ReleasedRequest(steps=1, size=64), released, Inputs(lobes=layout))
