"""MedSyn (Xu et al. 2024, arXiv:2310.03559): a chest CT with lobes, airways and vessels, in two stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lesionbrush.anatomy.chest.masks import AIRWAYS, AIRWAYS_NAME, VESSELS, VESSELS_NAME
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.core.generate import Frame, Made
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.volume import Volume
from lesionbrush.core.wishes import LesionWish
from lesionbrush.diffusion.denoisers import Denoiser, classifier_free
from lesionbrush.diffusion.guidance import keep_known
from lesionbrush.diffusion.preconditioning import image_from
from lesionbrush.diffusion.samplers import SAMPLERS, Times
from lesionbrush.diffusion.schedules import SCHEDULES
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems.medsyn.card import MedSynCard
from lesionbrush.systems.medsyn.channels import (
    AIRWAY,
    CHANNELS,
    CT,
    LOBE,
    VESSEL,
    WINDOW,
    lobes_from_unit,
    lobes_to_unit,
)
from lesionbrush.systems.medsyn.expected import NOTHING, Expected, enlarge
from lesionbrush.systems.medsyn.field import OURS, stored
from lesionbrush.systems.medsyn.held import HeldChannels, hold
from lesionbrush.systems.medsyn.hooks import HOOKS
from lesionbrush.systems.medsyn.network import MedSynUNets, NetworkParts, StoredUNets
from lesionbrush.systems.medsyn.request import ChestRequest
from lesionbrush.systems.medsyn.text.bert import BertFolder
from lesionbrush.systems.medsyn.text.encoder import TextEncoder
from lesionbrush.systems.medsyn.text.nodules import NoduleWish, take_nodules
from lesionbrush.systems.medsyn.tiles import Mosaic, NoiseField, Tiling, coarse
from lesionbrush.systems.running import (
    SamplingWatch,
    device_name,
    in_channels_last,
    mix_seed,
    pick_device,
    visited_timesteps,
    with_weights,
)

BERT = "LESIONBRUSH_BERT"
OVERLAP, FINER = 16, 4
LEAST_SIGNAL = 0.003
"""Where whole chests begin: what a text decides is so large that a network sees it in much less noise than
usual, and would take what it sees there by chance for the chest."""
NODULES_BY, USUAL_NODULE_MM = "lung_lesion", (8.0, 16.0)


@dataclass(frozen=True)
class ChestJob:
    """One variant. tell: called with the coarse estimate, after every evaluation of a network."""

    request: ChestRequest
    seed: int
    tell: Callable[[Tensor], None]


@dataclass(frozen=True, eq=False)
class HeldWalk:
    """From noise (1, 4, Z, Y, X) down the noise levels, with what is held on the way. expected: what the
    image is said to differ from."""

    noise: Tensor
    timesteps: Times
    held: HeldChannels
    generator: torch.Generator
    expected: Expected


class MedSyn:
    """Trained networks ready to make whole chests."""

    hooks, space = HOOKS, OURS

    def __init__(
        self, card: ModelCard, networks: MedSynUNets, encoder: TextEncoder, device: torch.device
    ) -> None:
        self.card, self.section, self.device = card, MedSynCard.of(card), device
        self.network, self.encoder = in_channels_last(networks.to(device).eval()), encoder
        self.low, self.high = Evaluator(self.network.low), Evaluator(self.network.high)
        self.schedule = SCHEDULES[self.section.schedule](self.section.timesteps)

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MedSyn:
        """Read the weights. WeightsError when they do not fit the networks of the card."""
        section = MedSynCard.of(installed.card)
        facts = section.model_dump(include={"low", "high", "words", "low_side", "residual"})
        networks = with_weights(StoredUNets(NetworkParts(**facts)), installed)
        encoder = networks.encoder or _bert(installed.card, section)
        return cls(installed.card, networks, encoder, pick_device(device))

    @torch.inference_mode()
    def generate(
        self,
        frame: Frame,
        request: ChestRequest,
        inputs: Inputs,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Made:
        """One chest for every seed; see `core.generate.VolumeModel`. InvalidRequest."""
        text, nodules = take_nodules(inputs.text("text") or "")
        remarks = self.read(text, request)
        tokens = self.encoder.encode([text]).to(self.device)
        held = {side: hold(inputs, side, self.space) for side in self.sides(request.size)}
        if names := held[request.size].names:
            remarks += (f"Held as sent: {', '.join(names)}; words against them do nothing there.",)
        watch = SamplingWatch(on_step, on_estimate, len(seeds), self.count_evaluations(request))
        made = []
        for number, seed in enumerate(seeds):
            job = ChestJob(request, seed, watch.part([number], show_ct))
            unit = self.make(job, tokens, held).cpu().numpy()
            made.append(with_our_lobes(unit, self.space.lobes))
        hu = np.stack([stored(WINDOW.from_unit(unit[CT])) for unit in made])
        layouts = [layout_of(unit, frame) for unit in made]
        wishes = [tuple(wish_of(nodule, unit) for nodule in nodules) for unit in made]
        return Made(hu, self.where, layouts, [remarks] * len(seeds), wishes)

    def make(self, job: ChestJob, tokens: Tensor, held: Mapping[int, HeldChannels]) -> Tensor:
        """(4, N, N, N) in [-1, 1]. held: by voxels a side of every stage, the coarsest first."""
        (_, known), *finer = held.items()
        unit = self._low(job, tokens, known)
        for side, known in finer:
            unit = self._high(job, unit, side, known)
        return unit

    @property
    def where(self) -> str:
        """The device, and what evaluates there."""
        return f"{device_name(self.device)} ({self.low.engine(self.device)})"

    def read(self, text: str, request: ChestRequest) -> tuple[str, ...]:
        """What is said of the text. InvalidRequest where no word of it is known."""
        if not text.strip():
            return ("No text steered it: this is a chest of any kind.",)
        reading = self.encoder.read(text)
        if not reading.known:
            raise InvalidRequest(
                f"text: none of its words is known ({', '.join(reading.unknown)}); say for example "
                "'large right pleural effusion, no emphysema, heart enlarged'"
            )
        if request.strength == 0:
            return ("strength 0: the text was left out.",)
        unknown = f" Not known, and so without effect: {', '.join(reading.unknown)}."
        return (f"Words that acted: {', '.join(reading.known)}.{unknown if reading.unknown else ''}",)

    def _low(self, job: ChestJob, tokens: Tensor, held: HeldChannels) -> Tensor:
        """(4, N, N, N) in [-1, 1], N of the card."""
        generator = torch.Generator().manual_seed(mix_seed(job.seed, 0))
        shape = (1, len(CHANNELS), *[self.section.low_side] * 3)
        noise = self.section.temperature * torch.randn(shape, generator=generator).to(self.device)
        strength, expectation = job.request.strength, self.network.expectation

        def expect(times: float) -> Expected:
            return NOTHING if expectation is None else expectation.of_chest(tokens[0], times)

        def ask(text: Tensor, own: Expected) -> Denoiser:
            """Of what differs from `expected`, by a network that is told `own`."""
            everywhere = torch.ones_like(noise[:, :1])
            shown = everywhere if expectation is None else torch.cat((everywhere, own.mean[None]), dim=1)
            moved = own.residual(expected.mean)
            asked = self._denoiser(self.low, shown, text)
            return lambda x, t: asked(x + self.schedule.alpha(t) * moved, t) - moved

        expected = expect(strength)
        guided = classifier_free(
            ask(tokens, expect(1.0)), ask(torch.zeros_like(tokens), expect(0.0)), strength
        )

        def denoise(x: Tensor, t: int) -> Tensor:
            estimate = expected.clamp(guided(x, t))
            job.tell(expected.unit(estimate))
            return estimate

        times = visited_timesteps(self.schedule, job.request.steps, LEAST_SIGNAL)
        walk = HeldWalk(noise, times, held, generator, expected)
        return self._sample(job.request.sampler, denoise, walk)[0]

    def _high(self, job: ChestJob, low: Tensor, side: int, held: HeldChannels) -> Tensor:
        """(4, side, side, side): what is coarser made finer, tile by tile."""
        factor, tiling = side // low.shape[1], self._tiling(side)
        mosaic, field = Mosaic(tiling), NoiseField(mix_seed(job.seed, side), side)
        times = visited_timesteps(self.schedule, job.request.fine_steps)
        expectation = self.network.expectation
        for number, tile in enumerate(tiling.tiles()):
            z, y, x = coarse(tile, factor)
            shown = low[:, z, y, x]
            expected = NOTHING if expectation is None else expectation.of_tile(shown, factor)
            finer = self._denoiser(self.high, enlarge(shown, factor)[None])

            def denoise(x: Tensor, t: int, finer: Denoiser = finer, expected: Expected = expected) -> Tensor:
                job.tell(low[None])
                return expected.clamp(finer(x, t))

            generator = torch.Generator().manual_seed(mix_seed(job.seed, 1000 * side + number))
            noise = self.section.temperature * field.crop(tile).to(self.device)
            walk = HeldWalk(noise, times, held.crop(tile), generator, expected)
            mosaic.add(tile, self._sample(job.request.sampler, denoise, walk)[0].cpu())
        return mosaic.mean().to(self.device)

    def sides(self, size: int) -> list[int]:
        """Voxels a side of the stages up to `size`: four times as many as before, the last perhaps twice."""
        sides: list[int] = [self.section.low_side]
        while sides[-1] < size:
            sides.append(min(size, FINER * sides[-1]))
        return sides

    def count_evaluations(self, request: ChestRequest) -> int:
        """Of either network, for one chest."""
        finer = self.sides(request.size)[1:]
        return request.steps + sum(len(self._tiling(side)) * request.fine_steps for side in finer)

    def _tiling(self, side: int) -> Tiling:
        return Tiling(side, min(self.section.tile, side), self.section.tile - OVERLAP)

    def _denoiser(self, evaluate: Evaluator, *given: Tensor) -> Denoiser:
        """given: what the network is shown, and a text if it reads one."""

        def x_0(x: Tensor, t: int) -> Tensor:
            times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            said = evaluate(x, times, *given)
            return image_from(self.section.prediction, x, said, alpha, sigma, self.section.data_spread)

        return x_0

    def _sample(self, sampler: str, denoise: Denoiser, walk: HeldWalk) -> Tensor:
        """(1, 4, Z, Y, X) in [-1, 1], in which what is held is as it was sent."""
        hooks = []
        if walk.held.names:
            unit, editable = (one.to(walk.noise.device) for one in (walk.held.unit, walk.held.editable))
            known = walk.expected.residual(unit)
            hooks.append(keep_known(known, editable, self.schedule, walk.generator))
        draw = SAMPLERS[sampler]
        residual = draw(
            denoise, walk.noise, self.schedule, walk.timesteps, generator=walk.generator, after_step=hooks
        )
        return walk.expected.unit(residual)


def with_our_lobes(unit: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """(4, Z, Y, X) whose lobes lie at the levels of LOBE_ORDER in place of those of `order`."""
    unit[LOBE] = lobes_to_unit(lobes_from_unit(unit[LOBE], order))
    return unit


def layout_of(unit: np.ndarray, frame: Frame) -> Layout:
    """What is where in (4, Z, Y, X): vessels over airways over lobes, in one volume."""
    labels = lobes_from_unit(unit[LOBE])
    labels[unit[AIRWAY] > 0] = AIRWAYS
    labels[unit[VESSEL] > 0] = VESSELS
    names = {**LOBES, AIRWAYS: AIRWAYS_NAME, VESSELS: VESSELS_NAME}
    present = {number: name for number, name in names.items() if (labels == number).any()}
    return Layout(Volume(stored(labels), frame.affine), present)


def wish_of(nodule: NoduleWish, unit: np.ndarray) -> LesionWish:
    """A nodule is smaller than the voxels that a text acts on (Sec. VI of the paper): another model makes it,
    where in (4, Z, Y, X) its lobe is."""
    diameter_mm = nodule.diameter_mm
    known = (f"{diameter_mm:g} mm" if diameter_mm else None, nodule.texture, nodule.lobe or nodule.side)
    said = ", ".join(part for part in known if part)
    wanted = [number for number, name in LOBES.items() if _lies_in(nodule, name)]
    place = np.isin(lobes_from_unit(unit[LOBE]), wanted) & (unit[AIRWAY] < 0)
    return LesionWish(
        f"nodule ({said})" if said else "nodule",
        NODULES_BY,
        (diameter_mm, diameter_mm) if diameter_mm else USUAL_NODULE_MM,
        {"texture": nodule.texture.replace("-", "_")} if nodule.texture else {},
        stored(place),
    )


def _lies_in(nodule: NoduleWish, lobe: str) -> bool:
    """Of a lobe that is not told apart, the whole lung counts too."""
    if nodule.lobe is None:
        return nodule.side is None or lobe.startswith(nodule.side)
    return lobe == nodule.lobe


def show_ct(unit: Tensor) -> np.ndarray:
    """(Z, Y, X) HU of the first of (B, 4, Z, Y, X)."""
    hu: np.ndarray = WINDOW.from_unit(unit[0, CT].cpu().numpy())
    return hu


def _bert(card: ModelCard, section: MedSynCard) -> BertFolder:
    folder = os.environ.get(BERT)
    if not folder:
        raise WeightsError(
            f"{card.name!r} reads texts by a BERT that does not come with it: set {BERT} to its folder"
        )
    if (tokens := section.padded_tokens) is not None:
        return BertFolder(Path(folder), tokens, padded=True)
    return BertFolder(Path(folder))
