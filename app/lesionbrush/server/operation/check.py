"""`run.py serve --check`: everything the server needs, looked at before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from lesionbrush.core.registry import list_models, verify_weights
from lesionbrush.engines.choice import OPENVINO, choose_engine
from lesionbrush.errors import LesionBrushError
from lesionbrush.server.doors.access import load_access, readable_by_others
from lesionbrush.server.doors.perimeter import is_loopback, require_bindable
from lesionbrush.server.operation.place import require_free, require_studies
from lesionbrush.server.settings import ServerSettings
from lesionbrush.server.storage.uploads import SUFFIXES
from lesionbrush.server.synthesis.devices import choose_devices
from lesionbrush.systems import find_system

LABELS = "labels"


@dataclass(frozen=True)
class Finding:
    """wrong: the server would not start, or not work."""

    topic: str
    text: str
    wrong: bool = False

    def __str__(self) -> str:
        return f"{'WRONG' if self.wrong else 'ok':5}  {self.topic}: {self.text}"


def findings(studies: Path | str, host: str, port: int, *, encrypted: bool) -> list[Finding]:
    """All there is to say, good and bad; a check that fails does not keep the others from being made."""
    try:
        settings = ServerSettings.from_environment()
    except LesionBrushError as error:
        return [Finding("settings", str(error), wrong=True)]
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("device", _devices),
        ("models", _models),
        ("disk", lambda: _disk(studies, settings)),
        ("token", lambda: _token(settings, host, encrypted)),
        ("port", lambda: _port(host, port)),
    ]
    found: list[Finding] = []
    for topic, check in checks:
        try:
            found += check()
        except (LesionBrushError, OSError) as error:
            found.append(Finding(topic, str(error), wrong=True))
    return found


def _devices() -> Iterator[Finding]:
    for device in choose_devices():
        engine = choose_engine(device.partition(":")[0])
        yield Finding("device", f"{device}, {engine}" + ("; a GPU is far faster" if device == "cpu" else ""))
        if device == "cpu" and engine.library != OPENVINO:
            yield Finding("device", "OpenVINO would be two to four times as fast here: install openvino")


def _models() -> Iterator[Finding]:
    models = list_models()
    if not models:
        yield Finding("models", "none is installed", wrong=True)
    for model in models:
        name, digest = model.card.name, model.card.weights_sha256
        try:
            find_system(model.card.system).card.of(model.card)
            verify_weights(model)
        except LesionBrushError as error:
            yield Finding("models", str(error), wrong=True)
        else:
            yield Finding("models", f"{name}: weights {digest[:12]}... are the ones its card names")


def _disk(studies: Path | str, settings: ServerSettings) -> Iterator[Finding]:
    if isinstance(studies, str):
        yield Finding("disk", "the CTs are on a DICOMweb server")
        return
    require_studies(studies)
    place = next(folder for folder in (studies.resolve(), *studies.resolve().parents) if folder.exists())
    if place == studies.resolve():
        with NamedTemporaryFile(dir=place, prefix=".lesionbrush-"):  # raises OSError where we may not write
            pass
    free_gb, wanted_gb = shutil.disk_usage(place).free / 1e9, settings.free_gb + settings.upload_gb
    room = f"{free_gb:.1f} GB free, {wanted_gb:g} GB are needed"
    yield Finding("disk", f"{room}; {_describe_offer(studies)}", wrong=free_gb < wanted_gb)


def _describe_offer(studies: Path) -> str:
    """A misspelt folder is an empty one."""
    if not studies.exists():
        return f"{studies} is not there yet and will be made, without a CT"
    volumes = [path for path in studies.iterdir() if path.name.lower().endswith(SUFFIXES)]
    folders = [path for path in studies.iterdir() if path.is_dir() and path.name[0] != "."]
    others = [path for path in folders if path.name != LABELS]
    below = f", and {len(others)} sub-folders that are not looked into" if others else ""
    return f"{studies} has {len(volumes)} volumes{below}"


def _token(settings: ServerSettings, host: str, encrypted: bool) -> Iterator[Finding]:
    access = load_access(settings)
    require_bindable(host, access)
    if not access.guarded:
        yield Finding("token", "none: this machine alone can use the server")
        return
    for file in filter(None, (settings.token_file, settings.read_token_file)):
        if readable_by_others(file):
            yield Finding("token", f"other users can read {file}: chmod 600", wrong=True)
    yield Finding("token", f"{len(access.digests)} set")
    if not encrypted and not is_loopback(host):
        yield Finding("TLS", "none here: put a reverse proxy with TLS before it (docs/server.md)")


def _port(host: str, port: int) -> Iterator[Finding]:
    require_free(host, port)
    yield Finding("port", f"{host}:{port} is free")
