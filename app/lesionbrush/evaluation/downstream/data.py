"""The real lesions of a run and the CTs that made ones are put into, of both sides of a split by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionbrush.evaluation.cases import Nodule, load_nodules
from lesionbrush.evaluation.downstream.samples import LUNG_WINDOW_HU, WindowHu
from lesionbrush.evaluation.hosts import Host, load_hosts
from lesionbrush.training.split import is_validation

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class DownstreamData:
    """training, tested: lesions of patients on either side; hosts: CTs of training patients; window_hu: what
    the networks see."""

    training: Sequence[Nodule]
    tested: Sequence[Nodule]
    hosts: Sequence[Host]
    window_hu: WindowHu = LUNG_WINDOW_HU


def read_shared(data: Path, count: int = 0) -> DownstreamData:
    """Of our own layout, held out as the generator's own training holds out. count: lesions of either side
    at most, 0 for all. FileNotFoundError where there are none."""
    training, tested = (load_nodules(data, validation=side, count=count) for side in (False, True))
    hosts = [host for host in load_hosts(data) if not is_validation(host.name)]
    return DownstreamData(training, tested, hosts)
