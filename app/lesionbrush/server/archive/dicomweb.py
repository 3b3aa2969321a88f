"""A DICOMweb archive: search (QIDO-RS), retrieve (WADO-RS) and store (STOW-RS), by the kept dicomweb-client.

UIDs are checked before they become part of an address. Credentials come from the environment or a file, never
from an address, and no text raised here holds one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from lesionbrush.errors import DamagedFile, InvalidRequest, LesionBrushError
from lesionbrush.server.doors.perimeter import is_loopback
from lesionbrush.server.errors import ArchiveRefused, ArchiveUnreachable, NotInArchive

PREFIX = "LESIONBRUSH_DICOMWEB_"
CONNECT_S, READ_S = 5.0, 60.0
PAGE = 500
MAX_SERIES = 20_000
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_FIELDS = ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription", "SeriesNumber",
           "NumberOfSeriesRelatedInstances", "StudyDate", "PatientID")  # fmt: skip

logger = logging.getLogger(__name__)
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it logs every UID it is asked for


@dataclass(frozen=True)
class ListedSeries:
    """One series as the archive lists it. instances: None where it does not say."""

    series: str
    study: str
    instances: int | None
    modality: str
    description: str
    number: str
    date: str
    patient: str


def is_address(studies: str) -> bool:
    return studies.startswith(("http://", "https://"))


def check_address(address: str) -> str:
    """An address without credentials, query, final slash. InvalidRequest: it repeats no secret."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest("the address of the archive is not one: write http(s)://host[:port]/dicom-web")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidRequest(
            "the address of the archive holds more than host and path: credentials belong into "
            f"{PREFIX}USER and {PREFIX}PASSWORD, {PREFIX}TOKEN, or the file {PREFIX}CREDENTIALS_FILE"
        )
    return address.rstrip("/")


def is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def require_uid(uid: str) -> str:
    """InvalidRequest unless the text is a DICOM UID; old ones with zeros in front of a part are let in."""
    if not is_uid(uid):
        raise InvalidRequest(f"{uid[:70]!r} is no DICOM UID: it has up to 64 digits and dots")
    return uid


