"""Is what a specification asks for there, and would the models take it? Looked at before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from lesionbrush.cohorts.draws import Draw, Scalar
from lesionbrush.cohorts.specification import ANY_TISSUE, CohortSpecification, FindingRule, ModelRule
from lesionbrush.cohorts.tables import read_table
from lesionbrush.core.model import EditHooks
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.systems import find_system, parse_request
from lesionbrush.transfer.names import OrganName

NOT_FOR_MODELS = ("seed", "variants", "output", "label", "attributes", "system")
HEALTHY = {"lesion": "none"}
_MOST_COMBINATIONS = 400


def check_specification(specification: CohortSpecification) -> None:
    """InvalidRequest names all that is wrong, each with its path in the file."""
    wrong = [*_of_models(specification)]
    if not wrong:
        for number, rule in enumerate(specification.findings):
            wrong += _of_finding(specification, rule, f"findings.{number}")
            for axis, strata in rule.balance.items():
                for part, stratum in enumerate(strata):
                    where = f"findings.{number}.balance.{axis}.{part}.lesions"
                    wrong += _of_finding(specification, rule.with_parts([stratum]), where)
    if wrong:
        raise InvalidRequest("; ".join(dict.fromkeys(wrong)))


def model_for(specification: CohortSpecification, organ: str) -> ModelRule | None:
    """The one for this organ: by its whole name first, then by a word of it, then `any`."""
    own = OrganName.of(organ)
    names = {OrganName.of(key): rule for key, rule in specification.models.items() if key != ANY_TISSUE}
    words = {name.organ: rule for name, rule in names.items() if name.side is None}
    found = names.get(own) or words.get(own.organ)
    by_word = (rule for name, rule in words.items() if len(name) == 1 and name[0] in own.organ)
    return found or next(by_word, None) or specification.models.get(ANY_TISSUE)


def _of_models(specification: CohortSpecification) -> Iterator[str]:
    for key, rule in specification.models.items():
        where = f"models.{key}"
        try:
            installed = find_model(rule.name)
        except LesionBrushError as error:
            yield f"{where}.name: {error}"
            continue
        yield from _of_model(installed, rule, where, specification)


def _of_model(
    installed: InstalledModel, rule: ModelRule, where: str, specification: CohortSpecification
) -> Iterator[str]:
    system = find_system(installed.card.system)
    if not isinstance(system.hooks, EditHooks):
        yield f"{where}.name: {rule.name} makes whole new CTs and edits none: name one that edits"
        return
    needed = [one.name for one in system.inputs if one.required]
    if needed:
        yield f"{where}.name: {rule.name} needs {', '.join(needed)}, which a cohort has not: name another one"
        return
    forbidden = [name for name in rule.parameters if name in NOT_FOR_MODELS]
    if forbidden:
        yield (
            f"{where}.parameters.{forbidden[0]}: the cohort sets it, and attributes are of findings: leave "
            "it out"
        )
        return
    yield from _refusals(
        {f"{where}.parameters.{k}": draw for k, draw in rule.parameters.items()}, system.name
    )
    heals = {
        "healthy_twins": ("untouched, or none", specification.healthy_twins == "healed"),
        "removals": ("false", specification.removals),
    }
    for field, (instead, wanted) in heals.items():
        if wanted:
            try:
                parse_request({"attributes": HEALTHY}, system.name)
            except InvalidRequest as error:
                yield f"{field}: {rule.name} makes no healthy tissue ({error}): write {instead}"


def _of_finding(specification: CohortSpecification, rule: FindingRule, where: str) -> Iterator[str]:
    if rule.transfer is not None:
        if not rule.transfer.cases.exists():
            name = rule.transfer.cases.name
            yield f"{where}.transfer.cases: there is no {name!r}: write where the masks are"
        organs = [] if rule.transfer.into is None else [rule.transfer.into]
        yield from _of_attributes(specification, rule, organs, where)
        return
    if rule.mask is not None:
        if "{name}" not in rule.mask.name and not rule.mask.is_file():
            yield f"{where}.mask: there is no {rule.mask.name!r}: write where the mask is"
        organs = [ANY_TISSUE] if ANY_TISSUE in specification.models else []
        yield from _of_attributes(specification, rule, organs, where)
        return
    if rule.table is None:
        yield from _of_attributes(specification, rule, _organs_of(rule), where)
        return
    try:
        rows = read_table(rule.table, rule)
    except LesionBrushError as error:
        yield f"{where}.table: {error}"
        return
    for row in rows:
        there = f"{where}.table: {rule.table.name} line {row.line}"
        yield from _of_attributes(specification, row.rule, _organs_of(row.rule), there)


def _organs_of(rule: FindingRule) -> list[str]:
    return [str(name) for name in rule.place.inside.extremes]


def _of_attributes(
    specification: CohortSpecification, rule: FindingRule, organs: list[str], where: str
) -> Iterator[str]:
    models: dict[str, ModelRule] = {}
    for organ in organs:
        model = model_for(specification, organ)
        if model is None:
            yield f"{where}.place.inside: no model is named for {organ!r}: write one into models"
        else:
            models[model.name] = model
    for name in models:
        draws = {f"{where}.attributes.{key}": draw for key, draw in rule.attributes.items()}
        system = find_model(name).card.system
        yield from (f"{said} (for {name})" for said in _refusals(draws, system, "attributes"))


def _refusals(draws: Mapping[str, Draw], system: str, group: str | None = None) -> Iterator[str]:
    """A sentence for each value that no combination with the other values is taken with."""
    open_values: dict[tuple[str, Scalar], str] = {}
    taken: set[tuple[str, Scalar]] = set()
    combinations = product(*(draw.extremes for draw in draws.values()))
    for values in islice(combinations, _MOST_COMBINATIONS):
        pairs = list(zip(draws, values, strict=True))
        try:
            parse_request(_request_values(dict(pairs), group), system)
            taken.update(pairs)
        except InvalidRequest as error:
            open_values.update((pair, str(error)) for pair in pairs)
    refused = {pair: said for pair, said in open_values.items() if pair not in taken}
    blamed = {pair: said for pair, said in refused.items() if _names_field(said, pair[0].rsplit(".", 1)[-1])}
    for (path, value), said in (blamed or refused).items():
        yield f"{path}: {value!r} is not taken: {said}"


def _names_field(said: str, field: str) -> bool:
    """Is it what a sentence says is wrong, and not only one of those that it lists?"""
    return re.search(rf"\b{re.escape(field)}:", said) is not None


def _request_values(by_path: Mapping[str, Scalar], group: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {path.rsplit(".", 1)[-1]: value for path, value in by_path.items()}
    return values if group is None else {group: values}
