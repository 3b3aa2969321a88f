"""The routes of cohorts: more cases like a result as a job, the list of them, and away with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from fastapi import Path as InPath

from lesionbrush.core.synthesize import Synthesis
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.http import wire
from lesionbrush.server.http.deps import Key, TheClient, TheService, TheStudies, TheVault
from lesionbrush.server.http.variant_routes import TheVariant
from lesionbrush.server.synthesis.cohorts import CohortFacts, drop_cohort, list_cohorts, ticket_for
from lesionbrush.server.synthesis.likeness import Likeness, LikeOrder
from lesionbrush.server.synthesis.stored import StoredResult

cohorts = APIRouter()
CohortName = Annotated[str, InPath(pattern=r"^like[0-9a-f]{16}$")]


async def locate_hosts(wanted: Annotated[Likeness, Body()], studies: TheStudies) -> dict[str, Path]:
    """The stored CTs that are asked for, or all that are no synthetic cases. Raises UnknownImage.

    None for a cohort in the place of the lesion itself.
    """
    if wanted.place == "here":
        if wanted.images is not None:
            raise InvalidRequest("images: a lesion in the same place is in its own CT: leave images out")
        return {}
    if studies.elsewhere:
        raise InvalidRequest(
            "place organ: the studies of this server are in an archive: ask with place here, or make a "
            "cohort of downloaded series (run.py cohort)"
        )
    studies.refresh()
    names = wanted.images or [one for one in studies.list_images() if studies.cases.record(one) is None]
    found = {name: studies.locate(name) for name in sorted(set(names))}
    if not found:
        raise InvalidRequest("this server stores no CT that is real: store some, or ask with place here")
    return found


def the_like_order(
    variant: TheVariant,
    wanted: Annotated[Likeness, Body()],
    hosts: Annotated[dict[str, Path], Depends(locate_hosts)],
) -> LikeOrder:
    """Raises InvalidRequest, Gone, Discarded, UnknownReference."""
    stored = variant.stored
    made = stored.result(variant.number)
    if not isinstance(made, Synthesis) or stored.order.reference is None:
        raise InvalidRequest(
            "this result is a whole new CT: ask for more like a lesion that was put into one"
        )
    _require_alone(stored)
    lesion = stored.lesion(made.reference)
    return LikeOrder.of(stored.order, made, lesion, wanted, hosts or {"": stored.order.reference.path})


def _require_alone(stored: StoredResult) -> None:
    """InvalidRequest where more than CT and mask made the result."""
    order = stored.order
    if order.inputs:
        raise InvalidRequest(
            f"this result was steered by {', '.join(order.inputs)}, which other CTs have not"
        )
    if order.made_from is not None and order.reference is not None and order.reference.image is None:
        raise InvalidRequest("the CT of this result is synthetic itself: accept it into the studies first")


@cohorts.post("/jobs/{job}/variants/{number}/cohort", status_code=202)
def make_cohort(
    response: Response,
    like: Annotated[LikeOrder, Depends(the_like_order)],
    service: TheService,
    vault: TheVault,
    client: TheClient,
    key: Key = None,
) -> wire.CohortStarted:
    """Cases like this result, as a job. The same again goes on with what is there."""
    ticket = replace(ticket_for(service, vault, like, client), key=key, content=like.name if key else "")
    record = service.jobs.submit(ticket)
    response.headers["Location"] = f"/lesionbrush/v1/jobs/{record.id}"
    return wire.CohortStarted(cohort=like.name, job=service.jobs.status(record))


@cohorts.get("/cohorts")
def cohorts_there(vault: TheVault) -> list[CohortFacts]:
    """All that are kept here, whole or not."""
    return list_cohorts(vault)


@cohorts.delete("/cohorts/{name}")
def remove_cohort(name: CohortName, vault: TheVault) -> list[CohortFacts]:
    """It goes with all its cases; what is left."""
    drop_cohort(vault, name)
    return list_cohorts(vault)
