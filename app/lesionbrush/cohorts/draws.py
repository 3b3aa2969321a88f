"""A field of a specification that differs from case to case: a value, or how one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue

Scalar = bool | int | float | str | None
WAYS = ("value", "uniform", "normal", "choice")
_SIGMAS = 3.0


class Draw(BaseModel):
    """One way to come to a value. A plain value stands for itself.

    uniform: from, to; whole numbers where both ends are. normal: mean and standard deviation, held `within`
    two ends. choice: values of equal chances, or of `weights`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Scalar = None
    uniform: tuple[int | float, int | float] | None = None
    normal: tuple[float, float] | None = None
    within: tuple[float, float] | None = None
    choice: tuple[Scalar, ...] | None = None
    weights: tuple[float, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            raise ValueError("a list is no value: write {choice: [...]} or {uniform: [from, to]}")
        if not isinstance(given, Mapping):
            return {"value": given}
        ways = [name for name in WAYS if name in given]
        if len(ways) != 1:
            raise ValueError(f"write one of {', '.join(WAYS)}; it has {' and '.join(ways) or 'none of them'}")
        return given

    @model_validator(mode="after")
    def _makes_sense(self) -> Draw:
        for name in ("uniform", "within"):
            ends = getattr(self, name)
            if ends is not None and not ends[0] <= ends[1]:
                raise ValueError(f"{name} {ends[0]:g} to {ends[1]:g}: the first number is the smaller one")
        if self.normal is not None and self.normal[1] < 0:
            raise ValueError(f"normal: a standard deviation of {self.normal[1]:g} is below 0")
        if self.within is not None and self.normal is None:
            raise ValueError("within belongs to normal: leave it out")
        if self.choice is not None and not self.choice:
            raise ValueError("choice: give at least one value")
        self._check_weights()
        return self

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        count = 0 if self.choice is None else len(self.choice)
        if len(self.weights) != count:
            raise ValueError(f"{len(self.weights)} weights for {count} values of choice: give one each")
        if min(self.weights) < 0 or not sum(self.weights) > 0:
            raise ValueError("weights: give numbers of 0 or more, at least one of them above 0")

    @model_serializer
    def _as_written(self) -> Any:
        """As a person would write it."""
        said = {name: getattr(self, name) for name in ("uniform", "normal", "within", "choice", "weights")}
        return {name: one for name, one in said.items() if one is not None} or self.value

    def draw(self, generator: np.random.Generator) -> Scalar:
        if self.uniform is not None:
            low, high = self.uniform
            if isinstance(low, int) and isinstance(high, int):
                return int(generator.integers(low, high, endpoint=True))
            return float(generator.uniform(low, high))
        if self.normal is not None:
            return float(np.clip(generator.normal(*self.normal), *self._ends))
        if self.choice is not None:
            shares = None if self.weights is None else np.array(self.weights) / sum(self.weights)
            return self.choice[int(generator.choice(len(self.choice), p=shares))]
        return self.value

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """All that may come, or the ends of it."""
        if self.uniform is not None:
            return self.uniform
        if self.normal is not None:
            return self._ends
        return (self.value,) if self.choice is None else self.choice

    @property
    def _ends(self) -> tuple[float, float]:
        assert self.normal is not None
        mean, deviation = self.normal
        return self.within or (mean - _SIGMAS * deviation, mean + _SIGMAS * deviation)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        own = handler(core)
        plain: list[JsonSchemaValue] = [{"type": kind} for kind in ("number", "string", "boolean", "null")]
        return {"anyOf": [*plain, own]}


def generator_for(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that hang on the seed and on names alone."""
    digest = sha256("\n".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def seed_for(seed: int, *names: str) -> int:
    """0 to 2**31 - 1: of a request."""
    return int(generator_for(seed, *names).integers(2**31))
