"""One file per published way of making CT. Loading a model is the only thing here that needs torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lesionbrush.core.registry import InstalledModel, verify_weights
from lesionbrush.errors import WeightsError

if TYPE_CHECKING:
    from lesionbrush.core.synthesize import Model


LOADERS = {
    "lesion_inpainting": ("lesion_inpainting.model", "LesionInpainting"),
    "lung_ddpm": ("lung_ddpm.whole", "LungDDPM"),
    "lung_ddpm_plus": ("lung_ddpm.cube", "LungDDPMPlus"),
    "mddpm": ("mddpm.slices", "MDDPM"),
    "mddpm_3d": ("mddpm.boxes", "MDDPM3D"),
}
"""By system: a module of this package, and the class in it whose `load(installed, device)` makes a model."""


def load_model(installed: InstalledModel, device: str | None = None) -> Model:
    """Check the weights against the card and make the model ready on `device` (None: CUDA when there is one).

    Raises WeightsError when the weights are missing, changed, or of a system this version does not know.
    """
    card = installed.card
    if card.system not in LOADERS:
        raise WeightsError(
            f"model {card.name!r} is of system {card.system!r}; known are {', '.join(LOADERS)}"
        )
    verify_weights(installed)
    module, name = LOADERS[card.system]
    model: Model = getattr(import_module(f"{__name__}.{module}"), name).load(installed, device)
    return model
