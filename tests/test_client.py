"""The client against a server that does as it is told: what is sent, what is kept, how failure is said."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from LesionBrushLib.client import Client, ServerError, ServerUnreachable
from LesionBrushLib.client.errors import WrongInput
from LesionBrushLib.client.wire import BrokenAnswer, read_answer
from server_kit import free_port

Infer = Callable[..., Any]
SECRET = "patient-name"
RECORD = {"seconds": {"read": 1.0}, "variants": [{"seed": 5}]}


@dataclass
class Script:
    """What the server answers, and what it was asked. stop_after: bytes of the body it really sends."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    wait_s: float = 0.0
    paths: list[str] = field(default_factory=list)
    asked: list[tuple[Message, bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.paths.append(self.path)
            script.asked.append((self.headers, body))
            time.sleep(script.wait_s)
            self.send_response(script.status)
            for name, value in {"Content-Length": str(len(script.body)), **script.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(script.body[: script.stop_after])

        do_GET = do_POST = answer  # noqa: N815, the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield script
    server.shutdown()
    server.server_close()


def answer(image: bytes, record: dict[str, Any] = RECORD) -> bytes:
    """As the server forms it."""
    parts = (b'--b\r\nContent-Disposition: form-data; name="params"', json.dumps(record).encode())
    length = f'--b\r\nContent-Disposition: form-data; name="image"\r\nContent-Length: {len(image)}'.encode()
    return parts[0] + b"\r\n\r\n" + parts[1] + b"\r\n" + length + b"\r\n\r\n" + image + b"\r\n--b--\r\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder whose files have a patient's name."""
    folder = tmp_path / SECRET
    folder.mkdir()
    (folder / f"{SECRET}.nii.gz").write_bytes(b"ct" * 2_000_000)
    (folder / f"{SECRET}-mask.nrrd").write_bytes(b"mask")
    return folder


@pytest.fixture
def infer(files: Path, tmp_path: Path) -> Infer:
    out = tmp_path / "out"
    out.mkdir()

    def call(client: Client, name: str = "ct.nii", **given: Any) -> Any:
        reference = files / f"{SECRET}.nii.gz"
        wanted = {"reference_path": reference, "mask_path": files / f"{SECRET}-mask.nrrd", **given}
        return client.infer("lung", out_path=out / name, **wanted)

    return call


def test_it_sends_files_under_fixed_names(script: Script, infer: Infer) -> None:
    script.body = answer(b"image")
    progress: list[tuple[int, int]] = []
    client = Client(script.url, token="abc", on_upload=lambda sent, total: progress.append((sent, total)))
    infer(client, params={"seed": 5})
    headers, body = script.asked[0]
    assert headers["Authorization"] == "Bearer abc"
    assert SECRET.encode() not in body
    assert SECRET not in str(headers)
    assert b'name="file"; filename="reference.nii.gz"\r\n\r\n' + b"ct" * 2_000_000 + b"\r\n" in body
    assert b'name="label"; filename="mask.nrrd"\r\n\r\nmask\r\n' in body
    assert b'name="params"\r\n\r\n{"seed": 5}\r\n' in body
    assert script.paths == ["/infer/lung?output=all&format=nii"]
    assert progress == sorted(progress)
    assert progress[-1] == (len(body), len(body))


def test_it_writes_image_and_record(script: Script, infer: Infer, tmp_path: Path) -> None:
    script.body = answer(b"image\r\n--b\r\n" * 500_000)
    result = infer(Client(script.url), "ct.nii.gz")
    assert result.path == tmp_path / "out" / "ct.nii.gz"
    assert result.path.read_bytes() == b"image\r\n--b\r\n" * 500_000
    assert (
        json.loads((tmp_path / "out" / "ct.provenance.json").read_text()) == {"seed": 5} == result.provenance
    )
    assert result.seconds == {"read": 1.0}
    assert len(list(result.path.parent.iterdir())) == 2


def test_paths_may_be_text(script: Script, infer: Infer, files: Path, tmp_path: Path) -> None:
    """As the README writes them."""
    script.body = answer(b"image")
    paths = {"mask_path": files / f"{SECRET}-mask.nrrd", "reference_path": files / f"{SECRET}.nii.gz"}
    texts = {name: str(path) for name, path in paths.items()}
    result = Client(script.url).infer("lung", out_path=str(tmp_path / "ct.nii"), **texts)
    assert result.path.read_bytes() == b"image"
    assert b'filename="reference.nii.gz"' in script.asked[0][1]


def test_several_variants(script: Script, infer: Infer, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with ZipFile(archive, "w") as zipped:
        for number in (1, 2):
            zipped.writestr(f"../../{number}.nii", f"image {number}")
            zipped.writestr(f"{number}.provenance.json", "{}")
    script.body = answer(archive.getvalue(), {"seconds": {}, "variants": [{"seed": 1}, {"seed": 2}]})
    result = infer(Client(script.url))
    assert [path.read_text() for path in result.paths] == ["image 1", "image 2"]
    names = ["ct-1.nii", "ct-1.provenance.json", "ct-2.nii", "ct-2.provenance.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_a_dicom_folder_goes_without_its_names(script: Script, infer: Infer, tmp_path: Path) -> None:
    script.body, series = answer(b"image"), tmp_path / "series"
    (series / "sub").mkdir(parents=True)
    for name in (f"{SECRET}.DCM", f"b.{SECRET}", "DICOMDIR"):
        (series / name).write_bytes(b"slice")
    infer(Client(script.url), reference_path=series)
    body = script.asked[0][1]
    start = body.index(b'filename="reference.zip"\r\n\r\n') + 28
    with ZipFile(io.BytesIO(body[start:])) as zipped:
        assert zipped.namelist() == ["00000", "00001", "00002.dcm"]
    assert SECRET.encode() not in body


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stop_after": 1_000_000}, "no usable answer"),
        ({"stop_after": 60}, "no usable answer"),
        ({"body": b"<html>another server</html>"}, "no usable answer"),
        ({"body": b""}, "no usable answer"),
        ({"wait_s": 0.6}, "was silent for 0.3 s"),
    ],
)
def test_a_broken_answer_leaves_what_was_there(
    script: Script, infer: Infer, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    script.body = answer(b"image" * 1_000_000)
    vars(script).update(change)
    (tmp_path / "out" / "ct.nii").write_text("what was there")
    with pytest.raises(ServerUnreachable, match=words):
        infer(Client(script.url, timeout_s=0.3))
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["what was there"]


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (
            422,
            '{"detail": {"code": "empty_mask", "message": "the mask is empty"}}',
            "empty_mask",
            "^the mask is empty$",
        ),
        (404, '{"detail": "Image NOT Found"}', "http_error", "answered 404: .*Image NOT Found"),
        (500, "Internal Server Error", "http_error", "answered 500: Internal Server Error"),
        (502, "", "http_error", "answered 502: Bad Gateway"),
    ],
)
def test_what_the_server_says_is_passed_on(
    script: Script, status: int, body: str, code: str, words: str
) -> None:
    script.status, script.body = status, body.encode()
    with pytest.raises(ServerError, match=words) as error:
        Client(script.url).info()
    assert (error.value.status, error.value.code) == (status, code)


def test_a_ct_is_not_sent_on_to_another_address(script: Script, infer: Infer) -> None:
    script.status, script.headers = 307, {"Location": f"{script.url}/elsewhere"}
    with pytest.raises(ServerError, match="307"):
        infer(Client(script.url))
    assert script.paths == ["/infer/lung?output=all&format=nii"]


def test_no_proxy_sees_a_ct(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert Client(script.url).info() == {}


def test_a_models_name_is_no_path(script: Script, files: Path, tmp_path: Path) -> None:
    script.status = 404
    with pytest.raises(ServerError):
        Client(script.url).infer(
            "../info/?", mask_path=files / f"{SECRET}-mask.nrrd", out_path=tmp_path / "a.nii"
        )
    assert script.paths == ["/infer/..%2Finfo%2F%3F?output=all&format=nii"]


@pytest.mark.parametrize(
    "given", [{"name": "ct.dcm"}, {"mask_path": Path("mask.png")}, {"reference_path": Path("ct")}]
)
def test_an_unknown_file_type_is_not_even_sent(script: Script, infer: Infer, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown file type; use one of \.nii\.gz"):
        infer(Client(script.url), **given)
    assert script.paths == []


def test_nobody_there() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(ServerUnreachable, match=r"from http://127\.0\.0\.1:\d+ .*start the server"):
        client.info()
    began = time.monotonic()
    with pytest.raises(ServerUnreachable):
        client.wait_until_ready(0.3)
    assert 0.3 < time.monotonic() - began < 5
    with pytest.raises(ServerUnreachable):
        client.wait_until_ready(60, alive=lambda: False)


def test_waiting_for_a_server(script: Script) -> None:
    Client(script.url).wait_until_ready(1)
    script.status = 503
    with pytest.raises(ServerError):
        Client(script.url).wait_until_ready(1)


@pytest.mark.parametrize("cut", [0, 10, 70, 150, 220])
def test_an_answer_that_ends_anywhere(cut: int) -> None:
    whole, out = answer(b"image" * 20), io.BytesIO()
    assert len(whole) > cut + 5
    with pytest.raises(BrokenAnswer):
        read_answer(iter([whole[:cut]]), out)
    assert read_answer((whole[i : i + 1] for i in range(len(whole))), out) == RECORD


@pytest.mark.parametrize("which", ["reference_path", "mask_path"])
def test_a_result_never_replaces_what_it_is_made_from(tmp_path: Path, which: str) -> None:
    """Not even by another spelling of the name; nothing is sent."""
    paths = {name: tmp_path / f"{name}.nii" for name in ("reference_path", "mask_path")}
    for path in paths.values():
        path.write_bytes(b"a volume")
    spelled = tmp_path / "." / paths[which].name
    with pytest.raises(WrongInput, match=rf"{which}.nii is what the result is made from"):
        Client("http://127.0.0.1:9").infer("lung", out_path=spelled, params={}, **paths)
    assert paths[which].read_bytes() == b"a volume"


def test_a_token_from_a_file_has_a_line_break(script: Script, infer: Infer) -> None:
    script.body = answer(b"image")
    infer(Client(script.url, token="abcdefghijklmnopqrstuvwx\n"))
    assert "Bearer abcdefghijklmnopqrstuvwx" in script.asked[0][0]["Authorization"]
