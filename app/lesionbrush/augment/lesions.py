"""A lesion into an array, with its mask: what it is like is drawn as for a cohort, by the same rules.

Arrays are (I, J, K); affines are 4x4, voxel index -> RAS mm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lesionbrush.anatomy.lungs import find_lungs
from lesionbrush.cohorts.casting import PlannedCase
from lesionbrush.cohorts.checking import check_specification
from lesionbrush.cohorts.draws import Draw
from lesionbrush.cohorts.findings import NotPlaced
from lesionbrush.cohorts.hosts import LUNGS, CohortHost
from lesionbrush.cohorts.making import CaseMaker, ModelRack
from lesionbrush.cohorts.reading import parse_specification
from lesionbrush.cohorts.references import CohortReference
from lesionbrush.cohorts.specification import CohortSpecification, FindingRule
from lesionbrush.core.inputs import Layout
from lesionbrush.core.registry import models_dir
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import EmptyMask, GeometryMismatch, NoLungs, NotACT
from lesionbrush.transfer.hosts import HostPatient

LEAST_SPREAD_HU = 50.0
"""Between the lowest and the highest value of any CT; what was scaled has less."""
NO_PLACE = (NotPlaced, EmptyMask, NoLungs)
_PLACE = "place"
_CASE = PlannedCase("lesion", "ct", "train")
_REFERENCE = CohortReference("ct", Path(), "", "")


@dataclass(frozen=True)
class LesionRecipe:
    """What lesions are like, and who makes them. organ_names: of the labels that come with a CT; None: all
    that is not 0 in them is one place; device: "cpu", "cuda", ...
    """

    specification: CohortSpecification
    organ_names: Mapping[int, str] | None = None
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        model: str,
        findings: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any] | None = None,
        organ_names: Mapping[int, str] | None = None,
        device: str = "cpu",
    ) -> LesionRecipe:
        """findings: one rule or several, as in a cohort's specification; parameters: of the model's request,
        such as quality. Raises InvalidRequest with the path of each value that is wrong.
        """
        rules = [findings] if isinstance(findings, Mapping) else list(findings)
        values = {
            "name": "training",
            "references": [{"folder": "."}],
            "cases": {"total": 1},
            "findings": rules,
            "models": {"any": {"name": model, "parameters": dict(parameters or {})}},
        }
        specification = parse_specification(values, Path(), "the lesions asked for")
        check_specification(specification)
        return cls(specification, organ_names, device)


def put_lesions(
    ct: Array,
    affine: Array,
    recipe: LesionRecipe,
    generator: np.random.Generator,
    organs: Array | None = None,
    drawn: Array | None = None,
) -> tuple[Array, Array]:
    """A copy of the CT with lesions in it, and uint8, 1, 2, ... in them.

    Outside the edit regions (the lesion, its margin, and what spicules reach) every voxel is bit by bit the
    one that came. ct: (I, J, K) HU of any type, fractions too. Where a lesion goes: `drawn`, not 0 in it, is
    its body, of which attributes alone are drawn; else it is drawn into `organs`, labels with the recipe's
    names; else both lungs are found, which takes a second or more.

    Raises NO_PLACE (nothing fits, an empty mask, no lungs), NotACT (no HU), DamagedFile (NaN),
    GeometryMismatch, InvalidRequest, WeightsError.
    """
    before = _as_ct(ct, affine)
    for what, array in (("organs", organs), ("drawn lesion", drawn)):
        if array is not None and array.shape != ct.shape:
            raise GeometryMismatch(
                f"the {what} are {array.shape} voxels, the CT is {ct.shape}: bring them onto one grid"
            )
    specification, names = recipe.specification, recipe.organ_names
    if organs is not None and names is None:
        specification, names, organs = _into_one_place(specification), {1: _PLACE}, organs != 0
    specification = specification.model_copy(update={"seed": int(generator.integers(2**31))})
    host = CohortHost(_REFERENCE, before, None, _patient(before, organs, names, drawn))
    maker = CaseMaker(specification, "", _rack(models_dir(), recipe.device, os.getpid()))
    made, labels = maker.put_lesions(_CASE, host, drawn)
    changed = made.array != before.array
    after = ct.copy()
    after[changed] = made.array[changed]
    return after, labels


def _as_ct(ct: Array, affine: Array) -> Volume:
    """Whole HU; fractions, as resampling leaves them, are rounded for the model alone."""
    if ct.ndim == 3 and ct.size and ct.dtype.kind == "f":
        low, high = float(ct.min()), float(ct.max())
        if high - low < LEAST_SPREAD_HU:  # False for NaN, which require_ct refuses
            raise NotACT(
                f"the values reach from {low:g} to {high:g}, so they are no HU: make lesions before "
                "intensities are scaled or normalised"
            )
        ct = np.rint(ct)
    return require_ct(Volume(ct, np.asarray(affine, np.float64)))


def _patient(
    ct: Volume, organs: Array | None, names: Mapping[int, str] | None, drawn: Array | None
) -> HostPatient:
    if drawn is not None:
        return HostPatient.of(Layout(ct.with_array(np.zeros(ct.shape, np.uint8)), {}))
    if organs is None:
        return HostPatient.of(Layout(find_lungs(ct).labels, LUNGS))
    return HostPatient.of(Layout(ct.with_array(organs.astype(np.int32)), names or {}))


def _into_one_place(specification: CohortSpecification) -> CohortSpecification:
    rules = tuple(_anywhere(rule) for rule in specification.findings)
    return specification.model_copy(update={"findings": rules})


def _anywhere(rule: FindingRule) -> FindingRule:
    """Whatever organ it names: there is one place without a name."""
    place = {"inside": Draw(value=_PLACE), "side": Draw(value="any")}
    changes: dict[str, Any] = {"place": rule.place.model_copy(update=place)}
    if rule.transfer is not None:
        changes["transfer"] = rule.transfer.model_copy(update={"into": _PLACE})
    return rule.model_copy(update=changes)


@cache
def _rack(models: Path, device: str, process: int) -> ModelRack:
    """Of one process, which loads each model once. What a fork brings along has lost its threads."""
    del models, process  # another folder may have another model of the same name
    return ModelRack(device)
