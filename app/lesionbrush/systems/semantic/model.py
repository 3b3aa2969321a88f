"""Semantic CT (Zhuang et al. 2023) as an edit: what a layout says otherwise than before is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch

from lesionbrush.core.hu import unit_ends
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.systems.kept import find_kept, kept_remarks
from lesionbrush.systems.running import OutOfMemoryFallback, RunResult, pick_device, with_weights
from lesionbrush.systems.semantic.card import SemanticCard, SemanticShape
from lesionbrush.systems.semantic.classes import BODY, CLASSES, OUTSIDE
from lesionbrush.systems.semantic.diffusion import SemanticDiffusion
from lesionbrush.systems.semantic.hooks import HOOKS
from lesionbrush.systems.semantic.job import LayoutJob, Wish
from lesionbrush.systems.semantic.layouts import without_tissues
from lesionbrush.systems.semantic.network import SemanticUNet, SemanticUNetConfig
from lesionbrush.systems.semantic.request import SemanticRequest
from lesionbrush.systems.slab import Agreement


class SemanticCT:
    """A trained network ready to make slices of a layout."""

    hooks = HOOKS
    agreement = Agreement()

    def __init__(self, card: ModelCard, network: SemanticUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, SemanticCard.of(card), device
        self.network = network.to(device).eval()
        self.evaluate = Evaluator(self.network)
        self.scale = self.section.scale
        self.diffusion = SemanticDiffusion(
            self.evaluate,
            SCHEDULES[self.section.schedule](self.section.timesteps),
            self.section.network.data_spread,
            unit_ends(self.scale),
        )

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> SemanticCT:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        network = SemanticUNet(network_config(SemanticCard.of(installed.card).network))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    def sample(
        self,
        rois: RoiBatch,
        request: SemanticRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every change for every seed. See `core.model.Model`."""
        run, told = self.run(rois, request, seeds, (on_step, on_estimate))
        unit = run.results.numpy()
        shape = (len(seeds), *rois.reference_hu.shape)
        hole = np.concatenate([rois.editable] * len(seeds))
        kept = find_kept(unit, hole, self.scale, rois.spacing_mm).reshape(shape)
        remarks = (*run.remarks, *told, *kept_remarks(kept, rois.mask, self.scale))
        hu = self.scale.from_unit(unit).reshape(shape).astype(np.float32)
        return Sampled(hu, run.where, remarks, kept=kept if kept.any() else None)

    @torch.inference_mode()
    def run(
        self,
        rois: RoiBatch,
        request: Wish,
        seeds: Sequence[int],
        watched: tuple[OnStep, OnEstimate | None],
    ) -> tuple[RunResult, tuple[str, ...]]:
        """(N, Z, Y, X) in units, of every lesion for every seed, and what is told of classes. rois: with
        `LaidOut`."""
        labels, told = self._learnt(rois.own.labels)
        rois = replace(rois, own=replace(rois.own, labels=labels))
        items = rois.items(seeds)
        job = LayoutJob(self, rois, request, items, watched)
        return OutOfMemoryFallback(self.evaluate, self.device).run(range(len(items)), job.sample), told

    def _learnt(self, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """The classes as far as the network learnt them; the others are body, and told."""
        found = labels if self.section.network.tissues else without_tissues(labels)
        learnt = {OUTSIDE, BODY, *(CLASSES.index(name) for name in self.section.classes if name in CLASSES)}
        strange = [number for number in np.unique(found).tolist() if number not in learnt]
        if not strange:
            return found, ()
        names = ", ".join(CLASSES[number] for number in strange)
        return np.where(np.isin(found, strange), np.uint8(BODY), found), (
            f"no case that {self.card.name!r} was trained on had {names} labelled: made as body",
        )


def network_config(shape: SemanticShape) -> SemanticUNetConfig:
    """Without dropout, which is for training."""
    known = {field.name for field in fields(SemanticUNetConfig)} & set(SemanticShape.model_fields)
    return SemanticUNetConfig(**shape.model_dump(include=known), dropout=0.0)
