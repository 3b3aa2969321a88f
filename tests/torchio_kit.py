"""As much of TorchIO as a transform of ours touches, for where it is not installed: it is no dependency."""

from __future__ import annotations

import copy
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch


class ScalarImage:
    """data: (C, I, J, K)."""

    def __init__(self, tensor: torch.Tensor, affine: np.ndarray) -> None:
        self.data, self.affine = tensor, affine

    def set_data(self, tensor: torch.Tensor) -> None:
        self.data = tensor


class LabelMap(ScalarImage):
    """The same for labels."""


class Subject(dict):
    """Images by name."""

    def add_image(self, image: ScalarImage, name: str) -> None:
        self[name] = image


class RandomTransform:
    """Copies a subject, then does its work with a chance of `p`, while numpy raises what it would warn of."""

    def __init__(self, p: float = 1) -> None:
        self.probability = p

    def __call__(self, subject: Subject) -> Subject:
        if torch.rand(1).item() > self.probability:
            return subject
        with np.errstate(all="raise", under="ignore"):
            return self.apply_transform(copy.deepcopy(subject))

    def apply_transform(self, subject: Any) -> Any:
        raise NotImplementedError


def stand_in(patched: pytest.MonkeyPatch) -> None:
    """For TorchIO, unless it is there."""
    patched.delitem(sys.modules, "lesionbrush.torchio", raising=False)
    if find_spec("torchio") is not None:
        return
    names = ("torchio", "torchio.transforms", "torchio.transforms.augmentation")
    for name in names:
        patched.setitem(sys.modules, name, ModuleType(name))
    known = sys.modules["torchio"]
    vars(known).update(ScalarImage=ScalarImage, LabelMap=LabelMap, Subject=Subject)
    vars(sys.modules[names[-1]]).update(RandomTransform=RandomTransform)
