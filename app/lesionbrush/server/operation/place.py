"""Where a server is to work: its folder of CTs, and its port. Said before it starts, which takes long."""

from __future__ import annotations

import errno
import os
import re
import socket
from itertools import chain, islice
from pathlib import Path

from lesionbrush.core.registry import models_dir
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.doors.limits import is_dicom
from lesionbrush.server.operation.serve import APP
from lesionbrush.server.storage.uploads import SUFFIXES

_LOOKED_AT, _DICOM_START_BYTES = 200, 132
_ALMOST_HTTP = re.compile(r"https?:?[/\\]", re.IGNORECASE)


def require_studies(studies: Path) -> None:
    """Raise InvalidRequest for what cannot be a folder of CTs. Makes and changes nothing."""
    name = studies.name
    if _ALMOST_HTTP.match(str(studies)):
        raise InvalidRequest(f"--studies {studies}: an address is written http://host:port/dicom-web")
    place = next(at for at in (studies.absolute(), *studies.absolute().parents) if os.path.lexists(at))
    if not place.is_dir():
        what = "is a file" if place == studies.absolute() else f"cannot be made: {place.name!r} is a file"
        raise InvalidRequest(f"--studies {name} {what}; name a folder, which the server keeps its CTs in")
    resolved = studies.resolve()
    if any(resolved.is_relative_to(inside.resolve()) for inside in (APP, models_dir())):
        raise InvalidRequest(f"--studies {name} lies inside the program: name a folder of its own")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        what = (
            "cannot be read and written" if place == studies.absolute() else "is not there and cannot be made"
        )
        raise InvalidRequest(
            f"--studies {name} {what} by this user: change its owner, or name another folder"
        )
    if studies.is_dir() and _is_series(studies):
        raise InvalidRequest(
            f"--studies {name} holds DICOM files, which the server would not find: a studies folder holds "
            f"volumes ({', '.join(SUFFIXES)}). Serve another folder and send the series to it, or serve a "
            "DICOMweb archive by its address (docs/dicom.md)"
        )


def _is_series(folder: Path) -> bool:
    """Whether DICOM files, but no volume, are among the first files in a folder and the folders in it."""
    files = [
        path for path in islice(chain(folder.glob("*"), folder.glob("*/*")), _LOOKED_AT) if path.is_file()
    ]
    if any(path.name.lower().endswith(SUFFIXES) for path in files):
        return False
    return any(_starts_as_dicom(path) for path in files)


def _starts_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(_DICOM_START_BYTES))
    except OSError:
        return False


def require_free(host: str, port: int) -> None:
    """Raise InvalidRequest when nobody can listen there: MONAI Label would say so after half a minute."""
    if not host or any(c.isspace() or c in "/@" for c in host):
        raise InvalidRequest(f"--host {host!r}: give the name or the IP address of this machine, no more")
    if not 0 < port < 2**16:
        raise InvalidRequest(f"--port {port}: ports are numbers from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "another program listens there; choose another --port" if taken else str(error)
        raise InvalidRequest(f"cannot serve at {host}:{port}: {advice}") from error
