"""What the log says: what happened, when, to which job. No names of files or patients, no paths.

Our own modules choose their words. Other people's are not trusted with that: MONAI Label logs requests with
all their parameters, pydicom quotes DICOM values. Of them only warnings are kept, and of those only the fixed
part of the text. A traceback is cut down to places in code: messages of exceptions often have a path in them.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import traceback
import warnings
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from lesionbrush.errors import LesionBrushError
from lesionbrush.server.doors.gate import DOORS, Visit

ExcInfo: TypeAlias = (
    "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"
)

access_log = logging.getLogger("lesionbrush.access")

_OURS = ("lesionbrush", "main")
_PLAIN = ("uvicorn.error",)  # its texts are constants, its arguments addresses
_WITHHELD = "(text withheld: it may name files or patients)"
_FILE_NAME = re.compile(
    r"[^\s'\"/\\]*\.(?:nii|nii\.gz|nrrd|nhdr|mha|mhd|dcm|ima|dicom|zip|json|tmp)\b", re.IGNORECASE
)
_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\|(?<![\w}:])/)(?:[^\s'\"/\\]+[/\\])+[^\s'\"/\\]*")
_SPECIFIER = re.compile(r"%[#0\- +]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]")
_ROUTES = {door.template for door in DOORS}
_SALT = secrets.token_bytes(16)
_MAX_CHARACTERS = 2000


def digest(value: str) -> str:
    """The same for the same value, until the server starts again; nobody finds the value by trying."""
    return sha256(_SALT + value.encode()).hexdigest()[:10]


class Discreet(logging.Formatter):
    """One line per record, as text or as JSON."""

    def __init__(self, style: Literal["text", "json"] = "text") -> None:
        super().__init__()
        self.as_json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["error"] = error_of(record.exc_info)
        if self.as_json:
            return json.dumps(said, ensure_ascii=True)
        head = f"{said.pop('time')} {said.pop('level'):7} {said.pop('logger')}: {said.pop('message')}"
        return " ".join([head, *(f"{name}={value}" for name, value in said.items())])


class Trusted(logging.Filter):
    """Lets through what is ours, what uvicorn says of itself, and of all others warnings and worse."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or _is_below(record.name, (*_OURS, *_PLAIN))


def message_of(record: logging.LogRecord) -> str:
    """The text of a record, without what may not be told."""
    if _is_below(record.name, _OURS):
        text = record.getMessage()
    elif _is_below(record.name, _PLAIN) or record.args:
        text = _template(record)
    else:
        text = _WITHHELD
    return _one_line(scrub(text))


def _template(record: logging.LogRecord) -> str:
    """The fixed part of the text, with its numbers; texts that were put in are left out."""
    if not isinstance(record.msg, str) or "Traceback" in record.msg:
        return type(record.msg).__name__ if not isinstance(record.msg, str) else _last_type(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    values = iter(arguments)

    def shown(found: re.Match[str]) -> str:
        value = next(values, None)
        return found[0] % value if isinstance(value, (int, float)) else "…"

    return _SPECIFIER.sub(shown, record.msg) if arguments else record.msg


def _last_type(text: str) -> str:
    """Of a traceback that came as text: what was raised."""
    last = text.strip().splitlines()[-1]
    return f"failed with {re.match(r'[A-Za-z_.]*', last)[0] or 'an error'}"  # type: ignore[index]


def error_of(info: ExcInfo | Any) -> str:
    """'KeyError in schedules.py:12 make < registry.py:80 load': innermost first, no message but our own."""
    kind, error, trace = info
    if kind is None:
        return "none"
    frames = traceback.extract_tb(trace)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames[-12:])]
    code = f"({error.code})" if isinstance(error, LesionBrushError) else ""
    return f"{kind.__name__}{code} in {' < '.join(places)}"


def scrub(text: str) -> str:
    """Without paths of this or another machine, and without names of image files."""
    text = _PATH.sub(_unless_ours, text)
    return _FILE_NAME.sub("<file>", text)


def _unless_ours(found: re.Match[str]) -> str:
    """Routes stay, and names of files of code."""
    path = found[0]
    if path in _ROUTES:
        return path
    return Path(path).name if path.endswith(".py") else "<path>"


def _one_line(text: str) -> str:
    """Nobody forges a line of the log by a line break."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_CHARACTERS].strip()


def _is_below(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def log_visit(visit: Visit) -> None:
    """One line per request: the route as it is in the list, never the address that was asked for."""
    route = f"{visit.method} {visit.door.template}" if visit.door else f"{visit.method} (not offered)"
    fields = {
        "request": visit.request,
        "status": visit.status,
        "ms": round(visit.seconds * 1000),
        "peer": digest(visit.peer),
        **({"id": visit.ident} if visit.ident else {}),
    }
    access_log.info(route, extra={"fields": fields})


def configure(style: Literal["text", "json"] = "text") -> None:
    """Make every handler there is discreet, and send everything through the root's.

    MONAI Label and uvicorn set theirs up before our code is loaded, and keep them.
    """
    quiet_libraries()
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    root.setLevel(logging.INFO)
    others = [logging.getLogger(name) for name in sorted(logging.root.manager.loggerDict)]
    for logger in (root, *others):
        for handler in logger.handlers:
            handler.setFormatter(Discreet(style))
            if not any(isinstance(known, Trusted) for known in handler.filters):
                handler.addFilter(Trusted())
    # Our log has a line per request already; this one would have its query.
    logging.getLogger("uvicorn.access").disabled = True


def quiet_libraries() -> None:
    """Warnings go to the log, where they are cut; ITK's, which name files, go nowhere."""
    import SimpleITK as sitk  # noqa: N813

    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
