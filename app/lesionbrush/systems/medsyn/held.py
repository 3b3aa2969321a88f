"""What is held while a chest is made: any of the four channels, as far as there is data (Sec. IV.D)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.boxes import Box
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.roi import Orientation, triangle
from lesionbrush.systems.medsyn.channels import (
    AIRWAY,
    CHANNELS,
    CT,
    LOBE,
    VESSEL,
    WINDOW,
    lobes_to_unit,
    share_to_unit,
)
from lesionbrush.systems.medsyn.field import OURS, ChestSpace
from lesionbrush.systems.medsyn.hooks import field_of


@dataclass(frozen=True, eq=False)
class HeldChannels:
    """unit: (1, 4, Z, Y, X) in [-1, 1]; editable: the same shape, 0 where a channel is held, 1 elsewhere."""

    unit: Tensor
    editable: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels of which something is held."""
        some = (self.editable == 0).flatten(2).any(dim=2)[0].tolist()
        return tuple(name for name, held in zip(CHANNELS, some, strict=True) if held)

    def crop(self, box: Box) -> HeldChannels:
        """A part of the field."""
        z, y, x = box
        return HeldChannels(self.unit[..., z, y, x], self.editable[..., z, y, x])


def hold(inputs: Inputs, side: int, space: ChestSpace = OURS) -> HeldChannels:
    """What was sent, at so many voxels a side of its field. Raises as `field_of`."""
    unit = np.full((1, len(CHANNELS), side, side, side), -1.0, np.float32)
    editable = np.ones_like(unit)
    field, lobes = field_of(inputs, space)
    if lobes is None:
        return HeldChannels(torch.from_numpy(unit), torch.from_numpy(editable))
    turned = Orientation.of(lobes.affine)
    spacing_mm = turned.spacing_mm(lobes.spacing_mm)
    box = field.known(turned.view(lobes.array).shape, spacing_mm, side)

    def put(channel: int, values: np.ndarray) -> None:
        unit[0, channel][box] = values[box]
        editable[0, channel][box] = 0

    there = field.take_nearest(turned.view(lobes.array), spacing_mm, side)
    put(LOBE, lobes_to_unit(there, space.lobes))
    for channel, name in ((AIRWAY, "airways"), (VESSEL, "vessels")):
        mask = inputs.volume(name)
        if mask is not None:
            view = Orientation.of(mask.affine).view(mask.array > 0)
            put(channel, share_to_unit(field.take(view, spacing_mm, side, triangle)))
    ct = inputs.volume("held_ct")
    if ct is not None:
        view = Orientation.of(ct.affine).view(ct.array)
        put(CT, WINDOW.to_unit(field.take(view, spacing_mm, side)))
    return HeldChannels(torch.from_numpy(unit), torch.from_numpy(editable))
