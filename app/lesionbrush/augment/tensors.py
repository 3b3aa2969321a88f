"""The same for tensors of a training loop: one channel, and a lesion or none."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from lesionbrush.augment.lesions import NO_PLACE, LesionRecipe, put_lesions
from lesionbrush.core.volume import Array
from lesionbrush.errors import GeometryMismatch, InvalidRequest, LesionBrushError, NotACT

SEEDS = 2**31


def lesions_in(  # noqa: PLR0913, three of them only say where
    ct: Tensor,
    affine: Any,
    recipe: LesionRecipe,
    seed: int,
    organs: Tensor | None = None,
    drawn: Tensor | None = None,
    allow_no_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """The CT with lesions and their mask, (1, I, J, K), on the device of `ct`.

    The CT is `ct` itself, untouched, and the mask empty, where nothing fits and that is allowed. See
    `put_lesions`, also for what it raises.
    """
    hu = _array(ct, "CT")
    masks = [None if one is None else _array(one, "mask") for one in (organs, drawn)]
    try:
        made, mask = put_lesions(hu, np.asarray(affine), recipe, np.random.default_rng(seed), *masks)
    except NO_PLACE as error:
        if not allow_no_place:
            raise _advised(error) from error
        return ct, no_lesion(ct)
    after = ct.clone()
    after[0] = from_numpy(made).to(after.device)
    return after, from_numpy(mask)[None].to(ct.device)


def no_lesion(ct: Tensor) -> Tensor:
    """An empty mask for it."""
    return from_numpy(np.zeros(tuple(ct.shape), np.uint8)).to(ct.device)


def labelled(known: Tensor | None, mask: Tensor, value: int) -> Tensor:
    """A copy of a label map with `value` in a mask of its shape. Raises GeometryMismatch."""
    if known is None:
        return mask.clamp(max=1) * value
    if known.shape != mask.shape:
        raise GeometryMismatch(
            f"the label has the shape {tuple(known.shape)}, the CT {tuple(mask.shape)}: bring both onto one "
            "grid, and make lesions before labels become one-hot"
        )
    label = known.clone()
    label[mask > 0] = value
    return label


def require_chance(chance: float) -> float:
    """InvalidRequest unless it is one."""
    if not 0 <= chance <= 1:
        raise InvalidRequest(f"a probability of {chance:g}: give one from 0 to 1")
    return chance


def _array(tensor: Tensor, what: str) -> Array:
    if tensor.ndim != 4 or tensor.shape[0] != 1:
        raise NotACT(f"the {what} has the shape {tuple(tensor.shape)}: one channel in front, (1, I, J, K)")
    found: Array = tensor[0].detach().cpu().numpy()
    return found


def _advised(error: LesionBrushError) -> LesionBrushError:
    return type(error)(f"{error}; allow_no_place=True leaves such CTs as they are")
