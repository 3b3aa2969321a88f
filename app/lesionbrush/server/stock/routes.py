"""MONAI Label's routes for logging in, for the next sample and for sessions, by our rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, File, Form, Query, Request, UploadFile
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from lesionbrush.errors import InvalidRequest
from lesionbrush.server.doors.access import Access, Role
from lesionbrush.server.errors import UnknownStrategy
from lesionbrush.server.http.deps import TheStudies, TheVault
from lesionbrush.server.http.replies import FileReply
from lesionbrush.server.storage.sessions import Session, keep_upload
from lesionbrush.server.threads import few_at_a_time

router = APIRouter()

SessionId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]


class AuthFacts(BaseModel):
    """enabled: whether a token is wanted. There is no Keycloak behind it, which the other two are about."""

    enabled: bool
    client_id: str | None = None
    realm: str | None = None


class Token(BaseModel):
    """As MONAI Label's clients send it on; both None on a server without a token."""

    access_token: str | None = None
    token_type: str | None = None


class User(BaseModel):
    """Who a token stands for: nobody by name."""

    username: str
    roles: list[str]


@router.get("/auth/")
async def auth(request: Request) -> AuthFacts:
    return AuthFacts(enabled=_access(request).guarded)


@router.post("/auth/token")
async def log_in(
    request: Request,
    password: Annotated[str, Form(max_length=4096)] = "",
    username: Annotated[str, Form()] = "",
) -> Token:
    """The password of the plugin's dialog is the server's token, or its reading token; any name will do."""
    access = _access(request)
    if not access.guarded:
        return Token()
    if access.role(f"Bearer {password}") is None:
        raise HTTPException(401, "the password is not this server's token")
    return Token(access_token=password, token_type="Bearer")


@router.get("/auth/token/valid")
async def who_am_i(request: Request) -> User:
    """The gate has let it pass, so the token is valid."""
    reading = request.scope.get("lesionbrush_read_only", False)
    return User(username="", roles=[(Role.READ if reading else Role.WRITE).value])


def _access(request: Request) -> Access:
    access: Access = request.scope.get("lesionbrush_access", Access())
    return access


@router.post("/activelearning/{strategy}")
async def next_sample(
    request: Request,
    strategy: str,
    studies: TheStudies,
    params: Annotated[dict[str, Any] | None, Body()] = None,
) -> dict[str, str]:
    """A CT that has no case yet, with its name; nothing when there is none. No word in params changes it."""
    strategies = request.app.state.strategies
    if strategy not in strategies:
        raise UnknownStrategy(f"there is no strategy {strategy!r}; there are {', '.join(strategies)}")
    found = strategies[strategy]({}, studies)
    return {**found, **studies.facts(found["id"])} if found else {}


class SessionInfo(BaseModel):
    """In MONAI Label's words. image: hash of the CT, not a path; expiry: in seconds, from the last use."""

    name: str
    image: str
    create_ts: int
    last_access_ts: int
    expiry: int
    meta: dict[str, str] = {}

    @classmethod
    def of(cls, session: Session) -> SessionInfo:
        return cls(
            name=session.id,
            image=session.reference,
            create_ts=int(session.created_s),
            last_access_ts=int(session.used_s),
            expiry=int(session.expiry_s),
        )


class NewSession(BaseModel):
    session_id: str
    session_info: SessionInfo


@router.put("/session/")
async def create_session(
    vault: TheVault,
    files: Annotated[list[UploadFile], File()],
    expiry: Annotated[int, Query(ge=0)] = 0,
    uncompress: bool = False,
) -> NewSession:
    """A CT is kept for the requests to come. A .zip is unpacked, said or not; no other archive is."""
    if len(files) != 1:
        raise InvalidRequest(f"{len(files)} files came: send one, a volume or a .zip of one DICOM series")
    about = await few_at_a_time(keep_upload)(vault.references, files[0])
    session = await few_at_a_time(vault.sessions.open)(about.reference, expiry)
    return NewSession(session_id=session.id, session_info=SessionInfo.of(session))


@router.get("/session/{session}", response_model=SessionInfo)
def get_session(session: SessionId, vault: TheVault, update_ts: bool = False, image: bool = False) -> Any:
    """What is known of it, or its CT as it was sent."""
    found = vault.sessions.use(session) if update_ts else vault.sessions.find(session)
    return _file(vault.references.path(found.reference)) if image else SessionInfo.of(found)


@router.delete("/session/{session}")
def remove_session(session: SessionId, vault: TheVault) -> SessionInfo:
    return SessionInfo.of(vault.sessions.close(session))


def _file(path: Path) -> Response:
    if path.is_dir():
        raise InvalidRequest("the CT of this session came as a series in a .zip, which was unpacked")
    return FileReply(path, media_type="application/octet-stream", filename=path.name)
