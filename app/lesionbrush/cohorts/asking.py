"""What the model of an organ is asked for, of one lesion of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lesionbrush.cohorts.checking import model_for
from lesionbrush.cohorts.draws import Scalar, generator_for, seed_for
from lesionbrush.cohorts.specification import CohortSpecification, ModelRule
from lesionbrush.core.registry import find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems import parse_request


def ask(
    specification: CohortSpecification, lesion: tuple[str, int], organ: str, attributes: Mapping[str, Scalar]
) -> tuple[ModelRule, EditRequest]:
    """lesion: id of the case, and its number in it, from 0. Raises InvalidRequest, UnknownModel."""
    rule = model_for(specification, organ)
    if rule is None:
        raise InvalidRequest(f"no model is named for {organ!r}: write one into models")
    seed, names = specification.seed, (lesion[0], str(lesion[1]))
    values: dict[str, Any] = {
        name: draw.draw(generator_for(seed, *names, "parameters", name))
        for name, draw in rule.parameters.items()
    }
    values["seed"] = seed_for(seed, *names, "model")
    if attributes:
        values["attributes"] = dict(attributes)
    request = parse_request(values, find_model(rule.name).card.system)
    assert isinstance(request, EditRequest)
    return rule, request
