"""From a checkpoint to a model folder: safetensors weights, and a card that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lesionbrush.bundles.configs import write_configs
from lesionbrush.core.registry import WEIGHTS, ModelCard, file_sha256, load_card
from lesionbrush.files.durable import whole_files


def export(checkpoint: Path, folder: Path, *, half: bool = False) -> ModelCard:
    """Write the moving average of `checkpoint` into a model folder and its SHA-256 into the card.

    half: as float16, for half the size; a model computes as before. The card's other facts are kept: they are
    written by hand or by `evaluate`.
    FileNotFoundError when the checkpoint is missing, WeightsError when the folder has no valid card.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    load_card(folder)  # before anything is written
    weights = {name: tensor.contiguous() for name, tensor in state["average"].items()}
    weights = {name: tensor.half() for name, tensor in weights.items()} if half else weights
    path = folder / WEIGHTS
    path.parent.mkdir(parents=True, exist_ok=True)
    training = {"steps": state["progress"]["step"], "hours": round(state["progress"]["seconds"] / 3600, 2)}
    with whole_files(path) as (draft,):
        save_file(weights, draft)
        update_card(folder, weights_sha256=file_sha256(draft), trained=training)
    return load_card(folder)


def update_card(folder: Path, **facts: Any) -> None:
    """Replace some facts of the card, or of its system's section.

    WeightsError for what neither knows, ValidationError for values that are not valid; nothing is written.
    """
    card = load_card(folder).model_dump()
    common = {name: value for name, value in facts.items() if name in card}
    section = {name: value for name, value in facts.items() if name not in card}
    card |= {"section": {**card["section"], **section}, **common}
    write_configs(folder, ModelCard.model_validate(card))
