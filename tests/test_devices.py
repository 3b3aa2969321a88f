"""Where a model runs, and what happens when memory runs out. The GPU here is a fake one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from core_fixtures import QUICK, ball, make_ct, tiny_card, tiny_model, tiny_network
from lesionbrush.core.synthesize import synthesize
from lesionbrush.engines.pytorch import PyTorchEngine
from lesionbrush.errors import Cancelled
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.running import AT_ONCE_ON_CPU, OutOfMemoryFallback, pick_device
from torch import Tensor

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class FakeNetwork:
    """Remembers where it was moved; the evaluator of itself."""

    remarks = ()

    def __init__(self) -> None:
        self.places: list[str] = []
        self.network = self

    def engine(self, device: torch.device) -> str:
        return "fake"

    def to(self, device: torch.device) -> None:
        self.places.append(device.type)


class SmallGpu:
    """A sampler that runs out of memory above `room` items on the GPU; items become ten times themselves."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, list[tuple[int, str]]()

    def __call__(self, part: Sequence[int], device: torch.device) -> Tensor:
        self.calls.append((len(part), device.type))
        if device.type == "cuda" and len(part) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake one)")
        return torch.tensor([[10 * k] for k in part])


def ran(room: int, items: int = 10, device: torch.device = CUDA):
    network, sample = FakeNetwork(), SmallGpu(room)
    result = OutOfMemoryFallback(network, device).run(range(items), sample)
    assert result.results[:, 0].tolist() == [10 * k for k in range(items)]
    return result, sample, network


def test_what_fits_runs_at_once_and_there_is_nothing_to_say() -> None:
    result, sample, network = ran(room=10)
    assert sample.calls == [(10, "cuda")]
    assert (result.device, result.remarks, network.places) == (CUDA, (), [])


def test_what_does_not_fit_runs_in_halves() -> None:
    result, sample, _ = ran(room=5)
    assert sample.calls == [(10, "cuda"), (5, "cuda"), (5, "cuda")]
    assert result.device == CUDA
    assert result.remarks == ("The GPU's memory was too small for 10 samples at once; ran 5 at a time.",)


def test_what_does_not_fit_in_halves_runs_one_by_one() -> None:
    result, sample, _ = ran(room=1)
    assert [size for size, _ in sample.calls] == [10, 5, 3, 2] + [1] * 10
    assert "1 at a time" in result.remarks[0]


@pytest.mark.parametrize("items", [1, 4])
def test_what_does_not_fit_at_all_runs_on_the_cpu_and_the_network_comes_back(items: int) -> None:
    result, sample, network = ran(room=0, items=items)
    assert sample.calls[-items:] == [(1, "cpu")] * items
    assert network.places == ["cpu", "cuda"]
    assert result.device == CPU
    assert result.remarks == ("The GPU's memory was too small for one variant; ran on the CPU.",)


def test_a_cpu_gets_a_few_at_a_time_and_no_remark_about_a_gpu() -> None:
    result, sample, _ = ran(room=0, items=AT_ONCE_ON_CPU + 2, device=CPU)
    assert sample.calls == [(AT_ONCE_ON_CPU, "cpu"), (2, "cpu")]
    assert (result.device, result.remarks) == (CPU, ())


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def stop(part: Sequence[int], device: torch.device) -> Tensor:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        OutOfMemoryFallback(FakeNetwork(), CUDA).run(range(4), stop)


def test_cancelling_on_the_cpu_still_brings_the_network_back() -> None:
    def stop(part: Sequence[int], device: torch.device) -> Tensor:
        raise torch.cuda.OutOfMemoryError("no") if device == CUDA else Cancelled("enough")

    network = FakeNetwork()
    with pytest.raises(Cancelled):
        OutOfMemoryFallback(network, CUDA).run(range(2), stop)
    assert network.places == ["cpu", "cuda"]


def test_remarks_reach_the_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    original, failed = OutOfMemoryFallback.run, []

    def run(self, items, sample):
        def small(part, device):
            if len(part) > 1:
                failed.append(len(part))
                raise torch.cuda.OutOfMemoryError("a fake one")
            return sample(part, device)

        return original(self, items, small)

    reference = make_ct()
    request = QUICK.model_copy(update={"variants": 3})
    mask = ball(reference, (20, 17, 14), 5.0)
    expected = synthesize(reference, mask, request, tiny_model())
    monkeypatch.setattr(OutOfMemoryFallback, "run", run)
    found = synthesize(reference, mask, request, tiny_model())
    assert failed == [3, 2]
    assert "ran 1 at a time" in found[0].provenance.remarks[0]
    assert all(np.abs(a.box.astype(int) - b.box).max() <= 1 for a, b in zip(expected, found, strict=True))


def test_the_device_that_was_asked_for_is_taken() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device(None) == (CUDA if torch.cuda.is_available() else CPU)


def test_half_precision_is_near_enough_to_single() -> None:
    """Relative difference of the network's output."""
    network = tiny_network()
    x, conditions, attributes = (
        torch.randn(1, 1, 16, 16, 16),
        torch.randn(1, 3, 16, 16, 16),
        torch.ones(1, 2 * len(ATTRIBUTES)),
    )
    level = torch.tensor([0.5])
    with torch.inference_mode():
        single = network(x, level, level, conditions, attributes)
        half = PyTorchEngine(network, "bfloat16")(x, level, level, conditions, attributes)
    assert half.dtype == single.dtype == torch.float32
    assert float((half - single).norm() / single.norm()) < 0.02


@pytest.mark.gpu
def test_a_gpu_paints_the_same_as_a_cpu() -> None:
    """Same noise, drawn on the CPU; bfloat16 arithmetic differs between the two."""
    reference = make_ct()
    mask = ball(reference, (20, 17, 14), 5.0)
    on_gpu = LesionInpainting(tiny_card(), tiny_network(), CUDA)
    found, expected = (synthesize(reference, mask, QUICK, model)[0].box for model in (on_gpu, tiny_model()))
    assert np.abs(found.astype(int) - expected).mean() < 10
    assert np.array_equal(found, synthesize(reference, mask, QUICK, on_gpu)[0].box)
