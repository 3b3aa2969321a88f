"""What all networks do alike when they run: weights, device, precision, memory, tiles, seeds, progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel
from lesionbrush.core.rois import RoiBatch
from lesionbrush.diffusion.denoisers import Denoiser
from lesionbrush.diffusion.schedules import NoiseSchedule, timesteps
from lesionbrush.engines.evaluator import Evaluator
from lesionbrush.errors import InvalidRequest, WeightsError

Network = TypeVar("Network", bound=nn.Module)
AT_ONCE_ON_CPU = 8
TILE_OVERLAP = 0.25
LEAST_SIGNAL = 0.02
"""Sampling starts where this much of the signal is left: below it, steps of even log-SNR do nothing."""


# --- weights and devices ---


def with_weights(network: Network, installed: InstalledModel) -> Network:
    """The network with the weights of a model. WeightsError when they do not fit."""
    try:
        network.load_state_dict(load_file(installed.weights))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise WeightsError(
            f"the weights of {installed.card.name!r} do not fit its network: {error}"
        ) from error
    return network


def pick_device(wanted: str | None) -> torch.device:
    """The device asked for, or CUDA when there is one. InvalidRequest for one that is not there."""
    if not wanted:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if wanted not in there and not (wanted == "cuda" and len(there) > 1):
        raise InvalidRequest(f"device {wanted!r}: this machine has {', '.join(there)}; name one of them")
    return torch.device(wanted)


def device_name(device: torch.device) -> str:
    """As it is written into a record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def in_channels_last(network: Network) -> Network:
    """The same network, its weights in the order of memory in which 3D convolutions are fast."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 5:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last_3d)
    return network


class RunResult(NamedTuple):
    """Results of a run, the device and the engine it ended on, and remarks for the user."""

    results: Tensor
    device: torch.device
    engine: str
    remarks: tuple[str, ...]

    @property
    def where(self) -> str:
        """As records name it."""
        return f"{device_name(self.device)} ({self.engine})"


class OutOfMemoryFallback:
    """Runs a batch in as few parts as memory allows: all at once, halves, single items, then on the CPU.

    A CPU gets `at_once_on_cpu` items at a time from the start: more are no faster there, and the operating
    system ends a process that takes too much memory instead of raising an error.
    """

    def __init__(
        self, evaluate: Evaluator, device: torch.device, at_once_on_cpu: int = AT_ONCE_ON_CPU
    ) -> None:
        self.evaluate, self.device, self.at_once_on_cpu = evaluate, device, at_once_on_cpu

    def run(self, items: Sequence[int], sample: Callable[[Sequence[int], torch.device], Tensor]) -> RunResult:
        """`sample` gets a part of `items` and the device, and returns its results along the first axis."""
        most = part = len(items) if self.device.type == "cuda" else min(len(items), self.at_once_on_cpu)
        while True:
            try:
                done = [sample(items[k : k + part], self.device) for k in range(0, len(items), part)]
                return self._result(done, self.device, _remark(part, most))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if part == 1:
                    break
                part = (part + 1) // 2
        return self._on_cpu(items, sample)

    def _on_cpu(
        self, items: Sequence[int], sample: Callable[[Sequence[int], torch.device], Tensor]
    ) -> RunResult:
        cpu = torch.device("cpu")
        self.evaluate.network.to(cpu)
        try:
            done = [sample(items[k : k + 1], cpu) for k in range(len(items))]
        finally:
            self.evaluate.network.to(self.device)
        return self._result(done, cpu, ("The GPU's memory was too small for one variant; ran on the CPU.",))

    def _result(self, done: list[Tensor], device: torch.device, remarks: tuple[str, ...]) -> RunResult:
        engine = str(self.evaluate.engine(device))
        return RunResult(torch.cat(done), device, engine, remarks + self.evaluate.remarks)


def _remark(part: int, total: int) -> tuple[str, ...]:
    if part == total:
        return ()
    return (f"The GPU's memory was too small for {total} samples at once; ran {part} at a time.",)


# --- batches ---


def as_batch(array: np.ndarray, chosen: Sequence[int], device: torch.device) -> Tensor:
    """(N, ...) to (B, 1, ...) float32: the chosen items, one channel each."""
    return torch.from_numpy(array[list(chosen)].astype(np.float32))[:, None].to(device)


def in_tiles(predict: Callable[[Tensor], Tensor], inputs: Tensor, tile: int) -> Tensor:
    """`predict` on the whole (B, C, Z, Y, X) box, or for larger ones the mean over overlapping tiles.

    All tiles share each step's x, so a large lesion is sampled jointly, never cut
    (Bar-Tal et al. 2023, arXiv:2302.08113).
    """
    if max(inputs.shape[2:]) <= tile:
        return predict(inputs)
    from monai.inferers import sliding_window_inference  # loads all of MONAI: seconds that few requests need

    size = [min(side, tile) for side in inputs.shape[2:]]
    tiled = sliding_window_inference(inputs, size, 1, predict, overlap=TILE_OVERLAP, mode="gaussian")
    return cast(Tensor, tiled)


def lesion_generators(rois: RoiBatch, items: Sequence[tuple[int, int]]) -> list[torch.Generator]:
    """One per item (seed, number of the lesion), whatever else is in the batch; see `RoiBatch.entropy`."""
    return [torch.Generator().manual_seed(mix_seed(*rois.entropy(*item))) for item in items]


def mix_seed(seed: int, lesion: int) -> int:
    """One number from two, so that neighbouring seeds and lesions share nothing."""
    return int(np.random.SeedSequence((seed, lesion)).generate_state(1)[0])


# --- noise levels ---


def visited_timesteps(schedule: NoiseSchedule, steps: int, signal: float = LEAST_SIGNAL) -> Tensor:
    """The noise levels a request visits, from where so much of the signal is left. InvalidRequest when it
    wants more than there are."""
    start = first_timestep(schedule, signal)
    if steps > start + 1:
        raise InvalidRequest(f"steps: this model has {start + 1} noise levels, choose no more (got {steps})")
    return timesteps(schedule, steps, t_start=start)


def first_timestep(schedule: NoiseSchedule, signal: float = LEAST_SIGNAL) -> int:
    """The noisiest timestep whose signal amplitude is at least `signal`."""
    return int((schedule.alphas_bar.sqrt() >= signal).sum()) - 1


# --- progress ---


@dataclass(frozen=True)
class SamplingWatch:
    """Who is told how a sampling goes. items: samples in all; evaluations: of the network, for each."""

    on_step: OnStep
    on_estimate: OnEstimate | None
    items: int
    evaluations: int

    def part(self, items: Sequence[int], show: Callable[[Tensor], np.ndarray]) -> Callable[[Tensor], None]:
        """For the samples with these numbers: what to call with every (B, 1, Z, Y, X) estimate.

        show: makes the (Z, Y, X) HU of the first item. The caller of `on_step` may raise to cancel.
        """
        before, size = items[0], len(items)
        done = 0

        def after(estimate: Tensor) -> None:
            nonlocal done
            done += 1
            if self.on_estimate is not None and before == 0:
                self.on_estimate(show(estimate))
            self.on_step(before * self.evaluations + done * size, self.items * self.evaluations)

        return after

    def over(self, denoise: Denoiser, items: Sequence[int], show: Callable[[Tensor], np.ndarray]) -> Denoiser:
        """The same denoiser, of whose every estimate `part` hears."""
        tell = self.part(items, show)

        def watched(x: Tensor, t: int) -> Tensor:
            estimate = denoise(x, t)
            tell(estimate)
            return estimate

        return watched
