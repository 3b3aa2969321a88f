"""Lesions on the fly as a transform of TorchIO, which is not installed with LesionBrush."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lesionbrush.augment.lesions import LesionRecipe
from lesionbrush.augment.tensors import SEEDS, labelled, lesions_in, no_lesion, require_chance
from lesionbrush.errors import InvalidRequest

try:
    from torchio import LabelMap
    from torchio.transforms.augmentation import RandomTransform
except ImportError as error:
    raise ImportError(
        "lesionbrush.torchio needs TorchIO, which is not installed: run pip install torchio, or take the "
        "transforms of lesionbrush.monai"
    ) from error


class RandomLesion(RandomTransform):
    """With a chance of `p`, lesions into the one CT of a subject, and their mask as a label map.

    image, label, organs, drawn: names in the subject; the label map gets `value` in the lesions, and is made
    where it is missing. recipe and the rest: see `lesionbrush.monai.RandLesion`. Random numbers are torch's.
    """

    def __init__(  # noqa: PLR0913, keyword options as TorchIO's transforms have them
        self,
        model: str,
        findings: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        p: float = 0.1,
        *,
        image: str = "ct",
        label: str = "label",
        value: int = 1,
        organs: str | None = None,
        drawn: str | None = None,
        allow_no_place: bool = False,
        **recipe: Any,
    ) -> None:
        super().__init__(p=1)  # a subject that gets no lesion gets its label map all the same
        self.chance, self.image, self.label, self.value = require_chance(p), image, label, value
        self.organs, self.drawn, self.allow_no_place = organs, drawn, allow_no_place
        self.recipe = LesionRecipe.of(model, findings, **recipe)

    def apply_transform(self, subject: Any) -> Any:
        """Raises as `lesions_in`, and InvalidRequest for a name that the subject has not."""
        ct = self._find(subject, self.image)
        seed = int(torch.randint(SEEDS, (1,)))
        mask = no_lesion(ct.data)
        if torch.rand(1).item() < self.chance:
            organs, drawn = (
                None if name is None else self._find(subject, name).data for name in (self.organs, self.drawn)
            )
            # TorchIO makes numpy raise where it would warn.
            with np.errstate(divide="warn", over="warn", invalid="warn"):
                made, mask = lesions_in(
                    ct.data, ct.affine, self.recipe, seed, organs, drawn, self.allow_no_place
                )
            ct.set_data(made)
        self._write(subject, mask, ct.affine)
        return subject

    def _find(self, subject: Any, name: str) -> Any:
        if name not in subject:
            raise InvalidRequest(f"the subject has no {name!r}; it has {', '.join(map(str, subject))}")
        return subject[name]

    def _write(self, subject: Any, mask: torch.Tensor, affine: Any) -> None:
        known = subject.get(self.label)
        label = labelled(None if known is None else known.data, mask, self.value)
        if known is None:
            subject.add_image(LabelMap(tensor=label, affine=affine), self.label)
        else:
            known.set_data(label)
