"""Lesions on the fly as transforms of MONAI: `RandLesion` for an image, `RandLesiond` for a dictionary."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from lesionbrush.augment.lesions import LesionRecipe
from lesionbrush.augment.tensors import SEEDS, labelled, lesions_in, no_lesion, require_chance
from lesionbrush.errors import InvalidRequest

Findings = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class RandLesion(RandomizableTransform):
    """With a chance of `prob`, lesions into a CT in HU, and their mask.

    model: its name; findings: one rule or several, as in a cohort's specification; parameters: of the
    model's request; organ_names: of the labels given as organs, None for one place; allow_no_place: a CT in
    which nothing fits stays as it is, else NotPlaced is raised; device: of the model, which each process
    loads once. All random numbers come from `self.R`. Raises InvalidRequest for what no CT could satisfy.
    """

    def __init__(  # noqa: PLR0913, keyword options as MONAI's transforms have them
        self,
        model: str,
        findings: Findings,
        prob: float = 0.1,
        *,
        parameters: Mapping[str, Any] | None = None,
        organ_names: Mapping[int, str] | None = None,
        allow_no_place: bool = False,
        device: str = "cpu",
    ) -> None:
        super().__init__(require_chance(prob))
        self.recipe = LesionRecipe.of(model, findings, parameters, organ_names, device)
        self.allow_no_place = allow_no_place
        self._seed = 0

    def randomize(self, data: Any = None) -> None:
        super().randomize(None)
        self._seed = int(self.R.randint(SEEDS, dtype=np.int64))

    def __call__(
        self, img: Tensor, organs: Tensor | None = None, drawn: Tensor | None = None, randomize: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The CT and the mask of its lesions, 0 where none is. All are (1, I, J, K).

        img: a MetaTensor in HU, whose affine leads to RAS mm; organs: where lesions may go; drawn: the body
        of the one lesion. Without both, lungs are found. Raises as `lesions_in`, and InvalidRequest.
        """
        if not isinstance(img, MetaTensor):
            raise InvalidRequest(
                f"the image is a {type(img).__name__}, which has no spacing: give a MetaTensor with its "
                "affine, as LoadImage makes them"
            )
        if randomize:
            self.randomize()
        if not self._do_transform:
            return img, MetaTensor(no_lesion(img), affine=img.affine)
        made, mask = lesions_in(
            img, img.affine.cpu(), self.recipe, self._seed, organs, drawn, self.allow_no_place
        )
        return made, MetaTensor(mask, affine=img.affine)


class RandLesiond(RandomizableTransform, MapTransform):
    """`RandLesion` for dictionaries. keys: of the one CT; label_key: where `label` is written into, which is
    made where it is missing; organs_key, drawn_key: where these are; options: see `RandLesion`.
    """

    def __init__(  # noqa: PLR0913, keyword options as MONAI's transforms have them
        self,
        keys: KeysCollection,
        model: str,
        findings: Findings,
        prob: float = 0.1,
        *,
        label_key: str = "label",
        label: int = 1,
        organs_key: str | None = None,
        drawn_key: str | None = None,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, require_chance(prob))
        if len(self.keys) != 1:
            raise InvalidRequest(f"keys {self.keys}: name one CT, since each would get lesions of its own")
        self.label_key, self.label = label_key, label
        self.organs_key, self.drawn_key = organs_key, drawn_key
        self.lesion = RandLesion(model, findings, prob, **options)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandLesiond:
        super().set_random_state(seed, state)
        self.lesion.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        self.lesion.randomize()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises as `RandLesion`, KeyError for a key that is missing."""
        made = dict(data)
        for key in self.key_iterator(made):
            organs, drawn = (
                None if name is None else made[name] for name in (self.organs_key, self.drawn_key)
            )
            made[key], mask = self.lesion(made[key], organs, drawn)
            made[self.label_key] = labelled(made.get(self.label_key), mask, self.label)
        return made
