"""A trained baseline as the core asks a model: its result gets into a CT by the same way as a diffusion's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import INT16_HU
from lesionbrush.core.model import PLAIN, EditHooks, OnEstimate, OnStep
from lesionbrush.core.registry import ModelCard, file_sha256
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.evaluation.inpainting.examples import slice_conditions
from lesionbrush.evaluation.inpainting.gan import draw_fill
from lesionbrush.evaluation.inpainting.weights import TrainedBaseline
from lesionbrush.systems.med_ddpm.conditions import CONTENT, join_conditions
from lesionbrush.systems.med_ddpm.model import binarise
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.palette.data import SPACING_MM
from lesionbrush.systems.palette.fills import fill_number
from lesionbrush.systems.palette.hooks import HOOKS
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.palette.scale import AIR_HU
from lesionbrush.systems.running import device_name, mix_seed


class BaselineModel:
    """Pix2Pix takes requests to Palette, Vox2Vox those to Med-DDPM; of both only the fill and the seeds."""

    def __init__(self, trained: TrainedBaseline) -> None:
        self.trained, self.generator = trained, trained.generator
        self.device = next(self.generator.parameters()).device
        self.card = _card_of(trained)
        self.hooks: EditHooks = HOOKS if trained.baseline.dims == 2 else PLAIN

    def sample(
        self,
        rois: RoiBatch,
        request: PaletteRequest | MedDDPMRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, one after the other. See `core.model.Model`."""
        del on_estimate
        hu = np.empty((len(seeds), *rois.reference_hu.shape), np.float32)
        shown = np.where(rois.inside, rois.reference_hu, np.float32(AIR_HU))
        count = len(shown)
        for number, (seed, lesion) in enumerate((s, k) for s in range(len(seeds)) for k in range(count)):
            conditions = self._conditions(rois, shown, lesion, request).to(self.device)
            drawn = draw_fill(self.generator, conditions, mix_seed(*rois.entropy(seeds[seed], lesion)))
            made = self.trained.baseline.scale.from_unit(drawn.float().cpu().numpy()).squeeze(1)
            may = rois.editable[lesion]
            hu[seed, lesion] = np.where(may, np.clip(made.reshape(may.shape), *INT16_HU), shown[lesion])
            on_step(number + 1, len(seeds) * count)
        return Sampled(hu, device_name(self.device))

    def _conditions(
        self, rois: RoiBatch, shown: np.ndarray, lesion: int, request: PaletteRequest | MedDDPMRequest
    ) -> Tensor:
        """(Z, C, Y, X) for slices, (1, C, Z, Y, X) for a cube."""
        image = torch.from_numpy(self.trained.baseline.scale.to_unit(shown[lesion]))
        hole = torch.from_numpy(rois.editable[lesion].astype(np.float32))
        if isinstance(request, PaletteRequest):
            fill = torch.full((len(image),), fill_number(request.fill))
            return slice_conditions(image[:, None], hole[:, None], fill)
        visible = torch.from_numpy((rois.inside & ~rois.editable)[lesion].astype(np.float32))
        mask = torch.from_numpy(binarise(rois.mask[lesion]).astype(np.float32))
        content = torch.tensor([CONTENT[request.fill]])
        return join_conditions(image[None, None], visible[None, None], mask[None, None], content)


def _card_of(trained: TrainedBaseline) -> ModelCard:
    """What the core has to know; no folder of models holds it."""
    baseline = trained.baseline
    return ModelCard(
        name=baseline.name,
        system="palette" if baseline.dims == 2 else "med_ddpm",
        title=baseline.title,
        makes="Tissue under the mask, as a baseline of an evaluation.",
        window_hu=INT16_HU,
        spacing_mm=SPACING_MM,
        roi_voxels=baseline.sides,
        roi_multiple=baseline.multiple,
        weights_sha256=file_sha256(trained.path),
        weights_license="Apache-2.0",
        attribution="",
        trained={"steps": trained.steps, "hours": round(trained.minutes / 60, 3)},
        training_data="as the diffusion models of the same batches",
        split="by patient, by name",
        figures={},
        limits=("a baseline, not to be used for anything else",),
    )
