"""Watching a job until it ends: by events, by asking again and again where there are none."""

import base64
import json
import time
from typing import Callable, Optional

from .answers import JobStatus
from .errors import Cancelled, ServerError, ServerUnreachable
from .events import Event, EventStream, StreamEnded
from .patience import LOOK_S, Backoff, IsCancelled, Patience, interruptible, pause, stop_if
from .transport import Call, Transport

OnStatus = Callable[[JobStatus], None]
OnPreview = Callable[[int, bytes], None]

SILENT_STREAM_S = 15.0
"""The server says that it is alive every 10 s."""
FIRST_EVENT_S = 3.0
"""It comes at once; where it does not, something on the way holds events back."""
POLL_S, POLL_QUEUED_S, POLL_PREVIEW_S = 0.3, 1.0, 1.0
NO_STREAM = (403, 404, 405, 406, 501)
TELL_TIMEOUT_S = 5.0


class Follower:
    """One job. Callbacks are called in the thread that calls `run`."""

    def __init__(self, transport: Transport, path: str, patience: Patience) -> None:
        self.transport, self.path, self.patience = transport, path, patience
        self.on_status: Optional[OnStatus] = None
        self.on_preview: Optional[OnPreview] = None
        self.cancelled: Optional[IsCancelled] = None
        self._last: Optional[JobStatus] = None
        self._last_id, self._polling, self._barren = "", False, 0
        self._preview_step, self._preview_at = -1, 0.0

    def run(self) -> JobStatus:
        """The last status. Raises Cancelled, ServerError, ServerUnreachable once patience is gone."""
        self._backoff = Backoff(self.patience, self.cancelled)
        while self._last is None or not self._last.finished:
            try:
                if self._polling:
                    self._poll()
                else:
                    self._stream()
            except (ServerUnreachable, ServerError) as error:
                self._backoff.pause(error)
        return self._last

    def _stream(self) -> None:
        """One connection, until it ends. Where two in a row bring nothing, this server is asked instead."""
        if self._barren:
            self._learn()
        timeout_s = min(self.patience.silent_s, SILENT_STREAM_S)
        stream = EventStream(self.transport, f"{self.path}/events", self._last_id, timeout_s)
        self._barren += 1
        try:
            self._listen(stream)
        except StreamEnded as ended:
            self._polling = ended.refused
            pause(self.patience.first_wait_s, self.cancelled)
        except ServerError as error:
            if error.status not in NO_STREAM:
                raise
            self._polling = True  # which tells whether it is the stream or the job that is unknown
        finally:
            self._polling = self._polling or self._barren > 1
            stream.close()

    def _listen(self, stream: EventStream) -> None:
        began = time.monotonic()
        while self._last is None or not self._last.finished:
            stop_if(self.cancelled)
            event = stream.next(LOOK_S)
            if event is not None:
                self._barren = 0
                self._take(event)
            elif self._barren and time.monotonic() - began > FIRST_EVENT_S:
                raise StreamEnded(refused=True)

    def _take(self, event: Event) -> None:
        self._backoff.heard()
        self._last_id = event.id or self._last_id
        try:
            said = json.loads(event.data)
            if event.name == "preview":
                step, png = int(said["step"]), base64.b64decode(said["png"], validate=True)
            elif event.name == "status":
                status = JobStatus.from_json(said)
        except (ValueError, KeyError, TypeError) as error:
            raise ServerUnreachable(
                f"{self.transport.url} sent an event that is none ({type(error).__name__}): "
                "look into the log of the server"
            ) from error
        if event.name == "preview":
            self._show(step, png)
        elif event.name == "status":
            self._tell(status)

    def _poll(self) -> None:
        self._learn()
        if self._last is None or self._last.finished:
            return
        due = time.monotonic() - self._preview_at > POLL_PREVIEW_S and self._last.step > self._preview_step
        if self.on_preview is not None and self._last.state == "running" and due:
            self._preview_at = time.monotonic()
            png = interruptible(lambda: fetch_preview(self.transport, self.path), self.cancelled)
            if png is not None:
                self._show(self._last.step, png)
        pause(POLL_QUEUED_S if self._last.state == "queued" else POLL_S, self.cancelled)

    def _learn(self) -> None:
        """Ask where the job stands."""
        call = Call("GET", self.path, timeout_s=self.patience.silent_s)
        try:
            status = interruptible(lambda: self.transport.ask(call, JobStatus.from_json), self.cancelled)
        except ServerError as error:
            if error.status != 404:
                raise
            raise ServerError(404, "job_lost", JOB_LOST) from error
        self._backoff.heard()
        if status != self._last:
            self._tell(status)

    def _tell(self, status: JobStatus) -> None:
        self._last = status
        if self.on_status is not None:
            self.on_status(status)

    def _show(self, step: int, png: bytes) -> None:
        self._preview_step = step
        if self.on_preview is not None:
            self.on_preview(step, png)


JOB_LOST = (
    "the server does not know this job any more: it was restarted, or has cleared an old job away. "
    "Nothing of yours was changed; synthesize again"
)


def fetch_preview(transport: Transport, path: str) -> Optional[bytes]:
    """The last preview of a job, None when there is none yet."""
    try:
        with transport.send(Call("GET", f"{path}/preview")) as response:
            content: bytes = response.content
            return content
    except ServerError as error:
        if error.status == 404:
            return None
        raise


def tell_cancel(transport: Transport, path: str) -> bool:
    """Whether the server knows now that nobody wants this job; it is given a few seconds to say so."""
    until = time.monotonic() + TELL_TIMEOUT_S
    call = Call("DELETE", path, timeout_s=TELL_TIMEOUT_S)
    try:
        interruptible(lambda: transport.json(call), lambda: time.monotonic() > until)
    except ServerError as error:
        return error.status in (404, 410)  # gone is as good
    except (ServerUnreachable, Cancelled):
        return False
    return True


def cancelled_job(told: bool) -> Cancelled:
    if told:
        return Cancelled("cancelled; the server has stopped, or stops at the next step")
    return Cancelled("cancelled here; the server could not be told and may finish the job unheard", False)
