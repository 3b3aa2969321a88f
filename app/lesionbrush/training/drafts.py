"""The card of a network that is still in training: what its system must know to sample from it."""

from __future__ import annotations

from collections.abc import Sequence

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.registry import ModelCard
from lesionbrush.systems.contract import SystemCard


def draft_card(
    system: str, section: SystemCard, window: HUWindow, roi_voxels: Sequence[int], roi_multiple: int
) -> ModelCard:
    """At 1 mm; it names no weights and no licence."""
    return ModelCard(
        name="draft",
        system=system,
        title="In training",
        makes="Whatever it has learned so far.",
        window_hu=(window.lo_hu, window.hi_hu),
        spacing_mm=1.0,
        roi_voxels=tuple(roi_voxels),
        roi_multiple=roi_multiple,
        section=section.model_dump(mode="json"),
        weights_sha256="0" * 64,
        weights_license="none yet",
        attribution="",
        trained={},
        training_data="",
        split="",
        figures={},
        limits=(),
    )
