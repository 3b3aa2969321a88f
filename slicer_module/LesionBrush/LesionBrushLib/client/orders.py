"""What a user asks for, how it is watched, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

from .answers import JobStatus, StoredReference
from .boxes import Array, Box
from .following import OnPreview, OnStatus
from .inputs import Input
from .patience import IsCancelled
from .uploads import Upload
from .wire import OnProgress


@dataclass(frozen=True)
class Order:
    """One synthesis. mask and reference: of an edit, some of which need no mask; a whole new CT has neither.
    reference: a CT to send, or the id of one that the server has; params: as the model's schema says; inputs:
    what goes beside CT and mask, by the names in `ModelFacts.takes`; record: of a reference that is synthetic
    itself."""

    model: str
    mask: Optional[Upload] = None
    reference: Union[Upload, str, None] = None
    params: dict[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    record: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class Watch:
    """Who is told what, in the thread that does the work. on_phase: "reference" (of an edit), "inputs" (where
    there are any), "queue", "synthesis", "result"; on_upload: (bytes sent, bytes in all), from 0 again for
    the inputs; on_preview: (step, PNG); cancelled: asked often."""

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


@dataclass(frozen=True, eq=False)
class Labels:
    """What is where in a generated CT. array: (i, j, k) whole numbers on its grid; names: {1: "body"}."""

    array: Array
    names: "dict[int, str]"


@dataclass(frozen=True, eq=False)
class GeneratedCT:
    """A whole new CT. array: int16 HU (i, j, k); affine: 4x4, voxel index -> RAS mm; labels: if known."""

    array: Array
    affine: Array
    labels: Optional[Labels] = None


@dataclass(frozen=True)
class Outcome:
    """boxes of an edit, or volumes of a generation, and their records, in the order of the variants that
    were not discarded; numbers: the server's, for `JobClient.download_volume`, `labels`, `accept`, ..."""

    provenances: "list[dict[str, Any]]"
    job_id: str
    boxes: list[Box] = field(default_factory=list)
    volumes: list[GeneratedCT] = field(default_factory=list)
    numbers: "tuple[int, ...]" = ()
    status: Optional[JobStatus] = None
    reference: Optional[StoredReference] = None
