"""The whole way from a mask to boxes: by a job, or by one request where the server has no jobs."""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote
from zipfile import BadZipFile, ZipFile

from .answers import JobStatus, StoredReference
from .boxes import Box
from .errors import Cancelled, JobFailed, ServerUnreachable
from .following import OnStatus
from .inputs import parts
from .orders import Order, Outcome, Watch
from .patience import watched
from .transport import Call, Transport
from .uploads import Upload, nifti_voxels
from .wire import CHUNK_BYTES, BrokenAnswer, Form, OnProgress, read_answer

if TYPE_CHECKING:
    from .jobs import JobClient

CANCELLED_THERE = "somebody cancelled the job on the server: synthesize again if it was not you"


SILENT_S = 1800.0
"""Such a server says nothing until it is done."""

Results = tuple[list[Box], list[dict[str, Any]]]


def by_job(client: "JobClient", order: Order, watch: Watch) -> Outcome:
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
    return to_the_end(client, job.id, watch, reference)


def to_the_end(
    client: "JobClient", job_id: str, watch: Watch, reference: Optional[StoredReference] = None
) -> Outcome:
    """Follow a job that the server has, and fetch its results. ServerUnreachable names the job."""
    with _cancelled_on_error(client, job_id):
        status = client.follow(job_id, _announcing(watch), watch.on_preview, watch.cancelled)
        if status.state == "cancelled":
            raise Cancelled(status.error_message or CANCELLED_THERE)
        if status.state != "done":
            raise JobFailed(status)
        watch.phase("result")
        numbers = [n for n in range(1, status.variants + 1) if n not in status.discarded]
        records = [client.provenance(job_id, n, watch.cancelled) for n in numbers]
        boxes = [client.box(job_id, n, watch.cancelled) for n in numbers]
    return Outcome(boxes, records, job_id, status, reference)


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
        boxes, records = watched(lambda report: _infer(transport, order, report), on_upload, watch.cancelled)
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
    except ServerUnreachable as error:
        error.job_id = error.job_id or job_id
        raise
    except (Cancelled, JobFailed):
        raise
    except BaseException:
        client.abandon(job_id)
        raise


def _infer(transport: Transport, order: Order, on_upload: Optional[OnProgress] = None) -> Results:
    """The boxes of all variants and their records. Raises ServerError, ServerUnreachable."""
    params = {**order.params, "output": "box"}
    query = {"output": "all", "format": "nii"}
    files = {"label": order.mask.part("mask"), **parts(order.inputs)}
    with ExitStack() as stack:
        if isinstance(order.reference, Upload):
            files["file"] = stack.enter_context(order.reference.packed()).part("reference")
        else:
            query["image"] = order.reference
        form = Form({"params": json.dumps(params)}, files, on_upload)
        call = Call("POST", f"/infer/{quote(order.model, safe='')}", query, form, timeout_s=SILENT_S)
        with transport.send(call) as response:
            content = io.BytesIO()
            record = read_answer(response.iter_content(CHUNK_BYTES), content)
            return _boxes(content.getvalue(), record)


def _boxes(content: bytes, record: "dict[str, Any]") -> Results:
    try:
        provenances = list(record["variants"])
        files = [content] if len(provenances) == 1 else _unpacked(content)
        if len(files) != len(provenances):
            raise BrokenAnswer(f"{len(files)} volumes came for {len(provenances)} variants")
        return [_box(file, said) for file, said in zip(files, provenances)], provenances
    except (KeyError, TypeError, ValueError, BadZipFile) as error:
        raise BrokenAnswer(f"the answer holds no changed boxes: {error!r}") from error


def _unpacked(content: bytes) -> "list[bytes]":
    with ZipFile(io.BytesIO(content)) as zipped:
        return [zipped.read(entry) for entry in zipped.infolist() if entry.filename.endswith(".nii")]


def _box(content: bytes, provenance: "dict[str, Any]") -> Box:
    i, j, k = (int(start) for start in provenance["box_offset"])
    voxels = nifti_voxels(content, tuple(int(length) for length in provenance["box_shape"]))
    if voxels is None:
        raise BrokenAnswer("the box is no NIfTI of 16-bit integers")
    return Box(voxels, (i, j, k), str(provenance["reference_sha256"]))
