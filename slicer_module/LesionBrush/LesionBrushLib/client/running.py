"""The whole way of a job: what it needs goes to the server, it is followed, its results come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from .answers import JobStatus, StoredReference
from .errors import Cancelled, JobFailed, ServerUnreachable
from .following import OnStatus
from .orders import Order, Outcome, Watch
from .records import is_whole
from .uploads import Upload

if TYPE_CHECKING:
    from .jobs import JobClient

CANCELLED_THERE = "somebody cancelled the job on the server: synthesize again if it was not you"


def run(client: "JobClient", order: Order, watch: Watch, fetch: bool) -> Outcome:
    """Raises as `JobClient.synthesize` says."""
    reference: Optional[StoredReference] = None
    if isinstance(order.reference, Upload):
        watch.phase("reference")
        reference = client.put_reference(
            order.reference, on_upload=watch.on_upload, cancelled=watch.cancelled
        )
    watch.phase("inputs" if order.inputs else "queue")
    job = client.submit(
        order,
        reference=reference.reference if reference else None,
        on_upload=watch.on_upload if order.inputs else None,
        cancelled=watch.cancelled,
    )
    if order.inputs:
        watch.phase("queue")
    return to_the_end(client, job.id, watch, fetch, reference)


def to_the_end(
    client: "JobClient",
    job_id: str,
    watch: Watch,
    fetch: bool = True,
    reference: Optional[StoredReference] = None,
) -> Outcome:
    """Follow a job that the server has, and fetch its results. ServerUnreachable names the job."""
    with _cancelled_on_error(client, job_id):
        status = client.follow(job_id, _announcing(watch), watch.on_preview, watch.cancelled)
        if status.state == "cancelled":
            raise Cancelled(status.error_message or CANCELLED_THERE)
        if status.state != "done":
            raise JobFailed(status)
        watch.phase("result")
        numbers = tuple(n for n in range(1, status.variants + 1) if n not in status.discarded)
        records = [client.provenance(job_id, n, watch.cancelled) for n in numbers]
        edited = [n for n, record in zip(numbers, records) if fetch and not is_whole(record)]
        new = [n for n, record in zip(numbers, records) if fetch and is_whole(record)]
        boxes = [client.box(job_id, n, watch.cancelled) for n in edited]
        volumes = [client.volume(job_id, n, watch.cancelled) for n in new]
    return Outcome(records, job_id, boxes, volumes, numbers, status, reference)


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
    except ServerUnreachable as error:
        error.job_id = error.job_id or job_id
        raise
    except (Cancelled, JobFailed):
        raise
    except BaseException:
        client.abandon(job_id)
        raise
