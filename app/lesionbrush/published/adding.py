"""Add published weights: terms accepted, bytes checked, no pickled code run, every tensor in its place."""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import shutil
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import OpenerDirector

from lesionbrush.bundles.configs import INFERENCE, write_configs
from lesionbrush.core.registry import METADATA, WEIGHTS, file_sha256, models_dir
from lesionbrush.errors import DamagedFile, InvalidRequest, StorageFull, WeightsError
from lesionbrush.files.durable import sync_file
from lesionbrush.published.cards import card_of, documents_of
from lesionbrush.published.catalogue import KnownModel
from lesionbrush.published.download import OnBytes, fetch, is_url, plain_url
from lesionbrush.published.models import PUBLISHED, Origin, PublishedCard, PublishedModel
from lesionbrush.systems import find_system
from lesionbrush.systems.contract import PublishedWeights

if TYPE_CHECKING:
    from torch import Tensor

_ADDING = ".adding-"
_STALE_S = 24 * 3600
_UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError)
_LEGACY_PICKLE, _ZIP = b"\x80", b"PK\x03\x04"


@dataclass(frozen=True)
class WeightsOrder:
    """What to add, from where (an https URL or a path), and what the user knows and accepts.

    more: further sources of a model whose weights come in several files. sha256 and size_bytes are of all of
    them, one after the other.
    """

    known: KnownModel
    source: str
    license_accepted: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    more: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source, *self.more)


def check_order(order: WeightsOrder, root: Path | None = None) -> None:
    """Everything that can be refused before a byte is fetched. InvalidRequest says what to do."""
    known = order.known
    if not known.addable:
        raise InvalidRequest(f"{known.name!r} cannot be added yet: {known.reason}")
    if order.license_accepted != known.weights_license:
        given = "" if order.license_accepted is None else f" (you accepted {order.license_accepted!r})"
        raise InvalidRequest(
            f"the licence of these weights is {known.weights_license!r}{given}: read the terms, and "
            f'if you accept them add  --accept-licence "{known.weights_license}"'
        )
    if order.source and len(order.sources) != known.files:
        raise InvalidRequest(
            f"{known.name!r}: files given: {len(order.sources)}; its weights are {known.files} "
            f"({known.file}): add  {known.options}"
        )
    for theirs, ours in ((order.sha256, known.sha256), (order.size_bytes, known.size_bytes)):
        if theirs is not None and ours is not None and theirs != ours:
            raise InvalidRequest(
                f"{known.name!r} is known as {ours}, you expect {theirs}: leave it out, or check it"
            )
    if os.path.lexists((root or models_dir()) / known.name):
        raise InvalidRequest(
            f"{known.name!r} is there already: to replace it, first  models remove {known.name}"
        )


def add(
    order: WeightsOrder, on_bytes: OnBytes, root: Path | None = None, opener: OpenerDirector | None = None
) -> PublishedModel:
    """Fetch or read, check, convert, and publish the folder in one step; when any of it fails nothing stays.

    Raises InvalidRequest, DamagedFile, WeightsError, StorageFull.
    """
    check_order(order, root)
    root = root or models_dir()
    with _workshop(root) as workshop:
        files = [
            _obtain(source, workshop / f"download{number}", on_bytes, opener)
            for number, source in enumerate(order.sources)
        ]
        origin = _check_origin(order, files)
        read = [read_weights(file) for file in files]
        state = _convert(order.known, read if order.more else read[0])
        folder = workshop / order.known.name
        card = _write(folder, order, origin, state)
        folder.rename(root / order.known.name)
    return PublishedModel(card, root / order.known.name)


def read_weights(file: Path) -> Any:
    """What a weights file holds. No pickled code is run: more than tensors and numbers is refused.

    DamagedFile for what is no weights file, WeightsError for one that holds more.
    """
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.lstrip()[:1] == b"<":
        raise DamagedFile(
            "this is a web page, not weights: some sites answer with a page to confirm on. Open the address "
            "in a browser, download the file there, and give its path"
        )
    if start.startswith((_ZIP, _LEGACY_PICKLE)):
        return _unpickle(file)
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < file.stat().st_size:
        return _safetensors(file)
    raise DamagedFile("this is neither a PyTorch file nor safetensors: check that it is the weights file")


