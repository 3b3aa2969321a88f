"""Jobs on a LesionBrush server: a CT goes there once, a mask makes a job, the changed box comes back; or a
whole new CT does.

Runs in any Python from 3.9 on, 3D Slicer's too, with `requests` and numpy. Every method blocks and may be
called by any thread; callbacks are called in that same thread.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, Optional, Union
from uuid import uuid4

from . import cohorts
from .answers import ConnectionReport, JobStatus, ModelFacts, ServerFacts, StoredReference
from .boxes import Box, exact_int16
from .cohorts import MadeCohort, StoredCohort
from .diagnosis import diagnose
from .errors import Cancelled, ServerError, ServerUnreachable
from .following import Follower, OnPreview, OnStatus, cancelled_job, fetch_preview, tell_cancel
from .inputs import files, require_fitting, texts
from .orders import GeneratedCT, Labels, Order, Outcome, Watch
from .patience import IsCancelled, Patience, interruptible, patiently, retrying, watched
from .records import publish
from .running import run, to_the_end
from .transfer import (
    SLOW_S,
    as_upload,
    fetch_box,
    fetch_file,
    fetch_labels,
    fetch_nifti,
    find_reference,
    send_reference,
)
from .transport import PREFIX, Call, Transport, job_path
from .uploads import Upload, split
from .wire import Body, Form, OnProgress

JSON = "application/json"
USUAL, UNWATCHED = Patience(), Watch()


class JobClient:
    """One server. Every method raises ServerError and ServerUnreachable; those with `cancelled`, Cancelled.

    client_name: by which the server shares its time fairly; ca_file: see `Transport`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: Optional[str] = None,
        *,
        ca_file: Optional[Path] = None,
        client_name: Optional[str] = None,
        patience: Patience = USUAL,
    ) -> None:
        self.patience = patience
        self.transport = Transport(url, token, patience.silent_s, ca_file)
        if client_name:
            self.transport.session.headers["X-LesionBrush-Client"] = client_name
        self._facts: Optional[ServerFacts] = None

    @property
    def url(self) -> str:
        return self.transport.url

    def test_connection(self) -> ConnectionReport:
        """Whether this server can be worked with, and what to do if not. Raises nothing."""
        return diagnose(self.transport, self.about)

    def about(self) -> ServerFacts:
        """What the server is, asked anew."""
        self._facts = self.transport.ask(Call("GET", f"{PREFIX}/"), ServerFacts.from_json)
        return self._facts

    def models(self) -> dict[str, ModelFacts]:
        return self.about().models

    def images(self) -> list[str]:
        """Ids of the CTs the server stores."""
        return sorted(self.transport.json(Call("GET", "/datastore/", {"output": "all"}))["objects"])

    def download_image(
        self,
        image_id: str,
        out_path: Path,
        on_download: Optional[OnProgress] = None,
        cancelled: Optional[IsCancelled] = None,
    ) -> Path:
        """One of the stored CTs as a file, all or nothing."""
        call = Call("GET", "/datastore/image", {"image": image_id}, timeout_s=SLOW_S)
        with TemporaryDirectory(prefix=".lesionbrush-", dir=out_path.parent) as folder:
            draft = Path(folder) / "image"
            self._fetch(call, draft, on_download, cancelled)
            os.replace(draft, out_path)
        return out_path

    def reference_known(self, sha256: str) -> Optional[StoredReference]:
        """The reference whose file has this hash, None when the server has it not."""
        return find_reference(self.transport, sha256)

    def put_reference(
        self,
        source: Union[Upload, Path, bytes],
        format: Optional[str] = None,
        on_upload: Optional[OnProgress] = None,
        cancelled: Optional[IsCancelled] = None,
    ) -> StoredReference:
        """Make sure the server has a CT; nothing is sent when it has. Raises ValueError, Cancelled."""
        upload = as_upload(source, format)
        return send_reference(self.transport, upload, self.patience, on_upload, cancelled)

    def submit(
        self,
        order: Order,
        key: Optional[str] = None,
        reference: Optional[str] = None,
        on_upload: Optional[OnProgress] = None,
        cancelled: Optional[IsCancelled] = None,
    ) -> JobStatus:
        """A new job; the same one when the answer to an earlier try with this key was lost.

        reference: `StoredReference.reference`, where the order does not name an image of the server.
        Raises WrongInput, before anything is sent.
        """
        order = self._fitting(order, cancelled)
        query = self._query(order, reference)
        headers = {"Idempotency-Key": key or uuid4().hex}
        timeout_s = SLOW_S if order.inputs else None
        made: list[JobStatus] = []
        unwanted = Event()

        def attempt(report: OnProgress) -> JobStatus:
            call = Call("POST", f"{PREFIX}/jobs", query, _form(order, report), headers, timeout_s)
            made.append(self.transport.ask(call, JobStatus.from_json))
            if unwanted.is_set():
                self.abandon(made[-1].id)
            return made[-1]

        try:
            return retrying(lambda: watched(attempt, on_upload, cancelled), self.patience, cancelled)
        except BaseException:
            unwanted.set()
            if made:
                self.abandon(made[-1].id)
            raise

    def _query(self, order: Order, reference: Optional[str]) -> "dict[str, str]":
        query = {"model": order.model}
        if isinstance(order.reference, str):
            query["image"] = order.reference
        elif reference is not None:
            query["reference"] = reference
        elif order.reference is not None:
            raise ValueError("the job has no reference: put it on the server first, with put_reference")
        if self.patience.vanished_s is not None:
            query["abandon_after"] = f"{self.patience.vanished_s:g}"
        return query

    def status(self, job_id: str) -> JobStatus:
        return self.transport.ask(Call("GET", job_path(job_id)), JobStatus.from_json)

    def follow(
        self,
        job_id: str,
        on_status: Optional[OnStatus] = None,
        on_preview: Optional[OnPreview] = None,
        cancelled: Optional[IsCancelled] = None,
    ) -> JobStatus:
        """Its last status, once there is one. Raises Cancelled (the job is cancelled then).

        A lost connection is taken up again; ServerUnreachable.job_id when that took longer than
        `Patience.lost_s`; ServerError `job_lost` when the server forgot the job, as after a restart.
        """
        follower = Follower(self.transport, job_path(job_id), self.patience)
        follower.on_status, follower.on_preview, follower.cancelled = on_status, on_preview, cancelled
        try:
            return follower.run()
        except Cancelled:
            raise cancelled_job(tell_cancel(self.transport, job_path(job_id))) from None
        except ServerUnreachable as error:
            raise ServerUnreachable(str(error), job_id) from error

    def abandon(self, job_id: str) -> bool:
        """Cancel where nobody waits for the answer; whether the server heard of it."""
        return tell_cancel(self.transport, job_path(job_id))

    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job, or clear a finished one away."""
        return self.transport.ask(Call("DELETE", job_path(job_id)), JobStatus.from_json)

    def preview(self, job_id: str) -> Optional[bytes]:
        """PNG of the current estimate, None when there is none."""
        return fetch_preview(self.transport, job_path(job_id))

    def provenance(self, job_id: str, n: int = 1, cancelled: Optional[IsCancelled] = None) -> dict[str, Any]:
        """The record of a variant; n counts from 1."""
        call = Call("GET", job_path(job_id, n))
        record: dict[str, Any] = patiently(lambda: self.transport.json(call), self.patience, cancelled)
        return record

    def box(self, job_id: str, n: int = 1, cancelled: Optional[IsCancelled] = None) -> Box:
        """What a variant changed, checked by its hash."""
        call = Call("GET", f"{job_path(job_id, n)}/box")
        return patiently(lambda: fetch_box(self.transport, call), self.patience, cancelled)

    def volume(self, job_id: str, n: int = 1, cancelled: Optional[IsCancelled] = None) -> GeneratedCT:
        """A variant that is a whole new CT, and what is where in it."""
        path = f"{job_path(job_id, n)}/volume"
        array, affine = patiently(lambda: fetch_nifti(self.transport, path), self.patience, cancelled)
        return GeneratedCT(exact_int16(array), affine, self.labels(job_id, n, cancelled))

    def labels(self, job_id: str, n: int = 1, cancelled: Optional[IsCancelled] = None) -> Optional[Labels]:
        """What is where in a generated CT, None where that is not known."""
        path = f"{job_path(job_id, n)}/labels"
        return patiently(lambda: fetch_labels(self.transport, path), self.patience, cancelled)

    def download_volume(
        self,
        job_id: str,
        n: int,
        out_path: Path,
        on_download: Optional[OnProgress] = None,
        cancelled: Optional[IsCancelled] = None,
    ) -> Path:
        """The whole synthetic CT, of the type its name says, and its record beside it; all or nothing."""
        query = {"format": split(out_path)[1][1:]}
        record = self.provenance(job_id, n, cancelled)
        with TemporaryDirectory(prefix=".lesionbrush-", dir=out_path.parent) as folder:
            draft = Path(folder) / "volume"
            call = Call("GET", f"{job_path(job_id, n)}/volume", query, timeout_s=SLOW_S)
            self._fetch(call, draft, on_download, cancelled)
            publish([draft], [out_path], [record])
        return out_path

    def accept(self, job_id: str, n: int = 1, image: Optional[str] = None) -> str:
        """Keep a variant on the server; the id it got there. Safe to repeat."""
        body = Body(json.dumps({"image": image}).encode(), JSON) if image else None
        call = Call("POST", f"{job_path(job_id, n)}/accept", body=body, timeout_s=SLOW_S)
        return str(patiently(lambda: self.transport.json(call), self.patience)["image"])

    def discard(self, job_id: str, n: int = 1) -> None:
        """Throw a variant away on the server. Safe to repeat."""
        call = Call("POST", f"{job_path(job_id, n)}/discard")
        try:
            patiently(lambda: self.transport.json(call), self.patience)
        except ServerError as error:
            if error.code != "discarded":
                raise

    def make_cohort(
        self, job_id: str, n: int, like: Mapping[str, Any], watch: Watch = UNWATCHED
    ) -> MadeCohort:
        """More cases like a variant; they stay on the server, also those made before it is cancelled.

        like: `count`, and if wanted `place` (organ, here), `spread`, `seed` and `images`, see docs/wire.md.
        Raises Cancelled, JobFailed, ServerError, ServerUnreachable.
        """
        return cohorts.make(self, (job_id, n), like, watch)

    def cohorts(self) -> "list[StoredCohort]":
        """Those that the server keeps."""
        return cohorts.list_all(self)

    def remove_cohort(self, name: str) -> None:
        """With all its cases."""
        cohorts.remove(self, name)

    def synthesize(self, order: Order, watch: Watch = UNWATCHED, fetch: bool = True) -> Outcome:
        """All of it, from files or arrays to boxes, or to whole new CTs where the order has no mask.

        fetch: False leaves boxes and volumes on the server. Raises WrongInput (nothing was sent), Cancelled,
        JobFailed, ServerError, ServerUnreachable; whatever a callback raises cancels the job.
        """
        return run(self, self._fitting(order, watch.cancelled), watch, fetch)

    def _fitting(self, order: Order, cancelled: Optional[IsCancelled]) -> Order:
        """As this server takes it. Raises WrongInput. An unknown model is for the server to refuse."""
        facts = self._facts or interruptible(self.about, cancelled)
        model = facts.models.get(order.model)
        if model is None:
            return order
        require_fitting(order, model)
        return order if model.takes_records else replace(order, record=None)

    def resume(self, job_id: str, watch: Watch = UNWATCHED) -> Outcome:
        """The rest of a synthesis whose connection was lost: job_id as ServerUnreachable names it. Raises as
        `synthesize`, and ServerError `job_lost` when the server has forgotten the job."""
        watch.phase("queue")
        return to_the_end(self, job_id, watch)

    def _fetch(
        self, call: Call, path: Path, on_progress: Optional[OnProgress], cancelled: Optional[IsCancelled]
    ) -> None:
        def attempt(report: OnProgress) -> None:
            fetch_file(self.transport, call, path, report)

        retrying(lambda: watched(attempt, on_progress, cancelled), self.patience, cancelled)


def _form(order: Order, report: OnProgress) -> Form:
    fields = {"params": json.dumps(order.params), **texts(order.inputs)}
    if order.record:
        fields["record"] = json.dumps(order.record)
    label = {"label": order.mask.part("mask")} if order.mask is not None else {}
    return Form(fields, {**label, **files(order.inputs)}, report)
