"""The whole way from a mask to boxes: by a job, or by one request where the server has no jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from .answers import JobStatus, StoredReference
from .errors import Cancelled, JobFailed, ServerUnreachable
from .following import OnStatus
from .orders import Order, Outcome, Watch
from .patience import watched
from .plain import infer
from .transport import Transport
from .uploads import Upload

if TYPE_CHECKING:
    from .jobs import JobClient

CANCELLED_THERE = "somebody cancelled the job on the server: synthesize again if it was not you"


def by_job(client: "JobClient", order: Order, watch: Watch) -> Outcome:
    """Raises as `JobClient.synthesize` says."""
    reference: Optional[StoredReference] = None
    if isinstance(order.reference, Upload):
        watch.phase("reference")
        reference = client.put_reference(
            order.reference, on_upload=watch.on_upload, cancelled=watch.cancelled
        )
    watch.phase("queue")
    job = client.submit(
        order, reference=reference.reference if reference else None, cancelled=watch.cancelled
    )
    with _cancelled_on_error(client, job.id):
        status = client.follow(job.id, _announcing(watch), watch.on_preview, watch.cancelled)
        if status.state == "cancelled":
            raise Cancelled(status.error_message or CANCELLED_THERE)
        if status.state != "done":
            raise JobFailed(status)
        watch.phase("result")
        numbers = [n for n in range(1, status.variants + 1) if n not in status.discarded]
        records = [client.provenance(job.id, n, watch.cancelled) for n in numbers]
        boxes = [client.box(job.id, n, watch.cancelled) for n in numbers]
    return Outcome(boxes, records, job.id, status, reference)


def by_one_request(transport: Transport, order: Order, watch: Watch) -> Outcome:
    """No progress but that of the upload; after a cancel the server works on, unheard."""
    watch.phase("reference")
    uploaded = False

    def on_upload(sent: int, total: int) -> None:
        nonlocal uploaded
        if watch.on_upload is not None:
            watch.on_upload(sent, total)
        if sent == total and not uploaded:
            uploaded = True
            watch.phase("synthesis")
            watch.status(JobStatus("", order.model, "running"))

    try:
        boxes, records = watched(lambda report: infer(transport, order, report), on_upload, watch.cancelled)
    except Cancelled:
        raise Cancelled(
            "cancelled here; this server has no cancel and finishes the work unheard", False
        ) from None
    return Outcome(boxes, records)


def _announcing(watch: Watch) -> OnStatus:
    """Passes on each status, and says once that the synthesis has begun."""
    begun = False

    def on_status(status: JobStatus) -> None:
        nonlocal begun
        if not begun and status.state != "queued":
            begun = True
            watch.phase("synthesis")
        watch.status(status)

    return on_status


@contextmanager
def _cancelled_on_error(client: "JobClient", job_id: str) -> Iterator[None]:
    """Nobody waits for a job whose watcher failed. A lost connection is another matter: it may be followed
    again."""
    try:
        yield
    except (Cancelled, JobFailed, ServerUnreachable):
        raise
    except BaseException:
        client.abandon(job_id)
        raise