class Archive:
    """One archive. Safe to use from any thread but the event loop's: every call waits for the network.

    Raises ArchiveUnreachable, ArchiveRefused, NotInArchive.
    """

    def __init__(self, address: str, environ: Mapping[str, str] | None = None) -> None:
        """Raises InvalidRequest for an address or credentials that cannot be used. Asks nothing yet."""
        given = os.environ if environ is None else environ
        self.address = check_address(address)
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc: a patient's CT goes where the address says
        session.max_redirects = 0
        session.auth = _credentials(given)
        session.verify = _certificates(given)
        host = urlsplit(self.address).hostname or ""
        if session.auth and self.address.startswith("http:") and not is_loopback(host):
            logger.warning("the credentials of the archive travel unencrypted: give it an https address")
        for scheme in ("http://", "https://"):
            session.mount(scheme, _WithTimeout())
        self._client = _Client(self.address, session=session, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)

    def find_ct(self, series: str | None = None) -> list[ListedSeries]:
        """All CT series, or the one of this UID."""
        filters = {"Modality": "CT"} if series is None else {"SeriesInstanceUID": require_uid(series)}
        found: dict[str, ListedSeries] = {}
        while len(found) < MAX_SERIES:
            try:
                with _translate_errors():
                    page = self._client.search_for_series(
                        search_filters=filters, fields=list(_FIELDS), limit=PAGE, offset=len(found)
                    )
                    listed = [one for one in map(_parse_series, page) if one is not None]
            except NotInArchive as error:
                if series is not None:  # some archives answer so where nothing fits
                    break
                raise ArchiveUnreachable("there is no DICOMweb at the address of the archive") from error
            before = len(found)
            found.update({one.series: one for one in listed})
            if len(page) < PAGE or len(found) == before:
                break
        return list(found.values())

    def find_seg(self, study: str) -> list[str]:
        """SeriesInstanceUIDs of the segmentations in a study."""
        try:
            with _translate_errors():
                page = self._client.search_for_series(
                    require_uid(study), search_filters={"Modality": "SEG"}, fields=list(_FIELDS), limit=PAGE
                )
                listed = [one for one in map(_parse_series, page) if one is not None]
        except NotInArchive:
            return []
        return [one.series for one in listed if one.modality == "SEG"]

    def instances(self, study: str, series: str) -> set[str]:
        """SOP Instance UIDs that the archive has of a series; none for one it does not know."""
        found: set[str] = set()
        while True:
            try:
                with _translate_errors():
                    page = self._client.search_for_instances(
                        require_uid(study), require_uid(series), limit=PAGE, offset=len(found)
                    )
                    listed = {str(_value(item, "00080018")) for item in page}
            except NotInArchive:
                return found
            before = len(found)
            found |= listed
            if len(page) < PAGE or len(found) == before:
                return found

    def retrieve(self, study: str, series: str) -> Iterator[Dataset]:
        """The instances of a series, one by one, with pixels, as files."""
        with _translate_errors():
            yield from self._client.iter_series(require_uid(study), require_uid(series))

    def store(self, study: str, paths: Sequence[Path]) -> dict[str, int]:
        """Send files; returns those the archive refused: SOP Instance UID -> its failure reason."""
        with _translate_errors():
            answer = self._client.store_instances(
                [pydicom.dcmread(path) for path in paths], require_uid(study)
            )
        failed = answer.get("FailedSOPSequence") or []
        return {str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", 0)) for item in failed}

    def remove(self, study: str, series: str) -> bool:
        """Try to delete a series; DICOMweb does not oblige an archive to offer it."""
        try:
            with _translate_errors():
                self._client.delete_series(require_uid(study), require_uid(series))
        except LesionBrushError:
            return False
        return True


class _Client(DICOMwebClient):
    """Orthanc calls its multipart answers by another name, as MONAI Label has found, too."""

    def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Iterator[bytes]:
        kind, *rest = response.headers["content-type"].split(";")
        if kind.strip().lower() != "multipart/related":
            response.headers["content-type"] = ";".join(["multipart/related", *rest])
        decoded: Iterator[bytes] = super()._decode_multipart_message(response, stream)
        return decoded


class _WithTimeout(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or (CONNECT_S, READ_S)
        return super().send(request, *arguments, **options)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _certificates(environ: Mapping[str, str]) -> str | bool:
    file = environ.get(f"{PREFIX}CA_FILE")
    if file and not Path(file).is_file():
        raise InvalidRequest(f"there is no file as {PREFIX}CA_FILE says")
    return file or True


def _credentials(environ: Mapping[str, str]) -> AuthBase | None:
    """From ..._USER and ..._PASSWORD, ..._TOKEN, or a file with `user:password` or `Bearer token`."""
    user, password = environ.get(f"{PREFIX}USER"), environ.get(f"{PREFIX}PASSWORD")
    token, file = environ.get(f"{PREFIX}TOKEN"), environ.get(f"{PREFIX}CREDENTIALS_FILE")
    if sum(map(bool, (user or password, token, file))) > 1:
        raise InvalidRequest(
            f"set one of {PREFIX}USER with PASSWORD, {PREFIX}TOKEN, {PREFIX}CREDENTIALS_FILE"
        )
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the file in {PREFIX}CREDENTIALS_FILE cannot be read") from error
        scheme, _, rest = text.partition(" ")
        if scheme.lower() == "bearer" and rest:
            token = rest.strip()
        elif ":" in text:
            user, _, password = text.partition(":")
        else:
            raise InvalidRequest(f"{PREFIX}CREDENTIALS_FILE holds neither user:password nor Bearer TOKEN")
    if token:
        return _Bearer(token)
    if bool(user) != bool(password):
        raise InvalidRequest(f"{PREFIX}USER and {PREFIX}PASSWORD go together")
    return HTTPBasicAuth((user or "").encode(), (password or "").encode()) if user else None


@contextmanager
def _translate_errors() -> Iterator[None]:
    """From what requests and dicomweb-client raise to what an admin can act on. Addresses stay out of it."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            where = f"{PREFIX}USER and PASSWORD, TOKEN or CREDENTIALS_FILE"
            raise ArchiveRefused(f"the archive refuses us ({status}): check {where}") from error
        if status == 404:
            raise NotInArchive("the archive does not have it") from error
        raise ArchiveUnreachable(f"the archive answers with status {status}") from error
    except requests.TooManyRedirects as error:
        raise ArchiveUnreachable("the archive redirects, which is not followed: give its address") from error
    except requests.RequestException as error:
        kind = type(error).__name__
        raise ArchiveUnreachable(f"the archive does not answer ({kind}): is it running?") from error
    except (pydicom.errors.InvalidDicomError, EOFError) as error:
        raise DamagedFile("the archive sent something that is no DICOM") from error
    except (ValueError, KeyError, NotImplementedError, AttributeError) as error:
        raise ArchiveUnreachable("the archive answers in a way that is no DICOMweb") from error


def save(instance: Dataset, path: Path) -> None:
    """What `retrieve` gave as a file. Raises DamagedFile."""
    try:
        instance.save_as(path, write_like_original=False)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        raise DamagedFile("the archive sent a DICOM object that cannot be written as a file") from error


def _parse_series(item: Mapping[str, Any]) -> ListedSeries | None:
    """None for a series whose UIDs are none: it could not be asked for."""
    study, series = str(_value(item, "0020000D")), str(_value(item, "0020000E"))
    if not (is_uid(study) and is_uid(series)):
        return None
    count = _value(item, "00201209")
    return ListedSeries(
        series=series,
        study=study,
        instances=int(count) if str(count).isdecimal() else None,
        modality=str(_value(item, "00080060")),
        description=str(_value(item, "0008103E")),
        number=str(_value(item, "00200011")),
        date=str(_value(item, "00080020")),
        patient=str(_value(item, "00100020")),
    )


def _value(item: Mapping[str, Any], tag: str) -> Any:
    """The first value of an attribute in DICOM's JSON, "" when it has none."""
    values = item.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else values[0]
