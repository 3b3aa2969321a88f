"""Semantic CT as an edit: what changes, what stays, what the network is shown, what is told and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import ball, edit_region, grid
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.registry import METADATA, find_model
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, InvalidRequest, WeightsError
from lesionbrush.systems import find_system, load_model, parse_request
from lesionbrush.systems.semantic.card import SemanticCard
from lesionbrush.systems.semantic.classes import BODY, CLASSES, FAT, MUSCLE
from lesionbrush.systems.semantic.model import SemanticCT, network_config
from lesionbrush.systems.semantic.network import CONDITIONINGS
from lesionbrush.systems.semantic.request import SemanticRequest
from semantic_kit import (
    CPU,
    FULL,
    Painter,
    install_semantic,
    make_abdomen,
    move,
    named_layout,
    painting,
    semantic_card,
    semantic_model,
)
from test_promise import TURNS
from torch import Tensor

MOVED = (0, -4, 0)
"""20 mm to the back."""


def turned(volume: Volume, turn: str) -> Volume:
    """The same voxels on a grid whose axes run otherwise."""
    return Volume(volume.array, grid((5.0, 5.0, 5.0), TURNS[turn]))


def edited(
    model: SemanticCT,
    ct: Volume,
    before: Volume,
    after: Volume | None,
    mask: Volume | None = None,
    **wish: Any,
) -> Synthesis:
    inputs = Inputs(layout=named_layout(before), new_layout=None if after is None else named_layout(after))
    asked = SemanticRequest.model_validate({"steps": 2, **wish})
    (made,) = synthesize(ct, mask, asked, model, inputs)
    return made


class TestThePromise:
    @pytest.mark.parametrize("turn", ["RAS", "sagittal"])
    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_only_what_the_layouts_say_otherwise_changes(self, turn: str, kind: str) -> None:
        ct, before = (turned(volume, turn) for volume in make_abdomen())
        after = move(before, 6, MOVED)
        model = semantic_model(network={"conditioning": kind}, scale=FULL)
        where = edited(model, ct, before, after).volume().array != ct.array
        differ = before.array != after.array
        assert not where[~edit_region(differ, ct.spacing_mm, 3.0)].any()
        assert where[differ].mean() > 0.9

    def test_a_mask_is_made_anew_as_what_it_is_called(self) -> None:
        ct, before = make_abdomen()
        mask = ball(ct, (26, 20, 6), 10.0)
        model = painting()
        made = edited(model, ct, before, None, mask, organ="spleen").volume()
        where = made.array != ct.array
        assert not where[~edit_region(mask.array, ct.spacing_mm, 3.0)].any()
        assert abs(float(np.median(made.array[mask.array > 0])) - 20) < 12

    def test_same_seed_same_voxels_and_other_seeds_others(self) -> None:
        ct, before = make_abdomen()
        model, after = semantic_model(), move(before, 6, MOVED)
        one, again, other = (edited(model, ct, before, after, seed=seed).volume().array for seed in (3, 3, 4))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_a_calmer_start_is_by_the_card(self) -> None:
        ct, before = make_abdomen()
        after = move(before, 6, MOVED)
        found = [
            edited(semantic_model(coarse_noise=share), ct, before, after, seed=3).volume().array
            for share in (1.0, 0.3)
        ]
        assert not np.array_equal(*found)


class BodyAlone(Painter):
    """Shown anything, it says body."""

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        return super().forward(noisy, timesteps, torch.ones_like(conditions))


class TestPainting:
    """By a network that says body, of -60 HU, of everything: what is made otherwise was painted."""

    def made_hu(self, organ: str, **section: Any) -> float:
        ct, before = make_abdomen()
        mask, card = ball(ct, (26, 20, 6), 10.0), semantic_card(**section)
        model = SemanticCT(card, BodyAlone(network_config(SemanticCard.of(card).network)), CPU)
        made = edited(model, ct, before, None, mask, organ=organ).volume().array
        return float(np.median(made[mask.array > 0]))

    def test_an_organ_starts_from_what_it_is_in_this_ct(self) -> None:
        ct, before = make_abdomen()
        liver_hu = float(np.median(ct.array[before.array == 6]))
        made_hu = self.made_hu("liver", class_hu={"liver": 0.0}, painted_above=1e-6)
        assert abs(made_hu - liver_hu) < 3

    def test_and_from_the_card_where_the_ct_has_none(self) -> None:
        made_hu = self.made_hu("stomach", class_hu={"stomach": 150.0}, painted_above=1e-6)
        assert abs(made_hu - 150) < 3

    @pytest.mark.parametrize("organ", ["body", "stomach"])
    def test_body_and_what_nobody_knows_are_the_networks(self, organ: str) -> None:
        assert abs(self.made_hu(organ, class_hu={"liver": 0.0}, painted_above=1e-6) + 60) < 5

    @pytest.mark.parametrize("ratio", [None, 0.5])
    def test_below_the_ratio_the_network_decides(self, ratio: float | None) -> None:
        assert abs(self.made_hu("liver", painted_above=ratio) + 60) < 5

    @pytest.mark.parametrize("name", ["body", "livr"])
    def test_a_card_names_classes_that_have_a_mean(self, name: str) -> None:
        with pytest.raises(WeightsError, match="is no class with a mean"):
            SemanticCard.of(semantic_card(class_hu={name: 0.0}))


class TestOrgans:
    def test_one_moved_by_20_mm_is_found_where_it_went(self) -> None:
        """By a network that paints what it is shown: what is left to error is the way there and back."""
        ct, before = make_abdomen()
        after = move(before, 6, MOVED)
        made = edited(painting(), ct, before, after, margin_mm=0).volume().array
        wanted = after.array == 6
        found = (np.abs(made - 115) < 35) & (wanted | (before.array == 6))
        assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.8

    def test_where_it_was_there_is_body(self) -> None:
        ct, before = make_abdomen()
        after = move(before, 6, MOVED)
        left = (before.array == 6) & (after.array != 6)
        made = edited(painting(), ct, before, after).volume().array
        assert abs(float(np.median(made[left])) + 60) < 25

    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_the_network_is_shown_the_new_layout_on_whole_slices_of_the_roi(self, kind: str) -> None:
        ct, before = make_abdomen()
        after = move(before, 6, MOVED)
        model = painting(network={"conditioning": kind})
        edited(model, ct, before, after)
        assert isinstance(model.network, Painter)
        shown = model.network.asked[0][2]
        assert shown.shape[1] == (2 if kind == "edge_guided" else 1)
        numbers = set((shown[:, 0] * BODY).round().int().unique().tolist())
        assert {6, BODY} <= numbers <= {0, 1, 2, 3, 6, BODY}

    def test_known_voxels_are_noised_to_the_level_and_clean_at_the_end(self) -> None:
        ct, before = make_abdomen()
        model = painting(scale=FULL)
        mask = ball(ct, (26, 20, 6), 10.0)
        edited(model, ct, before, None, mask, steps=20, organ="liver")
        assert isinstance(model.network, Painter)
        first, last = (model.network.asked[number][0] for number in (0, -1))
        assert float(first.std()) == pytest.approx(1, abs=0.1)
        air, fat = model.scale.to_unit(np.array([-1000.0, -100.0])).tolist()
        near = [((last - unit).abs() < 0.15).float().mean() for unit in (air, fat)]
        assert min(near) > 0.03

    def test_around_what_changes_tissues_are_those_of_the_ct_and_what_is_to_come_has_none(self) -> None:
        ct, before = make_abdomen()
        mask = ball(ct, (19, 5, 6), 12.0)  # on the spine
        model = painting(network={"tissues": True}, classes=(*CLASSES[1:],))
        edited(model, ct, before, None, mask)
        assert isinstance(model.network, Painter)
        shown = (model.network.asked[0][2] * 20).round().int()
        assert {FAT, MUSCLE} <= set(shown.unique().tolist())
        under = shown[:, 0, 13:18, 14:18]
        assert (under == BODY).float().mean() > 0.5


class TestWindows:
    def test_what_the_window_cannot_hold_keeps_the_values_of_the_ct(self) -> None:
        ct, before = make_abdomen()
        mask = ball(ct, (26, 20, 6), 10.0)
        model = painting()
        model.diffusion.clip = (1.0, 1.0)  # white, whatever is said
        made = edited(model, ct, before, None, mask)
        assert np.array_equal(made.volume().array, ct.array)
        assert any("kept the CT's values" in remark for remark in made.provenance.remarks)


class TestRemarks:
    def test_names_that_are_no_class_and_classes_that_no_case_had_are_told(self) -> None:
        ct, before = make_abdomen()
        mask = ball(ct, (26, 20, 6), 10.0)
        labels = before.with_array(np.where(before.array == 1, 40, before.array).astype(np.uint8))
        inputs = Inputs(layout=named_layout(labels, n40="lump"))
        (made,) = synthesize(ct, mask, SemanticRequest(steps=1, organ="pancreas"), painting(), inputs)
        told = " ".join(made.provenance.remarks)
        assert "the layout's lump: no class of this model; taken as body" in told
        assert "no case that 'semantic' was trained on had pancreas labelled: made as body" in told
        under = made.volume().array[mask.array > 0]
        assert abs(float(np.median(under)) + 60) < 25

    def test_a_table_of_the_user_s_says_what_a_lump_is(self) -> None:
        ct, before = make_abdomen()
        labels = before.with_array(np.where(before.array == 1, 40, before.array).astype(np.uint8))
        inputs = Inputs(layout=named_layout(labels, n40="lump"))
        asked = SemanticRequest(steps=1, classes="lump = spleen")
        (made,) = synthesize(ct, ball(ct, (26, 20, 6), 10.0), asked, painting(), inputs)
        assert not any("lump" in remark for remark in made.provenance.remarks)


class TestRefusals:
    def ask(self, error: type[Exception], words: str, mask: Volume | None = None, **wish: Any) -> None:
        ct, before = make_abdomen()
        layout = wish.pop("layout", named_layout(before))
        new = wish.pop("new_layout", None)
        asked = SemanticRequest.model_validate({"steps": 1, **wish})
        with pytest.raises(error, match=words):
            synthesize(ct, mask, asked, painting(), Inputs(layout=layout, new_layout=new))

    def test_two_layouts_that_say_the_same(self) -> None:
        same = named_layout(make_abdomen()[1])
        self.ask(InvalidRequest, "^layout and new_layout say the same, and no mask", new_layout=same)
        self.ask(InvalidRequest, "^layout and new_layout say the same, and no mask was sent: change")

    def test_an_organ_without_a_place(self) -> None:
        self.ask(InvalidRequest, "^organ: nothing says where liver is to be; send a mask", organ="liver")

    def test_a_layout_on_another_grid(self) -> None:
        other = make_abdomen(slices=10)[1]
        self.ask(GeometryMismatch, "^layout: ", layout=named_layout(other))

    def test_one_without_an_organ(self) -> None:
        labels = make_abdomen()[1]
        tumour = named_layout(labels)
        strange = replace(tumour, names=dict.fromkeys(tumour.names, "tumour"))
        self.ask(InvalidRequest, "^none of tumour, tumour, tumour, tumour is an organ", layout=strange)

    def test_labels_without_a_name(self) -> None:
        labels = make_abdomen()[1]
        bare = replace(named_layout(labels), names={6: "liver"})
        self.ask(InvalidRequest, "^layout: the labels 1, 2, 3 have no name", layout=bare)

    def test_none_at_all(self) -> None:
        self.ask(InvalidRequest, "^layout is missing: model 'semantic' needs the organs", layout=None)

    def test_more_steps_than_levels(self) -> None:
        ct = make_abdomen()[0]
        mask = ball(ct, (26, 20, 6), 10.0)
        self.ask(InvalidRequest, "^steps: this model has", mask, steps=1000)

    @pytest.mark.parametrize(
        ("wish", "words"), [({"organ": "heart"}, "organ"), ({"strength": 9}, "strength"), ({"x": 1}, "x: ")]
    )
    def test_what_the_form_does_not_have(self, wish: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidRequest, match=words):
            parse_request(wish, "semantic")


class TestAsAFolder:
    def test_it_loads_and_samples(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_semantic(tmp_path)
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        model = load_model(find_model("semantic"), "cpu")
        ct, before = make_abdomen()
        made = edited(model, ct, before, move(before, 6, MOVED))
        assert made.provenance.model == "semantic"
        assert made.provenance.request["organ"] is None

    def test_weights_of_another_conditioning_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = install_semantic(tmp_path)
        card = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        card["lesionbrush"]["section"]["network"]["conditioning"] = "mask_guided"
        (folder / METADATA).write_text(json.dumps(card), encoding="utf-8")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        with pytest.raises(WeightsError, match="the weights of 'semantic' do not fit its network"):
            load_model(find_model("semantic"), "cpu")

    @pytest.mark.parametrize("kind", CONDITIONINGS)
    def test_its_network_can_be_made_from_the_words_of_a_bundle(self, kind: str) -> None:
        system = find_system("semantic")
        assert system.bundle is not None
        words = system.bundle(semantic_card(network={"conditioning": kind}))
        config = dict(words.definition["config"])
        module, _, name = str(words.definition["_target_"]).rpartition(".")
        made = getattr(import_module(module), name)
        facts = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key[0] != "_"}
        network = made(getattr(import_module(module), f"{name}Config")(**facts))
        shown = words.data_format["inputs"]["conditions"]["num_channels"]
        said = network(torch.zeros(1, 1, 8, 8), torch.tensor([3]), torch.zeros(1, shown, 8, 8))
        assert said.shape[1] == words.data_format["outputs"]["pred"]["num_channels"]
