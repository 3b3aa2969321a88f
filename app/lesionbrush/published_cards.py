"""The card that makes added weights an infer task, as their publishers trained them. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lesionbrush.catalogue import KnownModel
from lesionbrush.registry import ModelCard, Tissue

if TYPE_CHECKING:
    from lesionbrush.networks.lung_ddpm import LungDDPMConfig

# What the papers and the released code say of each system. The boxes of Lung-DDPM+ keep their scan's voxels,
# in LIDC-IDRI about 0.7 mm in plane and 1 to 2.5 mm along the body; cubes of 1 mm are in between.
_OF_SYSTEM: dict[str, dict[str, Any]] = {
    "lung_ddpm": {"roi_voxels": (128,), "spacing_mm": 2.0, "field": "lungs", "inputs": ("lungs",)},
    "lung_ddpm_plus": {"roi_voxels": (64,), "spacing_mm": 1.0},
}
WINDOW_HU = (-1024.0, 3071.0)
TIMESTEPS = 250
LUNG = Tissue(name="lung", hu=(-1000.0, -300.0), least_share=0.3)


def card_of(known: KnownModel, config: LungDDPMConfig, weights_sha256: str) -> ModelCard:
    """For a model of the catalogue that has an architecture, whose network is `config`."""
    system = str(known.architecture)
    network = {
        "dims": 3,
        "in_channels": config.in_channels,
        "channels": config.channels,
        "attention": config.attention,
        "blocks": config.blocks,
        "norm_groups": config.norm_groups,
        "prediction": "eps",
    }
    facts = {
        "name": known.name,
        "system": system,
        "title": f"{known.title}, published weights",
        "makes": known.makes,
        "window_hu": WINDOW_HU,
        "scaling": "columns",
        "roi_multiple": config.multiple,
        "schedule": "cosine",
        "timesteps": TIMESTEPS,
        "tissue": LUNG,
        "network": network,
        "weights_sha256": weights_sha256,
        "weights_license": known.weights_license,
        "attribution": known.reference,
        "trained": {},
        "training_data": f"as the publishers say, see {known.page}",
        "split": "as the publishers say",
        "figures": {},
        "limits": (known.reason,),
        **_OF_SYSTEM[system],
    }
    return ModelCard.model_validate(facts)
