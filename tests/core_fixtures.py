"""A tiny model, fake models with closed-form answers, and small CTs for the tests of the core."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lesionbrush.core.model import PLAIN, EditHooks, Model, OnEstimate, OnStep
from lesionbrush.core.registry import METADATA, WEIGHTS, ModelCard
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.card import NetworkShape
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

torch.set_num_threads(1)  # the tensors here are tiny: more threads only wait for each other

SHAPE = (40, 36, 30)
NETWORK = NetworkShape(channels=(8, 16, 16), blocks=1, head_channels=4, prior_spread=0.15)
QUICK = SynthesisRequest(steps=2)


def tiny_network(seed: int = 0, config: NetworkShape = NETWORK) -> LesionUNet:
    """Random weights, also where training starts from zero: what it paints is no constant."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LesionUNet(LesionUNetConfig(len(ATTRIBUTES), **config.model_dump()))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def tiny_card(**changes: Any) -> ModelCard:
    """Boxes of 16 or 24 voxels of 2 mm; what is larger is run in tiles of 24."""
    facts = {
        "name": "tiny",
        "system": "lesion_inpainting",
        "title": "Tiny",
        "makes": "Something under the mask.",
        "window_hu": (-1000, 1000),
        "spacing_mm": 2.0,
        "roi_voxels": (16, 24),
        "roi_multiple": 8,
        "schedule": "cosine",
        "network": NETWORK,
        "attributes": ATTRIBUTES,
        "weights_sha256": "0" * 64,
        "weights_license": "Apache-2.0",
        "attribution": "nobody",
        "trained": {},
        "training_data": "none",
        "split": "none",
        "figures": {},
        "limits": (),
        **changes,
    }
    return ModelCard.model_validate(facts)


@cache
def tiny_model(seed: int = 0) -> LesionInpainting:
    return LesionInpainting(tiny_card(), tiny_network(seed), torch.device("cpu"))


def install(root: Path, **changes: Any) -> Path:
    """Write the tiny model as a folder of `root`; `changes` go into its card. Returns the folder."""
    folder = root / str(changes.get("name", "tiny"))
    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    save_file(tiny_network().state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    card = tiny_card(**{"weights_sha256": digest, **changes})
    metadata = {"lesionbrush": json.loads(card.model_dump_json())}
    (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    return folder


@dataclass
class FakeModel:
    """Answers every seed with `paint(rois)`, (L, Z, Y, X) HU, and remembers what it was asked."""

    paint: Callable[[RoiBatch], np.ndarray]
    card: ModelCard
    asked: list[RoiBatch]
    hooks: EditHooks = PLAIN

    def sample(
        self,
        rois: RoiBatch,
        request: SynthesisRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        self.asked.append(rois)
        return Sampled(np.stack([self.paint(rois) for _ in seeds]).astype(np.float32), "fake")


def paints(hu: float, hooks: EditHooks = PLAIN, **card: Any) -> FakeModel:
    """The same HU wherever it is asked."""
    return FakeModel(lambda rois: np.full(rois.reference_hu.shape, hu), tiny_card(**card), [], hooks)


def paints_where_editable(hu: float, hooks: EditHooks = PLAIN, **card: Any) -> FakeModel:
    """The same HU in the edit region, and what is known elsewhere."""
    return FakeModel(
        lambda rois: np.where(rois.editable, hu, rois.reference_hu), tiny_card(**card), [], hooks
    )


def gives_back() -> FakeModel:
    """What it was given, as far as its window reaches."""
    return FakeModel(lambda rois: rois.reference_hu.clip(-1000, 1000), tiny_card(), [])


def grid(spacing_mm: Sequence[float], turn: np.ndarray | None = None) -> np.ndarray:
    """4x4 affine of voxels of `spacing_mm` along axes turned by a 3x3 matrix, with some origin."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * spacing_mm
    affine[:3, 3] = (-57.0, 31.5, -610.25)
    return affine


def make_ct(shape: Sequence[int] = SHAPE, affine: np.ndarray | None = None, seed: int = 0) -> Volume:
    """Noisy lung with soft structures in it, some bone and some air; int16 HU, stored as NIfTI does."""
    noise = np.random.default_rng(seed).standard_normal((2, *shape))
    structures = gaussian_filter(noise[0], 2)
    hu = -800 + 25 * noise[1] + 400 * structures / structures.std()
    array = np.asfortranarray(np.rint(hu).clip(-1024, 3071).astype(np.int16))
    return Volume(array, grid((1.0, 1.0, 1.5)) if affine is None else affine)


def ball(reference: Volume, centre: Sequence[float], radius_mm: float) -> Volume:
    """A mask: the voxels whose centre is within the radius of an index of the reference."""
    offset_mm = (np.indices(reference.shape).T - np.array(centre)) * reference.spacing_mm
    inside = radius_mm >= np.linalg.norm(offset_mm, axis=-1).T
    return reference.with_array(inside.astype(np.uint8))


def box(reference: Volume, *bounds: tuple[int, int]) -> Volume:
    """A mask: a half-open index box."""
    array = np.zeros(reference.shape, np.uint8)
    array[tuple(slice(low, high) for low, high in bounds)] = 1
    return reference.with_array(array)


def edit_region(mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    """bool: voxel centres nearer than the margin to one of the mask, by a search tree."""
    inside = np.argwhere(mask) * np.array(spacing_mm)
    everywhere = np.indices(mask.shape).reshape(3, -1).T * np.array(spacing_mm)
    distance_mm, _ = cKDTree(inside).query(everywhere, distance_upper_bound=margin_mm + 1)
    return (mask > 0) | (distance_mm < margin_mm).reshape(mask.shape)


def made(reference: Volume, mask: Volume, model: Model | None = None, **request: Any) -> Synthesis:
    """The first variant of a request of two steps."""
    wanted = SynthesisRequest.model_validate({"steps": 2, **request})
    return synthesize(reference, mask, wanted, model or tiny_model())[0]