def _unpickle(file: Path) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "the file holds more than tensors and numbers, and reading it would run code from it: refused; "
            "nothing of it was run"
        ) from error
    except _UNREADABLE as error:
        raise DamagedFile(
            f"the file cannot be read as PyTorch weights ({_first_line(error)}): get it again"
        ) from error


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, *_UNREADABLE) as error:
        raise DamagedFile(
            f"the file cannot be read as safetensors ({_first_line(error)}): get it again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _obtain(source: str, download: Path, on_bytes: OnBytes, opener: OpenerDirector | None) -> Path:
    if is_url(source):
        fetch(source, download, on_bytes, opener)
        return download
    file = Path(source)
    if not file.is_file():
        raise InvalidRequest(f"no file {source!r}: give the path of the weights, or an https address")
    return file


def _check_origin(order: WeightsOrder, files: Sequence[Path]) -> Origin:
    """InvalidRequest when size or SHA-256 are not the expected ones."""
    known = order.known
    wanted_bytes, wanted = order.size_bytes or known.size_bytes, order.sha256 or known.sha256
    size = sum(file.stat().st_size for file in files)
    if wanted_bytes is not None and size != wanted_bytes:
        raise DamagedFile(
            f"the file has {size} bytes, expected are {wanted_bytes}: it is another file, or damaged"
        )
    digest = file_sha256(*files)
    if wanted is not None and digest != wanted.lower():
        raise DamagedFile(
            f"the file has SHA-256 {digest}, expected is {wanted}: it is another file, or damaged"
        )
    names = [plain_url(one) if is_url(one) else Path(one).name for one in order.sources]
    return Origin(
        source=" + ".join(names), size_bytes=size, sha256=digest, sha256_expected=wanted is not None
    )


def find_weights(known: KnownModel) -> PublishedWeights:
    """What its system knows of such weights. WeightsError where it knows none."""
    system = find_system(str(known.architecture))
    if system.published is None:
        raise WeightsError(f"system {system.name!r} takes no published weights")
    return system.published()


def _convert(known: KnownModel, checkpoint: Any) -> dict[str, Tensor]:
    import torch

    state = find_weights(known).convert(checkpoint)
    damaged = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if damaged:
        raise WeightsError(
            f"{len(damaged)} tensors hold NaN or infinity, first {damaged[0]}: the file is damaged"
        )
    # A copy of its own for each: parts of one published tensor share memory, which safetensors refuses.
    return {name: value.to(torch.float32, copy=True).contiguous() for name, value in state.items()}


def _write(folder: Path, order: WeightsOrder, origin: Origin, state: Mapping[str, Tensor]) -> PublishedCard:
    from safetensors.torch import save_file

    for part in (WEIGHTS, PUBLISHED):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), folder / WEIGHTS)
    added = PublishedCard(
        model=order.known,
        origin=origin,
        license_accepted=str(order.license_accepted),
        added_on=date.today().isoformat(),
    )
    (folder / PUBLISHED).write_text(added.model_dump_json(indent=2) + "\n", encoding="utf-8")
    card = card_of(order.known, find_weights(order.known), file_sha256(folder / WEIGHTS))
    write_configs(folder, card)
    documents = documents_of(order.known, card)
    for part, text in documents.items():
        (folder / part).parent.mkdir(exist_ok=True)
        (folder / part).write_text(text, encoding="utf-8")
    for part in (WEIGHTS, PUBLISHED, METADATA, INFERENCE, *documents):
        if part != INFERENCE or (folder / part).is_file():  # of systems whose networks MONAI can build
            sync_file(folder / part)
    return added


@contextmanager
def _workshop(root: Path) -> Iterator[Path]:
    """A folder on the disk of the models, gone in the end. What killed runs left a day ago goes too."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{_ADDING}*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    workshop = root / f"{_ADDING}{secrets.token_hex(4)}"
    workshop.mkdir()
    try:
        yield workshop
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk of the models folder is full: nothing was added") from error
        raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
