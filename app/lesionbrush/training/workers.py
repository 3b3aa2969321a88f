"""Batches from several processes, for a GPU that would otherwise wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lesionbrush.training.loop import BatchT, Draws

WAITING_PER_WORKER = 4


class Workers(Generic[BatchT]):
    """As the source it is given, but drawn ahead by `count` processes, each with a generator of its own.

    The same generator and count give the same batches in the same order.
    """

    def __init__(self, source: Draws[BatchT], generator: np.random.Generator, count: int) -> None:
        self.rng = generator
        seeds = generator.integers(2**63, size=count).tolist()
        loader = DataLoader(
            _Endless(source, seeds), batch_size=None, num_workers=count, prefetch_factor=WAITING_PER_WORKER
        )
        self._batches = iter(loader)

    def draw(self) -> BatchT:
        batch: BatchT = next(self._batches)
        return batch


class _Endless(IterableDataset):
    """What one worker does: draw for ever, from the seed with its number."""

    def __init__(self, source: Draws[object], seeds: Sequence[int]) -> None:
        self.source, self.seeds = source, seeds

    def __iter__(self) -> Iterator[object]:
        worker = get_worker_info()
        assert worker is not None  # there is no iteration in the process that trains
        self.source.rng = np.random.default_rng(self.seeds[worker.id])
        while True:
            yield self.source.draw()
