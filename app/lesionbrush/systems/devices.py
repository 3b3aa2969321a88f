"""Where a model runs, in which precision, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from lesionbrush.errors import InvalidRequest


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


def half_precision(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 where the hardware multiplies it faster than float32; the same answer on every call."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    fast = fast or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


AT_ONCE_ON_CPU = 8


class OutOfMemoryFallback:
    """Runs a batch in as few parts as memory allows: all at once, halves, single items, then on the CPU.

    A CPU gets `at_once_on_cpu` items at a time from the start: more are no faster there, and the operating
    system ends a process that takes too much memory instead of raising an error.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, at_once_on_cpu: int = AT_ONCE_ON_CPU
    ) -> None:
        self.network, self.device, self.at_once_on_cpu = network, device, at_once_on_cpu

    def run(self, items: Sequence[int], sample: Callable[[Sequence[int], torch.device], Tensor]) -> RunResult:
        """`sample` gets a part of `items` and the device, and returns its results along the first axis."""
        most = part = len(items) if self.device.type == "cuda" else min(len(items), self.at_once_on_cpu)
        while True:
            try:
                done = [sample(items[k : k + part], self.device) for k in range(0, len(items), part)]
                return RunResult(torch.cat(done), self.device, _remark(part, most))
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
        self.network.to(cpu)
        try:
            done = [sample(items[k : k + 1], cpu) for k in range(len(items))]
        finally:
            self.network.to(self.device)
        return RunResult(
            torch.cat(done), cpu, ("The GPU's memory was too small for one variant; ran on the CPU.",)
        )


class RunResult:
    """Results of a run, the device it ended on, and remarks for the user."""

    def __init__(self, results: Tensor, device: torch.device, remarks: tuple[str, ...]) -> None:
        self.results, self.device, self.remarks = results, device, remarks


def _remark(part: int, total: int) -> tuple[str, ...]:
    if part == total:
        return ()
    return (f"The GPU's memory was too small for {total} samples at once; ran {part} at a time.",)
