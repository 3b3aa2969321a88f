"""A CT on its way to a server: it goes once."""

from pathlib import Path
from typing import Optional, Union

from .addresses import reference_path
from .answers import StoredReference
from .errors import ServerError
from .patience import IsCancelled, Patience, interruptible, retrying, stop_if, watched
from .transport import Call, Transport
from .uploads import Upload
from .wire import Body, OnProgress

SLOW_S = 600.0
"""Reading, writing or passing on a whole CT, before a server says the first byte."""


def find_reference(transport: Transport, sha256: str) -> Optional[StoredReference]:
    """The reference whose file has this hash, None when the server has it not."""
    try:
        return transport.ask(Call("GET", reference_path(sha256)), StoredReference.from_json)
    except ServerError as error:
        if error.status == 404:
            return None
        raise


def send_reference(
    transport: Transport,
    source: Upload,
    patience: Patience,
    on_upload: Optional[OnProgress],
    cancelled: Optional[IsCancelled],
) -> StoredReference:
    """Asks by hash first, before each try too: what broke may have been the answer alone."""
    with source.packed() as upload:
        sha256 = interruptible(lambda: upload.sha256(lambda: stop_if(cancelled)), cancelled)

        def attempt(report: OnProgress) -> StoredReference:
            return find_reference(transport, sha256) or _sent(transport, upload, sha256, report)

        return retrying(lambda: watched(attempt, on_upload, cancelled), patience, cancelled)


def _sent(transport: Transport, upload: Upload, sha256: str, report: OnProgress) -> StoredReference:
    body = Body(upload.source, "application/octet-stream", report)
    call = Call("PUT", reference_path(sha256), {"format": upload.format}, body, timeout_s=SLOW_S)
    return transport.ask(call, lambda said: StoredReference.from_json(said, sent=True))


def as_upload(source: Union[Upload, Path, bytes], format: Optional[str]) -> Upload:
    if isinstance(source, Upload):
        return source
    if format is not None:
        return Upload(source, format)
    if isinstance(source, bytes):
        raise ValueError("bytes have no name to tell their type by: say which format they are")
    return Upload.of(source)
