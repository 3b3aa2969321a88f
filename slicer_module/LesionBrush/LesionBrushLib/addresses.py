"""Addresses of protocol 1. Nothing that comes from elsewhere gets into a path as it is."""

from typing import Optional
from urllib.parse import quote

PREFIX = "/lesionbrush/v1"


def job_path(job_id: str, n: Optional[int] = None) -> str:
    """Of a job, or of one of its variants, from 1."""
    return f"{PREFIX}/jobs/{quote(job_id, safe='')}" + ("" if n is None else f"/variants/{n}")


def reference_path(sha256: str) -> str:
    return f"{PREFIX}/references/{quote(sha256, safe='')}"
