"""Who is told how a sampling goes: steps counted over all parts of a batch, estimates of the first item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lesionbrush.core.synthesize import OnEstimate, OnStep


@dataclass(frozen=True)
class Watch:
    """items: samples in all; evaluations: of the network, for each of them."""

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
