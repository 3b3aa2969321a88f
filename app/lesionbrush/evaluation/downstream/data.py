"""The real lesions of a run and the CTs that made ones are put into, of both sides of a split by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionbrush.evaluation.cases import Nodule, load_nodules
from lesionbrush.evaluation.downstream.clear import clear_boxes
from lesionbrush.evaluation.downstream.samples import LUNG_WINDOW_HU, LesionBox, WindowHu
from lesionbrush.evaluation.hosts import Host, load_hosts
from lesionbrush.training.split import is_validation

Say = Callable[[str], None]
CLEAR_PER_CHEST = 36


@dataclass(frozen=True, eq=False)
class DownstreamData:
    """training, tested: lesions of patients on either side; hosts: CTs of training patients; clear_training,
    clear_tested: boxes without a lesion; window_hu: what the networks see."""

    training: Sequence[Nodule]
    tested: Sequence[Nodule]
    hosts: Sequence[Host]
    clear_training: Sequence[LesionBox]
    clear_tested: Sequence[LesionBox]
    window_hu: WindowHu = LUNG_WINDOW_HU


def read_shared(data: Path, count: int = 0) -> DownstreamData:
    """Of our own layout, held out as the generator's own training holds out. count: lesions of either side
    at most, 0 for all. FileNotFoundError where there are none."""
    training, tested = (load_nodules(data, validation=side, count=count) for side in (False, True))
    sides: dict[bool, list[Host]] = {False: [], True: []}
    for host in load_hosts(data):
        sides[is_validation(host.name)].append(host)
    clear = {side: _clear_of(hosts) for side, hosts in sides.items()}
    return DownstreamData(training, tested, sides[False], clear[False], clear[True])


def _clear_of(hosts: Sequence[Host]) -> list[LesionBox]:
    rng = np.random.default_rng(0)
    return [box for host in hosts for box in clear_boxes(host, host.name, CLEAR_PER_CHEST, rng)]
