"""Semantic CT as published: a whole CT from a layout, on its grid, GENERATED, with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_fixtures import grid
from lesionbrush.core.boxes import box_of
from lesionbrush.core.generate import Frame, Generation, generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.registry import find_model
from lesionbrush.core.volume import Volume
from lesionbrush.errors import GeometryMismatch, InvalidRequest
from lesionbrush.systems import load_model
from lesionbrush.systems.semantic.classes import BODY
from lesionbrush.systems.semantic.model import SemanticCT
from lesionbrush.systems.semantic.request import SemanticWholeRequest
from lesionbrush.systems.semantic.whole import SemanticWhole, body_box, grid_of
from lesionbrush.systems.slab import Agreement
from semantic_kit import (
    FULL,
    install_semantic,
    make_abdomen,
    named_layout,
    painting,
    semantic_card,
    semantic_model,
)
from test_promise import TURNS


def with_body() -> Layout:
    ct, labels = make_abdomen()
    inside = np.where((labels.array == 0) & (ct.array > -500), 20, labels.array)
    return named_layout(labels.with_array(inside.astype(np.uint8)), n20="body")


def made_of(layout: Layout, model: SemanticCT, frame: Frame | None = None, **wish: Any) -> list[Generation]:
    body_of = wish.pop("body_of", None)
    asked = SemanticWholeRequest.model_validate({"steps": 2, **wish})
    return generate(asked, SemanticWhole(model), Inputs(layout=layout, body_of=body_of), frame)


class TestWhole:
    @pytest.mark.parametrize("turn", ["RAS", "sagittal"])
    def test_each_organ_is_where_the_layout_has_it_and_air_around(self, turn: str) -> None:
        upright = with_body()
        affine = grid((5.0, 5.0, 5.0), TURNS[turn])
        layout = Layout(Volume(upright.labels.array, affine), upright.names)
        (made,) = made_of(layout, painting())
        assert made.ct.shape == layout.labels.shape
        assert np.array_equal(made.ct.affine, affine)
        for name, hu in (("liver", 120), ("left kidney", 60), ("body", -60)):
            assert abs(float(np.median(made.ct.array[layout.mask(name)])) - hu) < 8
        assert (made.ct.array[layout.labels.array == 0] == -1000).all()

    def test_it_is_marked_and_comes_with_its_labels(self) -> None:
        layout = with_body()
        first, second = made_of(layout, semantic_model(), variants=2)
        assert first.provenance.generated
        assert not np.array_equal(first.ct.array, second.ct.array)
        assert first.layout is not None
        assert set(first.layout.names.values()) == {"spleen", "right kidney", "left kidney", "liver", "body"}
        assert np.array_equal(first.layout.mask("liver"), layout.mask("liver"))
        for made in (first, second):
            hu = made.ct.array[first.layout.labels.array > 0]
            said = f"and this CT has {hu.min()} to {hu.max()} in the body"
            (window,) = [told for told in made.provenance.remarks if "for that window alone" in told]
            assert said in window
        (full,) = made_of(layout, semantic_model(scale=FULL))
        assert not any("window" in told for told in full.provenance.remarks)

    def test_slices_agree(self) -> None:
        def difference(model: SemanticCT) -> float:
            (made,) = made_of(with_body(), model, steps=4)
            inside = with_body().labels.array > 0
            apart = np.abs(np.diff(made.ct.array.astype(float), axis=2))
            return float(apart[inside[..., 1:] & inside[..., :-1]].mean())

        together, alone = semantic_model(), semantic_model()
        together.agreement = Agreement(alike_mm=10.0, near_mm=10.0)
        alone.agreement = Agreement(alike_mm=0.0, neighbour_weight=0.0)
        assert difference(together) < 0.9 * difference(alone)

    def test_the_body_of_a_ct_is_taken_where_the_layout_has_none(self) -> None:
        ct, labels = make_abdomen()
        (made,) = made_of(named_layout(labels), painting(), body_of=ct)
        assert made.layout is not None
        body = made.layout.mask("body") | (labels.array > 0)
        assert (body == (ct.array > -500)).mean() > 0.98
        assert made.layout.names[BODY] == "body"

    def test_labels_keep_the_numbers_and_names_that_were_sent(self) -> None:
        """But for what the network was told is body."""
        sent = with_body()
        numbers = np.array([1000 + 10 * number for number in range(256)], np.int32)
        array = np.where(sent.labels.array > 0, numbers[sent.labels.array], 0)
        names = {int(numbers[number]): name for number, name in sent.names.items()}
        spleen = next(number for number, name in names.items() if name == "spleen")
        other = Layout(sent.labels.with_array(array), {**names, spleen: "Klumpen"})
        (made,) = made_of(other, painting())
        assert made.layout is not None
        body = next(number for number, name in names.items() if name == "body")
        assert np.array_equal(made.layout.labels.array, np.where(array == spleen, body, array))
        assert made.layout.names == {number: name for number, name in names.items() if number != spleen}

    @pytest.mark.parametrize(
        ("shape", "side", "pixel_mm"),
        [((3, 20, 24), 32, 4.0), ((3, 40, 20), 64, 4.0), ((3, 90, 64), 64, 7.03125)],
    )
    def test_slices_lie_on_the_smallest_square_and_wide_ones_are_coarser(
        self, shape: tuple[int, ...], side: int, pixel_mm: float
    ) -> None:
        found = grid_of(box_of((0, size) for size in shape), np.array([8.0, 5.0, 5.0]), semantic_card())
        assert found.shape == (3, side, side)
        assert found.spacing_mm == pixel_mm
        assert found.steps_mm[0] == 8.0
        middle = found.origin_mm[1] + (side - 1) / 2 * pixel_mm
        assert middle == pytest.approx((shape[1] - 1) / 2 * 5.0)

    def test_only_the_body_and_a_rim_are_made(self) -> None:
        labels = np.zeros((4, 20, 30), np.uint8)
        labels[1, 5:9, 25:29] = BODY
        assert body_box(labels, np.array([5.0, 2.0, 5.0])) == box_of([(0, 4), (2, 12), (23, 30)])
        (made,) = made_of(with_body(), painting())
        assert made.layout is not None
        around = made.layout.labels.array == 0
        assert (made.ct.array[around] == -1000).all()

    def test_it_loads_from_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_semantic(tmp_path, "semantic_whole")
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
        model = load_model(find_model("semantic_whole"), "cpu")
        (made,) = generate(SemanticWholeRequest(steps=1), model, Inputs(layout=with_body()))
        assert made.provenance.model == "semantic_whole"


class TestRefusals:
    def test_a_layout_without_a_body(self) -> None:
        with pytest.raises(InvalidRequest, match=r"^layout: nothing in it is called body.*as body_of"):
            made_of(named_layout(make_abdomen()[1]), painting())

    def test_another_grid(self) -> None:
        layout = with_body()
        with pytest.raises(InvalidRequest, match="makes its CT on the grid of the layout: name no other"):
            made_of(layout, painting(), Frame.of(layout.labels))

    def test_a_ct_on_another_grid(self) -> None:
        with pytest.raises(GeometryMismatch):
            made_of(named_layout(make_abdomen()[1]), painting(), body_of=make_abdomen(slices=8)[0])

    def test_one_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lesionbrush.systems.semantic.whole_hooks.MOST_VOXELS", 100)
        with pytest.raises(InvalidRequest, match=r"voxels are more than 100: send fewer slices"):
            made_of(with_body(), painting())
