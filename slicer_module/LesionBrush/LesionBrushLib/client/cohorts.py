"""More cases like a result: asked for, followed to the end, listed and removed. They stay on the server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .answers import JobStatus
from .errors import Cancelled, JobFailed
from .orders import Watch
from .patience import patiently
from .transport import PREFIX, Call, job_path
from .wire import Body, BrokenAnswer

if TYPE_CHECKING:
    from .jobs import JobClient

JSON = "application/json"
CANCELLED_THERE = "somebody cancelled the job on the server; the cases that were made are there"


@dataclass(frozen=True)
class StoredCohort:
    """One cohort on the server. made of wanted cases are there; folder: in its studies folder."""

    name: str
    model: str
    made: int
    wanted: int
    folder: str = ""
    problems: "tuple[str, ...]" = ()

    @classmethod
    def from_json(cls, said: Any) -> "StoredCohort":
        try:
            problems = tuple(str(one) for one in said.get("problems") or ())
            made, wanted = int(said["made"]), int(said["wanted"])
            folder = str(said.get("folder") or "")
            return cls(str(said["name"]), str(said["model"]), made, wanted, folder, problems)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenAnswer(f"this is no description of a cohort: {error!r}") from error


@dataclass(frozen=True)
class MadeCohort:
    """cohort: its name; remarks: how many cases there are, and why others are not."""

    cohort: str
    remarks: "tuple[str, ...]"


def make(
    client: "JobClient", variant: "tuple[str, int]", like: Mapping[str, Any], watch: Watch
) -> MadeCohort:
    """variant: id of its job, and its number. Raises as `JobClient.make_cohort` says."""
    headers = {"Idempotency-Key": uuid4().hex}
    body = Body(json.dumps(dict(like)).encode(), JSON)
    call = Call("POST", f"{job_path(*variant)}/cohort", body=body, headers=headers)
    cohort, job = patiently(lambda: client.transport.ask(call, _started), client.patience, watch.cancelled)
    watch.phase("queue")
    status = client.follow(job.id, watch.status, None, watch.cancelled)
    if status.state == "cancelled":
        raise Cancelled(status.error_message or CANCELLED_THERE)
    if status.state != "done":
        raise JobFailed(status)
    return MadeCohort(cohort, status.remarks)


def list_all(client: "JobClient") -> "list[StoredCohort]":
    said = client.transport.json(Call("GET", f"{PREFIX}/cohorts"))
    return [StoredCohort.from_json(one) for one in said]


def remove(client: "JobClient", name: str) -> None:
    client.transport.json(Call("DELETE", f"{PREFIX}/cohorts/{name}"))


def _started(said: Any) -> "tuple[str, JobStatus]":
    try:
        return str(said["cohort"]), JobStatus.from_json(said["job"])
    except (KeyError, TypeError) as error:
        raise BrokenAnswer(f"this is no cohort that was begun: {error!r}") from error
