"""What Lung-DDPM and Lung-DDPM+ share: the network of a card, and how it is asked for a clean image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from lesionbrush.core.hu import HUWindow
from lesionbrush.core.model import PLAIN, EditHooks, OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.diffusion.preconditioning import image_from
from lesionbrush.diffusion.samplers import draw_noise
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.intensities import (
    Intensities,
    from_published_axes,
    intensities,
    to_published_axes,
)
from lesionbrush.systems.med_unet import MedUNet, MedUNetConfig
from lesionbrush.systems.running import (
    OutOfMemoryFallback,
    SamplingWatch,
    as_batch,
    in_channels_last,
    in_tiles,
    lesion_generators,
    pick_device,
    with_weights,
)

CLIP = (-1.0, 1.0)
LayoutT = TypeVar("LayoutT", bound="LayoutDiffusion")


@dataclass(frozen=True, eq=False)
class Item:
    """A part of a batch on its device, (B, C, Z, Y, X) float32; one generator for each of B.

    image: the reference in [-1, 1]; layout: ±1; editable, nodule, inside: 0 or 1.
    watch: to be called with every estimate of x_0.
    """

    image: Tensor
    layout: Tensor
    editable: Tensor
    nodule: Tensor
    inside: Tensor
    noise: Tensor
    generators: list[torch.Generator]
    watch: Callable[[Tensor], None]


class LayoutDiffusion(ABC):
    """A trained network ready to fill ROIs from a semantic layout."""

    hooks: ClassVar[EditHooks] = PLAIN
    labels: ClassVar[int]
    """Channels of the layout."""
    at_once_on_cpu: ClassVar[int] = 8

    def __init__(self, card: ModelCard, network: MedUNet, device: torch.device) -> None:
        self.card, self.section, self.device = card, LungDDPMCard.of(card), device
        self.network = in_channels_last(network.to(device).eval())
        self.evaluate = Evaluator(self.network)
        self.window = HUWindow(*card.window_hu)
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @classmethod
    def load(cls: type[LayoutT], installed: InstalledModel, device: str | None = None) -> LayoutT:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        card = installed.card
        config = network_config(card)
        if config.in_channels != 1 + cls.labels:
            raise WeightsError(
                f"the card of {card.name!r} gives its network {config.in_channels} channels, the system "
                f"{card.system!r} has {1 + cls.labels}"
            )
        return cls(card, with_weights(MedUNet(config), installed), pick_device(device))

    @abstractmethod
    def layout(self, rois: RoiBatch, lesion: int) -> tuple[np.ndarray, np.ndarray]:
        """(M, Z, Y, X) channels of ±1 for one ROI, and bool (Z, Y, X): where the layout has a label."""

    @abstractmethod
    def evaluations(self, request: object) -> int:
        """Of the network, for one sample. Raises InvalidRequest for a request it cannot follow."""

    @abstractmethod
    def draw(self, item: Item, request: object) -> Tensor:
        """(B, 1, Z, Y, X) in [-1, 1], or beyond where the network goes there."""

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: object,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """Every lesion for every seed, as one batch. See `synthesize.Model`."""
        as_published = bool(getattr(request, "as_published", False))
        scale = intensities(self.section.scaling, self.window, rois.reference_hu, as_published=as_published)
        numbers = rois.items(seeds)
        watch = SamplingWatch(on_step, on_estimate, len(numbers), self.evaluations(request))
        batch = _Batch(self, rois, scale, numbers, watch)
        fallback = OutOfMemoryFallback(self.evaluate, self.device, self.at_once_on_cpu)
        run = fallback.run(
            range(len(numbers)), lambda part, device: self.draw(batch.item(part, device), request)
        )
        unit = run.results[:, 0].reshape(len(seeds), *rois.reference_hu.shape).cpu().numpy()
        hu = scale.from_unit(unit).astype(np.float32)
        return Sampled(hu, run.where, run.remarks)

    def estimate(self, item: Item, x: Tensor, level: tuple[float, float, float]) -> Tensor:
        """x_0 from x at (alpha, sigma, timestep), not clipped."""
        alpha, sigma, timestep = level
        out = self.predict(torch.cat((x, item.layout), dim=1), timestep)
        network = self.section.network
        return image_from(network.prediction, x, out, alpha, sigma, network.data_spread)

    def predict(self, inputs: Tensor, timestep: float) -> Tensor:
        """What the network says of (B, 1 + M, Z, Y, X): float32 (B, 1, Z, Y, X)."""

        def run(box: Tensor) -> Tensor:
            published = self.section.scaling == "columns"
            box = to_published_axes(box) if published else box
            times = torch.full((len(box),), timestep, device=box.device)
            out = self.evaluate(box.contiguous(memory_format=torch.channels_last_3d), times)
            return from_published_axes(out) if published else out

        return in_tiles(run, inputs, self.card.roi_voxels[-1])


class _Batch:
    """One request: what stays the same over the parts of a batch that had to be split."""

    def __init__(
        self,
        model: LayoutDiffusion,
        rois: RoiBatch,
        scale: Intensities,
        numbers: list[tuple[int, int]],
        watch: SamplingWatch,
    ) -> None:
        self.rois, self.scale, self.numbers, self.watch = rois, scale, numbers, watch
        self.image = scale.to_unit(rois.reference_hu)
        layouts = [model.layout(rois, k) for k in range(len(rois.reference_hu))]
        self.layouts = np.stack([layout for layout, _ in layouts])
        self.inside = np.stack([inside for _, inside in layouts])

    def item(self, part: Sequence[int], device: torch.device) -> Item:
        """For the chosen numbers (seed, lesion)."""
        chosen = [self.numbers[k] for k in part]
        lesions = [lesion for _, lesion in chosen]

        image, editable = (as_batch(array, lesions, device) for array in (self.image, self.rois.editable))
        layout, inside = as_batch(self.layouts, lesions, device)[:, 0], as_batch(self.inside, lesions, device)
        generators = lesion_generators(self.rois, chosen)
        noise = draw_noise(image.shape, generators, device, torch.float32)

        def shown(estimate: Tensor) -> np.ndarray:
            unit = torch.lerp(image[0], estimate[0], editable[0]).cpu().numpy()
            whole = np.concatenate((unit, self.image[1:])) if len(self.image) > 1 else unit
            hu: np.ndarray = self.scale.from_unit(whole)[0].astype(np.float32)
            return hu

        watch = self.watch.part(part, shown)
        nodule = (layout[:, -1:] > 0).float()
        return Item(image, layout, editable, nodule, inside, noise, generators, watch)


def network_config(card: ModelCard) -> MedUNetConfig:
    """WeightsError for a card of another system's network."""
    shape = LungDDPMCard.of(card).network
    return MedUNetConfig(shape.in_channels, shape.channels, shape.attention, shape.blocks, shape.norm_groups)


def require_nodule(nodule: np.ndarray) -> None:
    """InvalidRequest for a layout without a nodule."""
    if not nodule.any():
        raise InvalidRequest(
            "the layout has no nodule on the model's grid: paint a larger one, or use a model of finer voxels"
        )
