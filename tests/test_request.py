"""What may be asked for, and how everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.attributes import (
    ATTRIBUTES,
    Measured,
    as_input,
    from_readers,
    healthy,
)
from lesionbrush.systems.lesion_inpainting.request import STEPS, Attributes, SynthesisRequest

RANGES = {
    "seed": (0, 2**31 - 1),
    "variants": (1, 16),
    "steps": (1, 1000),
    "margin_mm": (0, 20),
    "guidance_strength": (0, 10),
}
ATTRIBUTE_RANGES = {
    "margin": (0, 1),
    "spiculation": (0, 1),
    "lobulation": (0, 1),
    "solid_share": (0.05, 0.9),
    "mean_hu": (-950, 1000),
    "heterogeneity_hu": (0, 500),
}


def refusal(values: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(values)
    return str(caught.value)


def test_nothing_is_a_request_too() -> None:
    request = parse_request({})
    assert request == SynthesisRequest()
    assert (request.seed, request.variants, request.margin_mm, request.output) == (0, 1, 3.0, "volume")
    assert parse_request("{}") == request


@pytest.mark.parametrize("name", RANGES)
def test_both_ends_of_a_range_are_allowed(name: str) -> None:
    for end in RANGES[name]:
        assert getattr(parse_request({name: end}), name) == end


@pytest.mark.parametrize("name", RANGES)
def test_beyond_a_range_is_refused_with_name_and_value(name: str) -> None:
    low, high = RANGES[name]
    for wrong in (low - 1, high + 1):
        text = refusal({name: wrong})
        assert name in text
        assert f"got {wrong}" in text


@pytest.mark.parametrize("name", ATTRIBUTE_RANGES)
def test_the_ranges_of_attributes(name: str) -> None:
    low, high = ATTRIBUTE_RANGES[name]
    for end in (low, high):
        asked = {"texture": "part_solid", name: end}
        assert getattr(parse_request({"attributes": asked}).attributes, name) == end
    for wrong in (low - 1, high + 1):
        text = refusal({"attributes": {name: wrong}})
        assert f"attributes.{name}" in text
        assert f"got {wrong}" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "first"),
        ("seed", 1.5),
        ("seed", None),
        ("steps", [12]),
        ("variants", {}),
        ("margin_mm", "wide"),
        ("margin_mm", float("nan")),
        ("guidance_strength", float("inf")),
        ("sampler", "euler_flow"),
        ("output", "image"),
        ("label", 0),
        ("attributes", "solid"),
    ],
)
def test_a_wrong_type_or_choice_is_refused_with_name_and_value(name: str, value: Any) -> None:
    text = refusal({name: value})
    assert name in text
    assert f"got {value!r}" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("texture", "cotton"), ("lesion", "maybe"), ("calcification", "rather"), ("mean_hu", "dense")],
)
def test_a_wrong_attribute_is_refused_with_name_and_value(name: str, value: Any) -> None:
    text = refusal({"attributes": {name: value}})
    assert f"attributes.{name}" in text
    assert repr(value) in text


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_listed() -> None:
    text = refusal({"sed": 3})
    assert "sed" in text
    assert "3" in text
    assert all(name in text for name in SynthesisRequest.model_json_schema()["properties"])


def test_an_unknown_attribute_is_refused_and_the_known_ones_are_listed() -> None:
    text = refusal({"attributes": {"colour": "red"}})
    assert "attributes.colour" in text
    assert all(name in text for name in Attributes.model_fields)
    assert "guidance_strength" not in text


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = refusal({"seed": -1, "steps": 0, "what": True})
    assert all(name in text for name in ("seed", "steps", "what"))


@pytest.mark.parametrize(
    "text", ["", "seed=3", "{'seed': 3}", '{"seed": 3', "[" * 100_000, '{"seed":' + "1" * 5000 + "}"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    assert "not JSON" in refusal(text)


@pytest.mark.parametrize("text", ["[1, 2]", "null", "3", '"seed"'])
def test_json_of_another_kind_is_refused(text: str) -> None:
    assert refusal(text).startswith("parameters: ")


def test_a_request_survives_json() -> None:
    request = parse_request({"seed": 5, "attributes": {"texture": "part_solid", "mean_hu": -300}})
    assert parse_request(request.model_dump_json()) == request
    assert parse_request(json.loads(request.model_dump_json())) == request


def test_a_request_is_not_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SynthesisRequest().seed = 3


def test_the_schema_tells_clients_ranges_choices_and_that_there_is_nothing_else() -> None:
    schema = SynthesisRequest.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(SynthesisRequest.model_fields) - {"system"}  # the program's own
    for name, (low, high) in RANGES.items():
        found = schema["properties"][name]
        found = found.get("anyOf", [found])[0]
        top = found["exclusiveMaximum"] - 1 if "exclusiveMaximum" in found else found["maximum"]
        assert (found["minimum"], top) == (low, high)
    choices, none = schema["properties"]["sampler"]["anyOf"]
    assert choices["enum"] == ["ddim", "ddpm", "dpm_solver_pp_2m"]
    assert none == {"type": "null"}
    attributes = schema["$defs"]["Attributes"]
    assert attributes["additionalProperties"] is False
    users_words = {"calcification", "solid_share"} | set(ATTRIBUTES) - {
        "calcified",
        "border_roughness",
        "concavity",
    }
    assert set(attributes["properties"]) == users_words


def test_attributes_become_numbers_in_the_order_of_the_table() -> None:
    open_ = Attributes(texture=None, calcification=None).vector()
    assert open_[0] == 1
    assert np.isnan(open_[1:]).all()
    chosen = Attributes(
        texture="part_solid", margin=0.2, spiculation=0.3, lobulation=0.4, mean_hu=-300,
        heterogeneity_hu=100,
    )  # fmt: skip
    np.testing.assert_allclose(chosen.vector(), [1, 0.5, 0.2, 0.3, 0.4, 0, -0.3, 0.2, 0.8, 0.3], atol=1e-6)
    assert (
        Attributes(calcification="solid").vector()[5] == Attributes(calcification="popcorn").vector()[5] == 1
    )


def test_calcium_decides_how_much_hu_differ() -> None:
    for kind in ("none", None):
        assert Attributes(calcification=kind, heterogeneity_hu=100).heterogeneity_hu == 100
    with pytest.raises(InvalidRequest, match=r"heterogeneity_hu 100 .* popcorn"):
        parse_request({"attributes": {"calcification": "popcorn", "heterogeneity_hu": 100}})


def test_a_model_gets_the_attributes_of_its_card() -> None:
    wish = Attributes(margin=0.25, spiculation=0.75)
    assert wish.vector(("spiculation", "lesion", "border_roughness")).tolist() == [0.75, 1, 0.75]
    with pytest.raises(KeyError, match="colour"):
        wish.vector(("lesion", "colour"))


def test_attributes_count_as_trained_unless_told_otherwise() -> None:
    assert parse_request({"attributes": {"texture": "ground_glass"}}).guidance == 1
    assert parse_request({"guidance_strength": None}).guidance == 1
    assert parse_request({"guidance_strength": 0.5}).guidance == 0.5


def test_a_nodule_is_solid_unless_it_is_said_otherwise() -> None:
    assert Attributes().vector()[1] == Attributes(texture="solid").vector()[1] == 1
    assert Attributes(texture="ground_glass").vector()[1] == 0


def test_healthy_tissue_has_no_attributes_of_a_lesion() -> None:
    assert np.array_equal(Attributes(lesion="none", mean_hu=40).vector(), healthy(), equal_nan=True)


def test_what_is_open_goes_in_as_zero_and_is_marked() -> None:
    values = as_input(np.array([[1, np.nan, 0.0], [np.nan, -0.5, np.nan]], np.float32))
    assert values.tolist() == [[1, 0, 0, 1, 0, 1], [0, -0.5, 0, 0, 1, 0]]
    count = len(ATTRIBUTES)
    assert as_input(healthy()).tolist() == [0] * count + [1] + [0] * (count - 1)


def test_readers_scores_become_the_same_numbers() -> None:
    row = dict.fromkeys(("Texture_value", "Margin_value", "Spiculation_value", "Lobulation_value"), "2")
    found = from_readers({**row, "Calcification_value": "6"}, Measured(100, 200, 0.3))
    np.testing.assert_allclose(found, [1, 0.25, 0.25, 0.25, 0.25, 0, 0.1, 0.4, 0.3, np.nan], atol=1e-6)
    calcified = from_readers({"Calcification_value": "3", "Margin_value": ""}, Measured(0, 0))
    assert calcified[5] == 1
    assert np.isnan(calcified[1:5]).all()


def test_the_sampler_left_open_is_the_one_that_suits_the_task() -> None:
    assert SynthesisRequest().sampler_used == "dpm_solver_pp_2m"
    assert parse_request({"attributes": {"lesion": "none"}}).sampler_used == "ddpm"
    assert parse_request({"attributes": {"lesion": "none"}, "sampler": "ddim"}).sampler_used == "ddim"


class TestQuality:
    """A number of steps by name."""

    @pytest.mark.parametrize(("quality", "steps"), STEPS.items())
    def test_it_sets_the_steps(self, quality: str, steps: int) -> None:
        asked = parse_request({"quality": quality})
        assert asked.steps == steps
        assert parse_request(asked.model_dump(mode="json")) == asked

    def test_a_form_sends_the_default_along(self) -> None:
        assert parse_request({"quality": "fast", "steps": 8}).steps == STEPS["fast"]

    def test_steps_say_it_where_no_quality_is_named(self) -> None:
        assert parse_request({"steps": 5}).steps == 5
        assert parse_request({}).steps == STEPS["standard"]

    def test_two_that_disagree_are_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="quality fast is 3 steps, not 20: leave one of them out"):
            parse_request({"quality": "fast", "steps": 20})

    def test_a_quality_that_is_none_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match=r"quality.*\(got 'best'\)"):
            parse_request({"quality": "best"})
