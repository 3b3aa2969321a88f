"""Spots in what Palette was to make an organ or healthy: what is one, that it is drawn again, and told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.palette.job import MOST_DRAWS
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.palette.spots import find_spot
from palette_kit import SIDE, liver_rois, sampled, saying


def disc(centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.indices((60, 60))
    return np.hypot(y - centre[0], x - centre[1]) <= radius


class TestSpots:
    """Pixels of 1 mm; an organ of 100 HU with grain, a disc of radius 25 mm in three slices."""

    inside = np.stack([disc((30, 30), 25)] * 3)

    def organ(self) -> np.ndarray:
        return np.random.default_rng(0).normal(100, 12, self.inside.shape)

    def test_an_even_organ_has_none(self) -> None:
        assert find_spot(self.organ(), self.inside, 1.0) is None

    @pytest.mark.parametrize("contrast", [-60.0, 70.0])
    def test_a_lesion_in_it_is_found_with_its_size_and_contrast(self, contrast: float) -> None:
        hu = self.organ()
        hu[1][disc((26, 36), 7)] += contrast
        spot = find_spot(hu, self.inside, 1.0)
        assert spot is not None
        assert spot.diameter_mm == pytest.approx(14, abs=3)
        assert np.sign(spot.contrast_hu) == np.sign(contrast)
        assert ("darker" if contrast < 0 else "brighter") in str(spot)

    def test_a_vessel_is_none(self) -> None:
        hu = self.organ()
        hu[1][disc((30, 30), 1.5)] += 60
        assert find_spot(hu, self.inside, 1.0) is None

    def test_an_organ_that_is_uneven_by_itself_has_none(self) -> None:
        """Half of a kidney is pelvis: its own spread is wide."""
        hu = self.organ()
        hu[:, 30:] += 80
        assert find_spot(hu, self.inside, 1.0) is None

    def test_what_lies_at_the_edge_or_outside_is_none(self) -> None:
        hu = self.organ()
        hu[:, :, :4] = -100
        assert find_spot(hu, self.inside, 1.0) is None
        assert find_spot(hu, np.zeros_like(self.inside), 1.0) is None


def rois_with_room() -> RoiBatch:
    """A hole of 60 mm, in which a spot of 16 mm is one."""
    rois = liver_rois()
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    mask, editable = (np.zeros(rois.mask.shape, bool) for _ in range(2))
    mask[:, 1:4], editable[:, 1:4] = np.hypot(y, x) <= 14, np.hypot(y, x) <= 15
    return replace(rois, mask=mask.astype(np.float32), editable=editable)


class TestDrawnAgain:
    spotty = torch.full((SIDE, SIDE), 0.25)
    spotty[12:20, 12:20] = -0.5

    def spotty_as(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.spotty.expand_as(noisy)

    def test_a_spot_nobody_asked_for_is_drawn_again_and_then_told(self) -> None:
        model = saying(self.spotty_as)
        made = sampled(model, rois_with_room(), fill="healthy", steps=2)
        assert len(model.network.asked) == 2 * MOST_DRAWS
        (told,) = made.remarks
        assert told.startswith("seed 0: in what was to be healthy a spot is left that nobody asked for, ")
        assert "HU darker than the rest, after 3 draws" in told

    def test_one_that_is_gone_at_the_next_draw_is_told_too(self) -> None:
        answers = iter([self.spotty, torch.full((SIDE, SIDE), 0.25)])
        model = saying(lambda noisy: next(answers).expand_as(noisy))
        made = sampled(model, rois_with_room(), fill="liver", steps=1)
        (told,) = made.remarks
        assert told == "seed 0: drawn 2 times, for in what was to be liver a spot grew at first"
        assert made.hu[0][rois_with_room().mask > 0].std() < 1

    @pytest.mark.parametrize("fill", [None, "tumour"])
    def test_a_tumour_and_an_open_fill_may_have_any(self, fill: str | None) -> None:
        model = saying(self.spotty_as)
        assert sampled(model, rois_with_room(), fill=fill, steps=2).remarks == ()
        assert len(model.network.asked) == 2

    def test_another_draw_has_other_noise_and_is_the_same_again(self) -> None:
        seen = []
        for _ in range(2):
            model = saying(self.spotty_as)
            sampled(model, rois_with_room(), fill="healthy", steps=1)
            seen.append([conditions[:, 0] for _, _, conditions, _ in model.network.asked])
        assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
        assert not torch.equal(seen[0][0], seen[0][1])

    def test_steps_are_counted_to_the_end_and_not_beyond_it(self) -> None:
        model, steps = saying(self.spotty_as), []
        asked = PaletteRequest(steps=2, fill="healthy")
        model.sample(rois_with_room(), asked, (0,), lambda done, total: steps.append((done, total)))
        assert steps == [(1, 2)] + [(2, 2)] * (2 * MOST_DRAWS - 1)
