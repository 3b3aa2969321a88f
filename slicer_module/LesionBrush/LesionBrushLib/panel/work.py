"""What the thread does for a synthesis. No Qt, no MRML: a shipment goes in, boxes or volumes come out."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ..client.errors import Cancelled
from ..client.orders import Outcome, Watch

MB = 1_000_000
PHASES = {
    "reference": "Looking for the CT on the server",
    "inputs": "Sending the other volumes",
    "queue": "Waiting for the server",
    "synthesis": "Synthesizing",
    "result": "Fetching the result",
}


TENTHS_BELOW_S = 9.95
STAYS = "It stays GENERATED: it was painted into a CT that shows nobody."
Report = Callable[[Any], None]


def seconds_words(seconds: float) -> str:
    """`8.4 s`, and from ten on `12 s`."""
    return f"{seconds:.{1 if seconds < TENTHS_BELOW_S else 0}f} s"


@dataclass(frozen=True)
class Ask:
    """What the user asked for. image_id: the CT as the server knows it, else its voxels are sent."""

    model: str
    params: dict[str, Any]
    image_id: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of it, after so many seconds."""

    outcome: Outcome
    seconds: float

    @property
    def remarks(self) -> "tuple[str, ...]":
        """What the user should know of the variants, each once."""
        records = self.outcome.provenances
        said = [str(remark) for record in records for remark in record.get("remarks") or ()]
        stays = any(record.get("generated") for record in records) and self.outcome.boxes
        return tuple(dict.fromkeys([*said, *([STAYS] if stays else [])]))


@dataclass(frozen=True)
class Preview:
    """A PNG of the lesion in the making."""

    step: int
    png: bytes


@dataclass(frozen=True)
class Sent:
    """Bytes that are on their way."""

    sent: int
    total: int


@dataclass(frozen=True)
class Phase:
    """One of PHASES begins."""

    name: str


def synthesis(client: Any, shipment: Any, ask: Ask) -> Callable[[threading.Event, Report], Answer]:
    """The work for one synthesis. It reports Phase, Sent, Preview and the client's JobStatus."""

    def work(cancelled: threading.Event, report: Report) -> Answer:
        began = time.monotonic()
        order = shipment.order(ask.model, ask.params, ask.image_id)
        report(Phase("reference" if order.reference else "queue"))
        if cancelled.is_set():
            raise Cancelled("cancelled before anything was sent")
        return Answer(client.synthesize(order, _watch(cancelled, report)), time.monotonic() - began)

    return work


def picking_up(client: Any, job_id: str) -> Callable[[threading.Event, Report], Answer]:
    """The work for the rest of a synthesis whose connection was lost."""

    def work(cancelled: threading.Event, report: Report) -> Answer:
        began = time.monotonic()
        return Answer(client.resume(job_id, _watch(cancelled, report)), time.monotonic() - began)

    return work


def making_more(
    client: Any, job_id: str, number: int, like: "dict[str, Any]"
) -> Callable[[threading.Event, Report], Any]:
    """The work for more cases like a variant, see `JobClient.make_cohort`."""

    def work(cancelled: threading.Event, report: Report) -> Any:
        return client.make_cohort(job_id, number, like, _watch(cancelled, report))

    return work


def _watch(cancelled: threading.Event, report: Report) -> Watch:
    return Watch(
        on_phase=lambda name: report(Phase(name)),
        on_upload=lambda sent, total: report(Sent(sent, total)),
        on_status=report,
        on_preview=lambda step, png: report(Preview(step, png)),
        cancelled=cancelled.is_set,
    )


MAGIC = ((b"\x1f\x8b", ".nii.gz"), (b"NRRD", ".nrrd"), (b"ObjectType", ".mha"), (b"NDims", ".mha"))
NIFTI_SIZES = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")


def fetching(client: Any, image: str, folder: Path) -> Callable[[threading.Event, Report], Path]:
    """The work to get a CT of the server into a folder, under a name that says its type."""

    def work(cancelled: threading.Event, report: Report) -> Path:
        path = client.download_image(image, folder / "ct", cancelled=cancelled.is_set)
        named = path.with_name(f"ct{file_suffix(path)}")
        path.rename(named)
        return named

    return work


def file_suffix(path: Path) -> str:
    """The type of a volume by its first bytes; the server does not name it. ValueError for any other file."""
    with path.open("rb") as file:
        head = file.read(16)
    known = next((suffix for magic, suffix in MAGIC if head.startswith(magic)), None)
    if known is None and head[:4] in NIFTI_SIZES:
        known = ".nii"
    if known is None:
        raise ValueError(
            "the server sent a file that is no NIfTI, NRRD or MetaImage: load this CT from elsewhere"
        )
    return known


@dataclass
class Progress:
    """The news of one job as a sentence and a bar. percent: None while the length is unknown."""

    clock: Callable[[], float] = time.monotonic
    text: str = PHASES["reference"]
    percent: Optional[int] = None
    preview: Optional[bytes] = None
    remarks: tuple[str, ...] = ()
    began: float = field(init=False)
    _what: str = field(default="the CT", init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def sentence(self) -> str:
        """The text with the seconds that have passed, so that a user sees it lives."""
        return f"{self.text} ({seconds_words(self.clock() - self.began)})"

    def take(self, news: Any) -> None:
        """One Phase, Sent, Preview or JobStatus."""
        if isinstance(news, Phase):
            self.text, self.percent = PHASES.get(news.name, news.name), None
            self._what = "the other volumes" if news.name == "inputs" else "the CT"
        elif isinstance(news, Sent):
            self.percent = int(100 * news.sent / max(news.total, 1))
            self.text = f"Sending {self._what}: {news.sent / MB:.0f} of {news.total / MB:.0f} MB"
        elif isinstance(news, Preview):
            self.preview = news.png
        else:
            self._status(news)

    def _status(self, status: Any) -> None:
        self.remarks = tuple(status.remarks)
        if status.state == "queued":
            before = status.position or 0
            self.percent = None
            self.text = f"Waiting: {before} before you" if before else "Waiting: you are next"
            if status.estimated_seconds is not None:
                self.text += f", then about {seconds_words(status.estimated_seconds)}"
        elif status.state == "running" and status.steps:
            left = status.seconds_left
            self.percent = int(100 * status.step / status.steps)
            self.text = f"Step {status.step} of {status.steps}"
            self.text += f", about {seconds_words(left)} left" if left is not None else ""
        elif status.state == "running":
            self.text, self.percent = PHASES["synthesis"], None
