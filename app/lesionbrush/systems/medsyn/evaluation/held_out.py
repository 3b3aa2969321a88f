"""What is held of a chest that nobody trained on: is it followed, and does a text still act beside it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionbrush.anatomy.chest.masks import AIRWAYS_NAME
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.generate import Generation, generate
from lesionbrush.core.inputs import Inputs, Layout, Value
from lesionbrush.core.volume import Array, Volume
from lesionbrush.systems.medsyn.channels import AIRWAY_BIT, LOBE_BITS
from lesionbrush.systems.medsyn.field import ChestField, stored
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.pack import HIGH, PackedChest
from lesionbrush.systems.medsyn.request import MedSynRequest

AIR_HU = -500
NEAR_MM = 15.0


@dataclass(frozen=True, eq=False)
class HeldChest:
    """One chest in its field as a user would send it. All on one grid."""

    ct: Volume
    lobes: Layout
    airways: Volume

    @classmethod
    def of(cls, packed: PackedChest, side: int = 128) -> HeldChest:
        step = HIGH // side
        middle = slice(step // 2, None, step)
        hu, labels = (stored(one[middle, middle, middle]) for one in (packed.hu, packed.labels))
        ct = Volume(hu, ChestField((0.0, 0.0, 0.0), packed.size_mm).frame(side).affine)
        lobes = labels & LOBE_BITS
        names = {number: name for number, name in LOBES.items() if (lobes == number).any()}
        airways = (labels & AIRWAY_BIT > 0).astype(np.uint8)
        return cls(ct, Layout(ct.with_array(lobes), names), ct.with_array(airways))

    def held(self, *names: str) -> Mapping[str, Value]:
        """Those inputs of the model."""
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class AirwaysFollowed:
    """Dice of the windpipe and the main bronchi of a chest with what a threshold finds as air: where they
    were held, where lobes alone were, and in the chest itself."""

    held: float
    free: float
    real: float

    def line(self) -> str:
        return (
            f"airways of a held-out chest, Dice with air outside its lobes: {self.held:.2f} held, "
            f"{self.free:.2f} with lobes held alone, {self.real:.2f} in the chest itself"
        )

    def figures(self) -> dict[str, float]:
        found = {"held": self.held, "free": self.free, "real": self.real}
        return {f"airways_{name}_dice": round(dice, 3) for name, dice in found.items() if dice == dice}


def follow_airways(model: MedSyn, chest: HeldChest, request: MedSynRequest) -> AirwaysFollowed:
    """At 128 voxels a side, of the first seed."""
    request = request.model_copy(update={"size": 128, "variants": 1})
    (held,), (free,) = (
        generate(request, model, Inputs(**chest.held(*names))) for names in (("lobes", "airways"), ("lobes",))
    )
    wanted = _airways(held)
    own = air_dice(chest.ct, chest.lobes, chest.airways.array > 0)
    return AirwaysFollowed(_dice(held, wanted), _dice(free, wanted), own)


def _airways(made: Generation) -> Array:
    """Bool, as they were held, on the grid of the result."""
    assert made.layout is not None
    return made.layout.mask(AIRWAYS_NAME)


def _dice(made: Generation, airways: Array) -> float:
    assert made.layout is not None
    return air_dice(made.ct, made.layout, airways)


def air_dice(ct: Volume, labels: Layout, airways: Array) -> float:
    """Dice of airways outside the lobes with the air near them; nan where there are none.

    A voxel beside a lobe is left out: it is partly lung.
    """
    lobes = np.zeros(ct.shape, bool)
    for name in LOBES.values():
        lobes |= labels.mask(name)
    central = _largest(airways & ~ndimage.binary_dilation(lobes))
    if not central.any():
        return float("nan")
    near = ndimage.distance_transform_edt(~central, sampling=ct.spacing_mm) < NEAR_MM
    air = (ct.array < AIR_HU) & near & ~ndimage.binary_dilation(lobes)
    return float(2 * np.count_nonzero(central & air) / (np.count_nonzero(central) + np.count_nonzero(air)))


def _largest(mask: Array) -> Array:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    found: Array = labels == int(sizes.argmax()) + 1 if count else mask
    return found
