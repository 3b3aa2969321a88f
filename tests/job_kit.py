"""What tests of the job client share: an order, and someone who watches."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from job_fake import CT
from LesionBrushLib.client import JobStatus, Order, Patience, Watch, ct_upload, mask_upload

QUICK = Patience(silent_s=2.0, lost_s=1.0, first_wait_s=0.02, longest_wait_s=0.1)
AFFINE = np.eye(4)


def order(**changes: Any) -> Order:
    mask = np.zeros(CT.shape, np.uint8)
    mask[4:6, 3:5, 2:4] = 1
    made = {"model": "lung", "mask": mask_upload(mask, AFFINE), "reference": ct_upload(CT, AFFINE)}
    return Order(**{**made, "params": {"seed": 5}, **changes})


class Seen:
    """What a watcher was told, and by which thread."""

    def __init__(self, cancel_when: Any = None) -> None:
        self.phases: list[str] = []
        self.uploads: list[tuple[int, int]] = []
        self.statuses: list[JobStatus] = []
        self.previews: list[tuple[int, bytes]] = []
        self.threads: set[int] = set()
        self.cancel = threading.Event()
        self.cancel_when = cancel_when

    def _note(self, memory: list[Any], item: Any) -> None:
        memory.append(item)
        self.threads.add(threading.get_ident())
        if self.cancel_when is not None and self.cancel_when(item):
            self.cancel.set()

    @property
    def watch(self) -> Watch:
        return Watch(
            on_phase=lambda name: self._note(self.phases, name),
            on_upload=lambda sent, total: self._note(self.uploads, (sent, total)),
            on_status=lambda status: self._note(self.statuses, status),
            on_preview=lambda step, png: self._note(self.previews, (step, png)),
            cancelled=self.cancel.is_set,
        )
