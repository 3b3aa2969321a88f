"""Who FID and IS are measured by: a small network trained here to name organs, or one that the user has.

The papers take Inception v3 with the weights of ImageNet, which no package here brings. A TorchScript file of
it, or of any other network, takes the place of ours: see `ScriptedReader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.inpainting.crops import SliceCrop
from lesionbrush.evaluation.inpainting.results import ReaderFacts
from lesionbrush.montage import Window

SCRIPTED_SIDE = 299
AT_ONCE = 16
GREY_LEVELS = 255


@dataclass(frozen=True, eq=False)
class ReadCrops:
    """features: (N, D) float64; chances: (N, K), of each class, rows summing to 1."""

    features: np.ndarray
    chances: np.ndarray

    def repeated(self, times: int) -> ReadCrops:
        """All rows, one time after the other."""
        return ReadCrops(np.tile(self.features, (times, 1)), np.tile(self.chances, (times, 1)))


class CropReader(Protocol):
    """name: as it stands in the report; side: pixels of the crops it reads."""

    name: str
    side: int

    def read(self, crops: Sequence[SliceCrop]) -> ReadCrops: ...


class ScriptedReader:
    """A TorchScript module of the user's: (N, 3, 299, 299) float32 from 0 to 1 to (features, logits).

    features: (N, D); logits: (N, K), before any softmax. The three channels are alike: the crop in the
    organ's own window. What the network wants besides (a mean, a spread, a size) is for the module to do.
    It is a program that runs with the user's rights: only one's own files belong here.
    """

    side = SCRIPTED_SIDE

    def __init__(self, path: Path) -> None:
        """InvalidRequest for a file that is none, or that gives back something else."""
        self.name = path.name
        if not path.is_file():
            raise InvalidRequest(f"--reader {path.name}: there is no such file")
        try:
            self.module = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise InvalidRequest(
                f"--reader {path.name} is no TorchScript module: save one with torch.jit.script(module).save"
            ) from error
        said = self._ask(torch.zeros(2, 3, self.side, self.side))
        features, classes = (part.shape[1] for part in said)
        self.facts = ReaderFacts(name=self.name, features=features, classes=classes)

    def read(self, crops: Sequence[SliceCrop]) -> ReadCrops:
        grey = np.stack([_in_window(crop.hu, crop.window) for crop in crops])
        images = torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1)
        return _joined([self._ask(part) for part in images.split(AT_ONCE)])

    @torch.inference_mode()
    def _ask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        wanted = f"it is to map (N, 3, {self.side}, {self.side}) to (features (N, D), logits (N, K))"
        try:
            said = self.module(images)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise InvalidRequest(f"--reader {self.name} fails on such images ({last}): {wanted}") from error
        if not _is_pair(said, len(images)):
            raise InvalidRequest(f"--reader {self.name} gives back {_shapes(said)}: {wanted}")
        features, logits = said
        return features, logits


def _is_pair(said: object, count: int) -> bool:
    if not isinstance(said, tuple) or len(said) != 2:
        return False
    return all(isinstance(part, Tensor) and part.ndim == 2 and len(part) == count for part in said)


def _shapes(said: object) -> str:
    if isinstance(said, Tensor):
        return f"one tensor of {tuple(said.shape)}"
    if isinstance(said, (tuple, list)):
        return " and ".join(_shapes(part).removeprefix("one ") for part in said) or "nothing"
    return f"a {type(said).__name__}"


def _in_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """float32 from 0 to 1, in the grey levels of a picture."""
    return window.to_grey(hu).astype(np.float32) / GREY_LEVELS


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> ReadCrops:
    features, logits = (torch.cat(column).double() for column in zip(*parts, strict=True))
    return ReadCrops(features.numpy(), logits.softmax(dim=1).numpy())
