"""MedSyn: chests from a text, on their own grid, with what was sent held, tile by tile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from core_fixtures import grid
from lesionbrush.anatomy.chest.masks import AIRWAYS_NAME
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.boxes import box_of
from lesionbrush.core.generate import Frame, Generation, generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.registry import find_model
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, InvalidRequest, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.systems.medsyn.channels import AIRWAY, LOBE, lobes_from_unit
from lesionbrush.systems.medsyn.expected import enlarge
from lesionbrush.systems.medsyn.held import hold
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.network import fold, repeat_tokens, unfold
from lesionbrush.systems.medsyn.request import MedSynRequest
from lesionbrush.systems.medsyn.tiles import Mosaic, NoiseField, Tiling, coarse
from medsyn_kit import install_medsyn, medsyn_model

TEXT = "Large right pleural effusion."


@pytest.fixture(scope="module")
def model() -> MedSyn:
    return medsyn_model()


def ask(model: MedSyn, inputs: Inputs | None = None, **wishes: Any) -> list[Generation]:
    request = MedSynRequest(**{"steps": 2, "fine_steps": 1, "size": 64, **wishes})
    return generate(request, model, inputs or Inputs(text=TEXT))


def lungs(spacing_mm: float = 6.0) -> Layout:
    """Two boxes of lobes."""
    array = np.zeros((50, 40, 44), np.uint8)
    array[4:20, 8:32, 4:40], array[28:44, 8:32, 4:40] = 4, 1
    return Layout(Volume(array, grid((spacing_mm,) * 3)), {number: LOBES[number] for number in (1, 4)})


def tube(of: Layout) -> Volume:
    array = np.zeros(of.labels.shape, np.uint8)
    array[20:28, 16:24, 10:40] = 1
    return of.labels.with_array(array)


def test_a_chest_lies_on_a_grid_of_its_own_and_says_what_it_is(model: MedSyn):
    (made,) = ask(model)
    assert made.ct.shape == (64, 64, 64)
    assert made.ct.array.dtype == np.int16
    assert -1024 <= made.ct.array.min() <= made.ct.array.max() <= 600
    assert made.provenance.generated
    assert made.layout is not None
    assert set(made.layout.names.values()) <= {*LOBES.values(), "airways", "lung vessels"}
    assert "Words that acted: large, right, pleural, effusion." in made.provenance.remarks


def test_the_same_request_gives_the_same_voxels_and_another_seed_others(model: MedSyn):
    first, second = ask(model, variants=2)
    (again,) = ask(model, seed=1)
    assert (second.ct.array == again.ct.array).all()
    assert (first.ct.array != second.ct.array).any()


def test_another_text_gives_another_chest_and_strength_0_leaves_it_out(model: MedSyn):
    texts = (TEXT, "No emphysema.")
    one, other = (ask(model, Inputs(text=text))[0].ct.array for text in texts)
    assert (one != other).any()
    without = [ask(model, Inputs(text=text), strength=0)[0].ct.array for text in texts]
    assert (without[0] == without[1]).all()
    assert (without[0] == ask(model, Inputs())[0].ct.array).all()


def test_a_text_of_no_known_word_is_refused(model: MedSyn):
    with pytest.raises(InvalidRequest, match=r"none of its words is known \(bonjour"):
        ask(model, Inputs(text="bonjour monde"))


def test_words_without_effect_are_told(model: MedSyn):
    (made,) = ask(model, Inputs(text="Large effusion, splenomegaly."))
    assert any("without effect: splenomegaly" in remark for remark in made.provenance.remarks)


def test_a_nodule_in_the_text_is_left_to_lung_lesion(model: MedSyn):
    text = "Large right effusion. Solid nodule of 12 mm in the left upper lobe."
    (made,) = ask(model, Inputs(text=text))
    assert (made.ct.array == ask(model, Inputs(text="Large right effusion."))[0].ct.array).all()
    (wish,) = made.wishes
    assert wish.said == "nodule (12 mm, solid, left lung upper lobe)"
    assert wish.model == "lung_lesion"


def test_without_a_text_it_says_so(model: MedSyn):
    (made,) = ask(model, Inputs())
    assert any("No text steered it" in remark for remark in made.provenance.remarks)


@pytest.mark.parametrize("size", [64, 128])
def test_lobes_and_airways_that_were_sent_come_out(model: MedSyn, size: int):
    sent = lungs()
    inputs = Inputs(text=TEXT, lobes=sent, airways=tube(sent))
    (made,) = ask(model, inputs, size=size)
    held = hold(inputs, size)
    assert held.names == ("lobes", "airways")
    assert made.layout is not None
    labels = made.layout.labels.array.transpose(2, 1, 0)[:, ::-1, ::-1]
    inside = (held.editable[0, LOBE] == 0).numpy()
    wanted = lobes_from_unit(held.unit[0, LOBE].numpy())
    free = ~np.isin(labels, (8, 9))
    assert (labels == wanted)[inside & free].all()
    airway = (held.unit[0, AIRWAY] > 0).numpy() & inside
    assert np.isin(labels[airway], (8, 9)).all()
    assert airway.any()
    assert AIRWAYS_NAME in made.layout.names.values()


def test_what_is_held_lies_where_it_was_sent(model: MedSyn):
    sent = lungs()
    (made,) = ask(model, Inputs(text=TEXT, lobes=sent))
    assert made.layout is not None
    for name in (LOBES[1], LOBES[4]):
        both = [one.labels.affine @ np.append(_middle(one.mask(name)), 1) for one in (sent, made.layout)]
        assert np.abs(both[0] - both[1])[:3].max() < 6


def _middle(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def test_a_ct_that_is_held_comes_out_where_it_is_known(model: MedSyn):
    sent = lungs()
    hu = np.where(sent.labels.array > 0, -800, 40).astype(np.int16)
    inputs = Inputs(lobes=sent, held_ct=sent.labels.with_array(hu))
    (made,) = ask(model, inputs)
    known = (hold(inputs, 64).editable[0, 0] == 0).numpy()
    view = made.ct.array.transpose(2, 1, 0)[:, ::-1, ::-1]
    assert known.mean() > 0.5
    wanted = np.clip((hold(inputs, 64).unit[0, 0].numpy() + 1) * 812 - 1024, -1024, 600)
    assert np.abs(view - wanted)[known].max() <= 1


def test_the_frame_of_nobody_is_around_the_origin(model: MedSyn):
    (made,) = ask(model)
    corners = made.ct.affine @ np.array([[0, 0, 0, 1], [63, 63, 63, 1]]).T
    assert np.allclose(corners[:3].mean(axis=1), 0, atol=1e-6)
    assert (np.diag(made.ct.affine)[:3] * [-1, -1, 1] > 0).all()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (lambda one: Inputs(text=TEXT, airways=tube(one)), "airways: send lobes as well"),
        (
            lambda one: Inputs(text=TEXT, lobes=Layout(one.labels, {1: "liver", 4: "spleen"})),
            "none of the names",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(model: MedSyn, inputs: Any, says: str):
    with pytest.raises(InvalidRequest, match=says):
        ask(model, inputs(lungs()))


def test_masks_of_another_grid_are_refused(model: MedSyn):
    with pytest.raises(GeometryMismatch, match="airways"):
        ask(model, Inputs(text=TEXT, lobes=lungs(), airways=tube(lungs(5.0))))


def test_a_grid_that_is_wanted_is_refused(model: MedSyn):
    with pytest.raises(InvalidRequest, match="give size"):
        generate(MedSynRequest(), model, Inputs(text=TEXT), Frame((64, 64, 64), np.eye(4)))


def test_progress_counts_every_evaluation_of_both_stages(model: MedSyn):
    seen: list[tuple[int, int]] = []
    request = MedSynRequest(steps=3, fine_steps=1, size=128, variants=2)
    generate(request, model, Inputs(text=TEXT), on_step=lambda done, total: seen.append((done, total)))
    evaluations = 2 * (3 + 2**3)
    assert seen[-1] == (evaluations, evaluations)
    assert [done for done, _ in seen] == list(range(1, evaluations + 1))


def test_256_voxels_are_made_of_64_times_4_and_128_of_32_times_4(model: MedSyn):
    assert [model.sides(size) for size in (64, 128, 256)] == [[64], [64, 128], [64, 256]]
    coarser = MedSyn(
        model.card.model_copy(update={"section": {**model.card.section, "low_side": 32}}),
        model.network,
        model.encoder,
        model.device,
    )
    assert [coarser.sides(size) for size in (64, 128, 256)] == [[32, 64], [32, 128], [32, 128, 256]]
    (made,) = ask(coarser, size=64)
    assert made.ct.shape == (64, 64, 64)


def test_a_model_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install_medsyn(tmp_path / "tiny_medsyn")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    loaded = load_model(find_model("tiny_medsyn"))
    assert (ask(loaded)[0].ct.array == ask(medsyn_model())[0].ct.array).all()


def test_a_model_that_reads_by_a_bert_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = install_medsyn(tmp_path / "tiny_medsyn", words=False)
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    monkeypatch.delenv("LESIONBRUSH_BERT", raising=False)
    assert folder.is_dir()
    with pytest.raises(WeightsError, match="LESIONBRUSH_BERT"):
        load_model(find_model("tiny_medsyn"))


# --- blocks of voxels, tiles ---


def test_folded_blocks_come_back():
    image = torch.arange(2 * 3 * 4 * 4 * 8.0).reshape(2, 3, 4, 4, 8)
    folded = fold(image, 2)
    assert folded.shape == (2, 24, 2, 2, 4)
    assert (folded[1, 8:16, 1, 0, 3] == image[1, 1, 2:4, 0:2, 6:8].flatten()).all()
    assert (unfold(folded, 2) == image).all()


def test_tiles_cover_the_cube_and_equal_ones_keep_their_value():
    tiling = Tiling(112, 64, 48)
    assert tiling.firsts == (0, 48)
    assert len(list(tiling.tiles())) == len(tiling) == 8
    mosaic = Mosaic(tiling)
    for tile in tiling.tiles():
        mosaic.add(tile, torch.full((4, 64, 64, 64), 0.3))
    np.testing.assert_allclose(mosaic.mean(), 0.3, rtol=1e-5)
    assert Tiling(64, 64, 48).firsts == (0,)
    assert Tiling(128, 64, 48).firsts == (0, 48, 64)


def test_tiles_share_one_field_of_noise():
    field = NoiseField(7, 40)
    whole = field.crop(box_of([(0, 40)] * 3))
    part = field.crop(box_of([(10, 30), (4, 20), (8, 40)]))
    assert (whole[:, :, 10:30, 4:20, 8:40] == part).all()
    assert abs(float(whole.std()) - 1) < 0.01


def test_a_tile_sees_its_own_place_of_the_coarse_chest():
    low = torch.arange(8.0**3).reshape(1, 8, 8, 8)
    tile = box_of([(8, 16), (4, 12), (0, 8)])
    z, y, x = coarse(tile, 4)
    shown = enlarge(low[:, z, y, x], 4)
    assert shown.shape == (1, 8, 8, 8)
    assert shown[0, 5, 2, 7] == low[0, (8 + 5) // 4, (4 + 2) // 4, 7 // 4]


def test_what_is_said_fills_the_places_behind_it():
    text = torch.zeros(3, 5, 2)
    text[0, :2], text[1] = torch.tensor([[1.0, -1.0], [2.0, 0.0]]), 7.0
    repeated = repeat_tokens(text)
    assert (repeated[0] == text[0, [0, 1, 0, 1, 0]]).all()
    assert (repeated[1] == text[1]).all()
    assert (repeated[2] == 0).all()


def test_attention_to_repeated_tokens_is_attention_to_them_alone():
    """Against PyTorch's own, with what is behind a text masked."""
    generator = torch.Generator().manual_seed(0)
    text, query = torch.randn(1, 8, 4, generator=generator), torch.randn(1, 3, 4, generator=generator)
    text[:, 2:] = 0
    attend = torch.nn.functional.scaled_dot_product_attention
    repeated = repeat_tokens(text)
    torch.testing.assert_close(attend(query, repeated, repeated), attend(query, text[:, :2], text[:, :2]))


def test_calmer_noise_makes_seeds_more_alike():
    def spread(temperature: float) -> float:
        model = medsyn_model()
        section = {**model.card.section, "temperature": temperature}
        calm = MedSyn(
            model.card.model_copy(update={"section": section}), model.network, model.encoder, model.device
        )
        made = ask(calm, variants=3)
        return float(np.stack([one.ct.array for one in made]).astype(float).std(axis=0).mean())

    assert spread(0.2) < 0.8 * spread(1.0)


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (1, r"size 256 takes 1\.6 GB of memory, and 1\.0 GB are free: ask for a smaller size"),
        (3, "variants 3"),
    ],
)
def test_more_than_the_memory_holds_is_refused_before_the_work(
    model: MedSyn, monkeypatch: pytest.MonkeyPatch, variants: int, said: str
):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1.0e9))
    with pytest.raises(InvalidRequest, match=said):
        ask(model, size=256, variants=variants)
    assert ask(model, size=64)
