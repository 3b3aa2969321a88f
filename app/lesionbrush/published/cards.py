"""What makes added weights a model as their publishers trained them: card and documents. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from lesionbrush.bundles.configs import INTENDED_USE, LICENSE, README
from lesionbrush.core.registry import WEIGHTS, ModelCard
from lesionbrush.published.catalogue import KnownModel
from lesionbrush.systems import find_system
from lesionbrush.systems.contract import PublishedWeights

_BUNDLE = """python -m monai.bundle run --config_file configs/inference.json \\
    --image ct.nii.gz --label mask.nii.gz --output out.nii.gz --params '{"seed": 7}'"""


def card_of(known: KnownModel, published: PublishedWeights, weights_sha256: str) -> ModelCard:
    """For a model of the catalogue whose system takes published weights."""
    facts = {
        "name": known.name,
        "system": str(known.architecture),
        "title": f"{known.title}, published weights",
        "makes": known.makes,
        "weights_sha256": weights_sha256,
        "weights_license": known.weights_license,
        "attribution": known.reference,
        "trained": {},
        "training_data": f"as the publishers say, see {known.page}",
        "split": "as the publishers say",
        "figures": {},
        "limits": (known.reason,),
        **published.facts,
    }
    return ModelCard.model_validate(facts)


def documents_of(known: KnownModel, card: ModelCard) -> dict[Path, str]:
    """What a MONAI bundle has beside its configs."""
    usage = (
        _BUNDLE
        if find_system(card.system).bundle
        else f"python run.py generate --model {card.name} -o ct.nii.gz"
    )
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
{usage}
```

## Limitations

{" ".join(card.limits)}.

## License

{known.terms()}
"""
    terms = f"The weights in {WEIGHTS.as_posix()} are not part of LesionBrush.\n\n{known.terms()}\n"
    return {README: readme, LICENSE: terms}
