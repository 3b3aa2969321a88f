"""One file per published way of making CT. Loading a model is the only thing here that needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lesionbrush.errors import WeightsError
from lesionbrush.registry import InstalledModel, verify_weights

if TYPE_CHECKING:
    from lesionbrush.synthesize import Model


def _lesion_inpainting(installed: InstalledModel, device: str | None) -> Model:
    from lesionbrush.systems.lesion_inpainting import LesionInpainting

    return LesionInpainting.load(installed, device)


SYSTEMS: dict[str, Callable[[InstalledModel, str | None], Model]] = {"lesion_inpainting": _lesion_inpainting}


def load_model(installed: InstalledModel, device: str | None = None) -> Model:
    """Check the weights against the card and make the model ready on `device` (None: CUDA when there is one).

    Raises WeightsError when the weights are missing, changed, or of a system this version does not know.
    """
    system = SYSTEMS.get(installed.card.system)
    if system is None:
        raise WeightsError(
            f"model {installed.card.name!r} is of system {installed.card.system!r}; "
            f"known are {', '.join(SYSTEMS)}"
        )
    verify_weights(installed)
    return system(installed, device)
