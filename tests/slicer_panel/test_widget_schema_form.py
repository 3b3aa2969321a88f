"""The form made from a server's schema, without Qt."""

from __future__ import annotations

from typing import Any

import pytest
from lesionbrush.systems import parse_request
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from LesionBrushLib.panel.schema_form import CHOICE, NUMBER, SLIDER, SWITCH, TEXT, WHOLE, Form, choice_words

SCHEMA = SynthesisRequest.model_json_schema()
HIDDEN = (("label",), ("output",))


@pytest.fixture
def form() -> Form:
    return Form(SCHEMA, HIDDEN)


def one(part: dict[str, Any], name: str = "size_mm") -> Any:
    return Form({"properties": {name: part}}).fields[0]


def test_the_projects_own_schema_has_a_control_for_everything(form: Form) -> None:
    assert form.left_out == []
    kinds = {field.name: field.kind for field in form}
    assert kinds["attributes.texture"] == CHOICE
    assert kinds["attributes.margin"] == kinds["attributes.mean_hu"] == kinds["margin_mm"] == SLIDER
    assert kinds["seed"] == kinds["variants"] == WHOLE
    assert "label" not in kinds
    assert "output" not in kinds


def test_ranges_units_and_hints_come_from_the_server(form: Form) -> None:
    field = form.field("attributes", "mean_hu")
    assert (field.minimum, field.maximum, field.unit, field.label) == (-950, 1000, "HU", "Mean")
    assert field.hint == "mean HU in the mask"
    assert field.optional
    assert field.default is None
    assert form.field("attributes", "texture").choices == ("ground_glass", "part_solid", "solid")
    assert form.field("seed").maximum == 2**31 - 1
    assert form.field("nothing", "like", "it") is None


def test_what_the_form_makes_is_what_the_server_takes(form: Form) -> None:
    assert parse_request(form.params(form.defaults())) == SynthesisRequest()
    values = {
        **form.defaults(),
        ("attributes", "texture"): None,
        ("attributes", "mean_hu"): -300.0,
        ("seed",): 7,
    }
    request = parse_request(form.params(values))
    assert (request.attributes.texture, request.attributes.mean_hu, request.seed) == (None, -300.0, 7)
    assert form.values(request.model_dump(mode="json")) == values


class TestDecided:
    """Steps go by the quality, once one is chosen."""

    @pytest.mark.parametrize("quality", ["fast", "standard", "fine"])
    def test_the_server_takes_a_quality_whatever_the_steps_said(self, form: Form, quality: str) -> None:
        values = {**form.defaults(), ("quality",): quality, ("steps",): 20}
        assert {path: by.name for path, by in form.decided(values).items()} == {("steps",): "quality"}
        assert "steps" not in form.params(values)
        assert parse_request(form.params(values)).quality == quality

    def test_steps_that_are_not_sent_are_no_problem(self, form: Form) -> None:
        values = {**form.defaults(), ("steps",): 0}
        assert form.problems(values) == ["Steps: 0 is outside 1 to 1000"]
        assert form.problems({**values, ("quality",): "fine"}) == []

    def test_nothing_is_decided_while_the_quality_is_open(self, form: Form) -> None:
        assert form.decided(form.defaults()) == {}
        assert form.params({**form.defaults(), ("steps",): 20})["steps"] == 20

    @pytest.mark.parametrize(
        "properties",
        [
            {"steps": {"type": "integer"}},
            {"quality": {"anyOf": [{"enum": ["fast"]}, {"type": "null"}]}},
            {"quality": {"enum": ["fast"], "default": "fast"}, "steps": {"type": "integer"}},
        ],
    )
    def test_where_one_of_them_lacks_or_is_never_open_both_stand(self, properties: dict[str, Any]) -> None:
        form = Form({"properties": properties})
        values = {**form.defaults(), ("quality",): "fast"}
        assert form.decided(values) == {}
        assert set(form.params(values)) == set(properties)


def test_every_field_accepts_its_own_start(form: Form) -> None:
    for field in form:
        assert field.problem(field.start) is None, field
        assert field.step > 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("attributes", "texture"), "wool", "'wool' is none of ground_glass, part_solid, solid"),
        (("attributes", "margin"), 1.5, "1.5 is outside 0 to 1"),
        (("attributes", "mean_hu"), "dense", "'dense' is no number"),
        (("seed",), 1.5, "1.5 is no whole number"),
        (("seed",), -1, "-1 is outside 0 to"),
        (("steps",), None, "Steps: choose a value"),
        (("variants",), True, "True is no whole number"),
    ],
)
def test_a_wrong_value_is_named(form: Form, path: tuple[str, ...], value: Any, words: str) -> None:
    (problem,) = form.problems({**form.defaults(), path: value})
    assert words in problem


def test_a_wrong_saved_value_reads_as_the_default(form: Form) -> None:
    values = form.values({"seed": "seven", "attributes": {"texture": "wool", "margin": 0.25}, "steps": 20})
    assert values[("seed",)] == 0
    assert values[("attributes", "texture")] == "solid"
    assert values[("attributes", "margin")] == 0.25
    assert values[("steps",)] == 20
    assert form.values({"attributes": "nonsense"}) == form.defaults()


def test_another_model_needs_no_other_client() -> None:
    schema = {
        "$defs": {
            "Look": {"properties": {"stage": {"enum": ["i", "ii"], "type": "string", "default": "ii"}}},
            "Depth": {"type": "number", "minimum": 0, "maximum": 4},
        },
        "properties": {
            "look": {"allOf": [{"$ref": "#/$defs/Look"}]},
            "depth_mm": {"anyOf": [{"$ref": "#/$defs/Depth"}, {"type": "null"}], "default": None},
            "calm": {"type": ["boolean", "null"], "default": None},
            "note": {"type": "string", "default": "", "title": "Remark for the report"},
            "weight": {"type": "number", "exclusiveMinimum": 0, "default": 2},
            "points": {"type": "array", "items": {"type": "number"}, "default": []},
            "anything": {},
        },
    }
    form = Form(schema)
    kinds = {field.name: field.kind for field in form}
    assert kinds == {"look.stage": CHOICE, "depth_mm": SLIDER, "calm": SWITCH, "note": TEXT, "weight": NUMBER}
    assert form.left_out == ["points", "anything"]
    assert form.defaults()["look", "stage"] == "ii"
    assert form.field("depth_mm").start == 2
    assert form.field("calm").optional
    assert form.field("note").label == "Remark for the report"
    assert form.field("weight").problem(0) is not None
    assert form.field("weight").problem(0.5) is None


def test_a_required_field_without_a_default_waits_for_the_user() -> None:
    form = Form({"required": ["organ"], "properties": {"organ": {"enum": ["lung", "liver"]}}})
    assert form.problems(form.defaults()) == ["Organ: choose a value"]


def test_a_field_without_a_default_that_may_be_left_out_starts_somewhere() -> None:
    field = one({"type": "integer", "minimum": 2, "maximum": 6})
    assert (field.default, field.unit, field.problem(field.default)) == (4, "mm", None)
    assert one({"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 4}).start == 3
    assert one({"const": "v1"}).choices == ("v1",)


def test_a_schema_that_refers_to_itself_ends() -> None:
    endless = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "properties": {"a": {"$ref": "#/$defs/A"}}}
    assert Form(endless).left_out == ["a"]
    nested: dict[str, Any] = {"properties": {}}
    nested["properties"]["self"] = nested
    assert Form(nested).fields == ()


def test_choices_read_as_words() -> None:
    assert choice_words("ground_glass") == "ground glass"
