"""Palette (Saharia et al. 2022, arXiv:2111.05826), slice by slice, as Sedykh 2024 inpaints CT with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from lesionbrush.core.hu import unit_ends
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.kept import find_kept, kept_remarks
from lesionbrush.systems.palette.card import PaletteCard, PaletteShape
from lesionbrush.systems.palette.filler import HoleFiller
from lesionbrush.systems.palette.hooks import HOOKS
from lesionbrush.systems.palette.job import FillingJob, draw_again
from lesionbrush.systems.palette.network import PaletteUNet, PaletteUNetConfig
from lesionbrush.systems.palette.noise import PALETTE_SCHEDULES
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.running import OutOfMemoryFallback, pick_device, with_weights
from lesionbrush.systems.slab import Agreement


class Palette:
    """A trained network ready to fill slices."""

    hooks = HOOKS
    agreement = Agreement()

    def __init__(self, card: ModelCard, network: PaletteUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, PaletteCard.of(card), device
        self.network = network.to(device).eval()
        self.evaluate = Evaluator(self.network)
        self.scale = self.section.scale
        shape = self.section.network
        self.filler = HoleFiller(
            self.evaluate,
            PALETTE_SCHEDULES[self.section.schedule](self.section.timesteps),
            shape.prediction,
            shape.data_spread,
            unit_ends(self.scale),
        )

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> Palette:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        network = PaletteUNet(network_config(PaletteCard.of(installed.card).network))
        return cls(installed.card, with_weights(network, installed), pick_device(device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: PaletteRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed. See `synthesize.Model`. InvalidRequest for a fill it does not know."""
        self._require_known(request)
        items = rois.items(seeds)
        job = FillingJob(self, rois, request, items, (on_step, on_estimate))
        run = OutOfMemoryFallback(self.evaluate, self.device).run(range(len(items)), job.sample)
        unit, again = draw_again(job, run) if request.is_checked else (run.results.numpy(), ())
        shape = (len(seeds), *rois.reference_hu.shape)
        hole = np.concatenate([rois.editable] * len(seeds))
        kept = find_kept(unit, hole, self.scale, rois.spacing_mm).reshape(shape)
        remarks = (*run.remarks, *kept_remarks(kept, rois.mask, self.scale), *again)
        hu = self.scale.from_unit(unit).reshape(shape).astype(np.float32)
        return Sampled(hu, run.where, remarks, kept=kept if kept.any() else None)

    def _require_known(self, request: PaletteRequest) -> None:
        if request.fill is not None and request.fill not in self.section.fills:
            known = ", ".join(self.section.fills) or "nothing by name"
            raise InvalidRequest(
                f"fill: {self.card.name!r} was not trained to make {request.fill}; it makes {known}; null "
                "leaves it to the model"
            )


def network_config(shape: PaletteShape) -> PaletteUNetConfig:
    """Without dropout, which is for training."""
    known = {field.name for field in fields(PaletteUNetConfig)} & set(PaletteShape.model_fields)
    return PaletteUNetConfig(**shape.model_dump(include=known), dropout=0.0)
