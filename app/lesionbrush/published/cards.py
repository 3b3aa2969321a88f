"""What makes added weights a model as their publishers trained them: card and documents. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionbrush.bundles.configs import INTENDED_USE, LICENSE, README
from lesionbrush.core.registry import WEIGHTS, ModelCard, Tissue
from lesionbrush.published.catalogue import KnownModel

if TYPE_CHECKING:
    from lesionbrush.systems.lung_ddpm.network import LungDDPMConfig

# What the papers and the released code say of each system. The boxes of Lung-DDPM+ keep their scan's voxels,
# in LIDC-IDRI about 0.7 mm in plane and 1 to 2.5 mm along the body; cubes of 1 mm are in between.
_OF_SYSTEM: dict[str, dict[str, Any]] = {
    "lung_ddpm": {"roi_voxels": (128,), "spacing_mm": 2.0},
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


def documents_of(known: KnownModel, card: ModelCard) -> dict[Path, str]:
    """What a MONAI bundle has beside its configs."""
    readme = f"""# {card.title}

{card.makes} Published weights that a user added; the card is in `configs/metadata.json`.
For {INTENDED_USE}.

## Model description

{known.reference}. Page of its publishers: {known.page}

## Data

{card.training_data}. Split: {card.split}.

## Performance

Nothing was measured here; see the publication.

## Usage

```
python -m monai.bundle run --config_file configs/inference.json \\
    --image ct.nii.gz --label mask.nii.gz --output out.nii.gz --params '{{"seed": 7}}'
```

## Limitations

{" ".join(card.limits)}.

## License

{known.terms()}
"""
    terms = f"The weights in {WEIGHTS.as_posix()} are not part of LesionBrush.\n\n{known.terms()}\n"
    return {README: readme, LICENSE: terms}
