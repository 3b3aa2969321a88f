"""What is expected of a chest, and networks that make what differs from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from lesionbrush.core.generate import generate
from lesionbrush.core.inputs import Inputs
from lesionbrush.reports.findings import ChestFindings
from lesionbrush.systems.medsyn.channels import CT, WINDOW
from lesionbrush.systems.medsyn.data import Describe, Encode, MedSynBatches, learn_expectation
from lesionbrush.systems.medsyn.expected import (
    LEAST_SPREAD,
    Expectation,
    Expected,
    enlarge,
    enlarge_smoothly,
    fit_effects,
    fit_reader,
    mean_chest,
    spread_of,
)
from lesionbrush.systems.medsyn.field import stored
from lesionbrush.systems.medsyn.network import MedSynUNets
from lesionbrush.systems.medsyn.recipes import RECIPES, Networks
from lesionbrush.systems.medsyn.request import MedSynRequest
from medsyn_kit import FINE, LOW, packed_chest, silent_model


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


EXPECTED = Expected(drawn(4, 3, 3, 3), torch.tensor([0.2, 0.3, 0.1, 0.5]).reshape(-1, 1, 1, 1))


def test_residuals_and_units_are_each_other_s_inverse():
    image = drawn(2, 4, 3, 3, 3)
    torch.testing.assert_close(EXPECTED.unit(EXPECTED.residual(image)), image)
    assert (EXPECTED.residual(EXPECTED.mean[None]) == 0).all()


def test_a_residual_is_clamped_to_what_lies_in_range():
    wild = 50 * drawn(2, 4, 3, 3, 3)
    clamped = EXPECTED.unit(EXPECTED.clamp(wild))
    torch.testing.assert_close(clamped, EXPECTED.unit(wild).clamp(-1, 1))


def test_the_mean_is_of_what_is_known():
    images = [torch.full((4, 1, 1, 3), value) for value in (0.2, 0.6)]
    known = [torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])]
    mean = mean_chest(zip(images, known, strict=True))
    torch.testing.assert_close(mean[2, 0, 0], torch.tensor([0.4, 0.2, -1.0]))


def test_spreads_are_of_each_channel_where_it_is_known():
    image, known = torch.ones(4, 1, 1, 2), torch.tensor([[[1.0, 0.0]]])
    image[0], image[1, ..., 1], image[2] = 3.0, 100.0, 0.001
    assert spread_of([(image, known)]).tolist() == pytest.approx([3, 1, LEAST_SPREAD, 1])


@pytest.mark.parametrize("factor", [2, 4])
def test_a_ramp_enlarged_smoothly_is_a_ramp(factor: int):
    ramp = torch.arange(6.0).reshape(1, 6, 1, 1).expand(4, 6, 2, 2)
    fine = enlarge_smoothly(ramp, factor)[0, :, 0, 0].numpy()
    inner = slice(factor, -factor)
    wanted = (np.arange(6 * factor) + 0.5) / factor - 0.5
    np.testing.assert_allclose(fine[inner], wanted[inner], atol=1e-5)
    assert (enlarge(ramp, factor)[0, ::factor, 0, 0].numpy() == np.arange(6)).all()


@pytest.mark.parametrize("size", [64, 128])
def test_networks_that_say_nothing_make_what_is_expected(size: int):
    atlas = drawn(4, 32, 32, 32)
    model = silent_model(replace(Expectation.none(32, 16), atlas=atlas))
    (made,) = generate(MedSynRequest(steps=2, fine_steps=2, size=size), model, Inputs(text="no effusion"))
    wanted = WINDOW.from_unit(enlarge_smoothly(atlas, size // 32)[CT].numpy())
    inner = slice(4, -4)  # at the border of a tile nothing is known of what lies beyond
    away = np.abs(made.ct.array - stored(wanted))[inner, inner, inner]
    assert np.median(away) < 1


def tiny_batches(describe: Describe, encode: Encode) -> MedSynBatches:
    networks = Networks(low=replace(LOW, shown=5), high=FINE)
    recipe = replace(RECIPES["ours"], network=networks, tile=32, low_share=1.0)
    return MedSynBatches([packed_chest()], recipe, np.random.default_rng(3), describe, encode)


def say_nothing(texts: Sequence[str]) -> torch.Tensor:
    return torch.zeros(len(texts), 32, 16)


def test_a_run_learns_what_its_images_are_expected_to_be():
    batches = tiny_batches(lambda *_: "", say_nothing)
    expectation = learn_expectation(batches, draws=8)
    batches.expectation = expectation
    assert expectation.atlas.shape == (4, 32, 32, 32)
    assert float(expectation.atlas[CT, 16, 14:18, 22:26].mean()) < -0.2  # in a lung
    batch = batches.draw()
    assert batch.shown.shape[1] == 5
    assert (batch.image[batch.scored == 0] == 0).all()
    assert 0.3 < float(batch.image[:, CT].square().mean().sqrt()) < 3
    again = learn_expectation(replace_rng(batches), draws=8)
    assert (again.atlas == expectation.atlas).all()


def test_without_masks_nothing_of_them_is_expected_shown_or_scored():
    batches = tiny_batches(lambda *_: "", say_nothing)
    batches.recipe = replace(batches.recipe, ct_alone=True)
    batches.expectation = learn_expectation(batches, draws=8)
    for learned in (batches.expectation.atlas[1:], batches.expectation.effects[:, 1:]):
        assert not learned.any()
    batch = batches.draw()
    for part in (batch.image, batch.scored, batch.shown[:, 1:]):
        assert part[:, CT].any()
        assert not part[:, CT + 1 :].any()


def write_right_ml(findings: ChestFindings, generator: np.random.Generator) -> str:
    del generator
    return str(findings.effusion_right_ml.value or 0.0)


def tell_ml(texts: Sequence[str]) -> torch.Tensor:
    """A first token that holds litres of fluid and a constant."""
    tokens = torch.zeros(len(texts), 32, 16)
    for row, text in zip(tokens, texts, strict=True):
        row[0, 0], row[0, 1] = (float(text) / 1000, 1.0) if text else (0.0, 0.0)
    return tokens


def test_a_text_moves_what_is_expected_to_where_its_finding_is():
    expectation = learn_expectation(tiny_batches(write_right_ml, tell_ml), draws=60)
    much, little = (expectation.of_chest(tell_ml([text])[0]).mean[CT] for text in ("1200", "0"))
    middle = 16
    right_back, left_back = np.index_exp[10:middle, 11:13, 22:26], np.index_exp[10:middle, 11:13, 6:10]
    assert float((much - little)[right_back].mean()) > 0.3
    assert abs(float((much - little)[left_back].mean())) < 0.15
    halfway = expectation.of_chest(tell_ml(["1200"])[0], strength=0.5).mean[CT]
    none = expectation.of_chest(tell_ml([""])[0]).mean[CT]
    assert (none == expectation.of_chest().mean[CT]).all()
    assert float(halfway[right_back].mean()) == pytest.approx(
        float((much + none)[right_back].mean()) / 2, abs=0.02
    )


def test_a_reader_finds_a_linear_rule_and_centres_it():
    texts = drawn(400, 6)
    numbers = torch.stack((2 * texts[:, 0] - texts[:, 3] + 5, texts[:, 1]), dim=1)
    numbers[::7, 1] = float("nan")
    reader = fit_reader(texts, numbers)
    found = texts @ reader[:, :-1].T + reader[:, -1]
    torch.testing.assert_close(found[:, 0], numbers[:, 0] - numbers[:, 0].mean(), atol=0.3, rtol=0)
    assert abs(float(found.mean())) < 1e-4


def test_effects_are_found_where_chests_are_known():
    read, effects = drawn(300, 2), drawn(2, 4, 2, 2, 2)
    images = torch.einsum("mk,kczyx->mczyx", read, effects).repeat_interleave(2, 2)
    images = images.repeat_interleave(2, 3).repeat_interleave(2, 4)
    known = torch.ones(300, 4, 4, 4)
    known[:, :2, :2, :2] = 0
    images[:, :, :2, :2, :2] = 99.0
    found = fit_effects(read, images, known)
    assert (found[..., 0, 0, 0] == 0).all()
    torch.testing.assert_close(found[..., 1, 1, 1], effects[..., 1, 1, 1], atol=0.05, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_networks_that_say_nothing_make_what_a_text_expects(strength: float):
    expectation = replace(
        Expectation.none(32, 16), atlas=0.2 * drawn(4, 32, 32, 32), effects=0.2 * drawn(5, 4, 16, 16, 16)
    )
    model = silent_model(expectation)
    tokens = model.encoder.encode(["large effusion"])
    reader = 0.1 * drawn(5, 17)
    model.network.reader.copy_(reader)
    request = MedSynRequest(steps=3, fine_steps=1, size=64, strength=strength)
    (made,) = generate(request, model, Inputs(text="large effusion"))
    expected = replace(expectation, reader=reader).of_chest(tokens[0], strength).mean
    wanted = stored(WINDOW.from_unit(enlarge_smoothly(expected, 2)[CT].numpy()))
    inner = slice(4, -4)
    assert np.median(np.abs(made.ct.array - wanted)[inner, inner, inner]) < 1


def replace_rng(batches: MedSynBatches) -> MedSynBatches:
    """The same data, drawn from by another generator."""
    rng = np.random.default_rng(99)
    return MedSynBatches(batches.packed, batches.recipe, rng, batches.describe, batches.encode)


def test_what_is_expected_is_stored_with_the_weights():
    expectation = replace(Expectation.none(32, 16), atlas=drawn(4, 32, 32, 32), fine=torch.full((4,), 0.3))
    given = MedSynUNets(replace(LOW, shown=5), FINE, None, expectation)
    other = MedSynUNets(replace(LOW, shown=5), FINE, None, Expectation.none(32, 16))
    other.load_state_dict(given.state_dict())
    assert other.expectation is not None
    assert (other.expectation.atlas == expectation.atlas).all()
    assert (other.expectation.fine == 0.3).all()
    assert MedSynUNets(LOW, FINE, None).expectation is None
