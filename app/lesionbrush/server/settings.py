"""What an admin can set, read from variables LESIONBRUSH_<NAME>, however the server is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from lesionbrush.errors import InvalidRequest

PREFIX = "LESIONBRUSH_"


class ServerSettings(BaseModel):
    """gb: 10^9 bytes. `run.py serve` sets the same variables from its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_file: Path | None = None
    token: SecretStr | None = None
    read_token_file: Path | None = Field(None, description="a token that may only read")
    read_token: SecretStr | None = None
    origins: tuple[str, ...] = Field((), description="web pages that may use the server: https://host[:port]")
    upload_gb: float = Field(4.0, gt=0, le=1000, description="largest request")
    unpacked_gb: float = Field(8.0, gt=0, le=1000, description="most a file may unpack to")
    voxels: int = Field(1 << 30, gt=0, description="most voxels of one volume")
    free_gb: float = Field(1.0, ge=0, description="uploads are refused when less would be left on the disk")
    queue_length: int = Field(100, ge=1, le=10_000, description="jobs that may wait")
    jobs_per_client: int = Field(50, ge=1, le=10_000, description="jobs of one client that may wait")
    job_seconds: float = Field(900.0, gt=0, le=86_400, description="a job that runs longer is ended")
    result_seconds: float = Field(3600.0, gt=0, le=604_800, description="how long results are kept")
    log_format: Literal["text", "json"] = "text"
    warm_up: bool = Field(True, description="make a model ready before the first request")
    shutdown: Literal["finish", "cancel"] = Field("finish", description="what happens to running jobs")
    grace_seconds: float = Field(30.0, ge=0, le=3600, description="how long running jobs may take to finish")

    @field_validator("origins", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """'https://a, https://b' as a variable holds it."""
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, found, rest = origin.partition("://")
            if scheme not in ("http", "https") or not found or not rest or set(rest) & set("/*?#@"):
                raise ValueError(f"{origin!r} is no origin: write https://host or https://host:port")
        return value

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ServerSettings:
        """Raises InvalidRequest, with the name of the variable. An empty variable counts as none."""
        given = os.environ if environ is None else environ
        values = {name: given[key] for name in cls.model_fields if given.get(key := variable(name))}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InvalidRequest(f"{variable(str(first['loc'][0]))}: {first['msg']}") from None


def variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
