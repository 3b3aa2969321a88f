"""What a user asks for, how it is watched, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

from .answers import JobStatus, StoredReference
from .boxes import Box
from .following import OnPreview, OnStatus
from .patience import IsCancelled
from .uploads import Upload
from .wire import OnProgress


@dataclass(frozen=True)
class Order:
    """One synthesis. reference: a CT to send, or the id of one that the server has; params: as the model's
    schema says; inputs: volumes beside CT and mask, by the names in `ModelFacts.inputs`."""

    model: str
    mask: Upload
    reference: Union[Upload, str]
    params: dict[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Upload] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Who is told what, in the thread that does the work. on_phase: "reference", "inputs" (where there are
    any), "queue", "synthesis", "result"; on_upload: (bytes sent, bytes in all), from 0 again for the inputs;
    on_preview: (step, PNG); cancelled: asked often."""

    on_phase: Optional[Callable[[str], None]] = None
    on_upload: Optional[OnProgress] = None
    on_status: Optional[OnStatus] = None
    on_preview: Optional[OnPreview] = None
    cancelled: Optional[IsCancelled] = None

    def phase(self, name: str) -> None:
        if self.on_phase is not None:
            self.on_phase(name)

    def status(self, status: JobStatus) -> None:
        if self.on_status is not None:
            self.on_status(status)


@dataclass(frozen=True)
class Outcome:
    """boxes and their records, in the order of the variants. Without job routes there is only that."""

    boxes: list[Box]
    provenances: "list[dict[str, Any]]"
    job_id: Optional[str] = None
    status: Optional[JobStatus] = None
    reference: Optional[StoredReference] = None
