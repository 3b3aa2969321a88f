"""From a checkpoint to a model folder: safetensors weights, and a card that names them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lesionbrush.bundles.configs import CARD, write_configs
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard, file_sha256, load_card


def export(checkpoint: Path, folder: Path) -> ModelCard:
    """Write the moving average of `checkpoint` into a model folder and its SHA-256 into the card.

    The card's other facts are kept: they are written by hand or by `evaluate`.
    FileNotFoundError when the checkpoint is missing, WeightsError when the folder has no valid card.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    load_card(folder)  # before anything is written
    weights = {name: tensor.contiguous() for name, tensor in state["average"].items()}
    path = folder / WEIGHTS
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(weights, temporary)
    training = {"steps": state["progress"]["step"], "hours": round(state["progress"]["seconds"] / 3600, 2)}
    update_card(folder, weights_sha256=file_sha256(temporary), trained=training)
    os.replace(temporary, path)
    return load_card(folder)


def update_card(folder: Path, **facts: Any) -> None:
    """Replace some facts of the card; what the card does not know is refused before anything is written."""
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    write_configs(folder, ModelCard.model_validate({**metadata[CARD], **facts}))
