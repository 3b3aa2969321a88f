"""Threads fetch a CT of a DICOMweb archive, or its label, before a route asks for it: the loop is free."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.errors import on_known
from lesionbrush.server.storage.studies import Studies

_LISTING = ("/datastore/", "/activelearning/first", "/activelearning/random")
_READING = ("GET", "HEAD")
_LABEL = "/datastore/label"
_NAMING = ("/datastore/image", "/infer/", "/lesionbrush/v1/jobs")


def fetch_first(front: FastAPI, studies: Studies) -> None:
    """For studies in an archive; a folder has nothing to fetch. Before the app is started."""
    if isinstance(studies, DicomWebStudies):
        front.add_middleware(FetchFirst, studies=studies)


class FetchFirst:
    """ASGI middleware behind the gate, so that only those who may come in make us fetch anything."""

    def __init__(self, app: ASGIApp, studies: DicomWebStudies) -> None:
        self.app, self.studies = app, studies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._fetch(scope)
            except LesionBrushError as error:
                await on_known(Request(scope), error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _fetch(self, scope: Scope) -> None:
        if scope["path"] in _LISTING:
            await run_in_threadpool(self.studies.update)
        elif scope["path"].startswith(_NAMING):
            query = parse_qs(scope["query_string"].decode("latin-1"))
            images = [] if "session_id" in query else query.get("image", [])  # a session has its own CT
            for image in images[:1]:
                await run_in_threadpool(self.studies.fetch, image)
        elif scope["path"].startswith(_LABEL) and scope["method"] in _READING:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            names = query.get("label", query.get("image", []))  # MONAI Label has both words for it
            for image, tag in zip(names[:1], query.get("tag", []), strict=False):
                await run_in_threadpool(self.studies.fetch, image)
                await run_in_threadpool(self.studies.fetch_label, image, tag)
