"""From files to files: what is sent, what is kept, how failure is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_fake import GENERATED, RECORD, Fake, running
from LesionBrushLib.client import Client, JobClient, Layout, ServerError, ServerUnreachable, Upload
from LesionBrushLib.client.errors import WrongInput
from server_kit import free_port

Infer = Callable[..., Any]
SECRET = "patient-name"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as fake:
        yield fake


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


def test_it_sends_files_under_fixed_names(fake: Fake, infer: Infer) -> None:
    progress: list[tuple[int, int]] = []
    client = Client(fake.url, token="abc", on_upload=lambda sent, total: progress.append((sent, total)))
    infer(client, params={"seed": 5})
    (job,) = [body for line, body in zip(fake.asked, fake.bodies, strict=True) if line.startswith("POST")]
    assert fake.headers[-1]["Authorization"] == "Bearer abc"
    assert b"ct" * 2_000_000 in fake.bodies
    assert b'name="label"; filename="mask.nrrd"\r\n\r\nmask\r\n' in job
    assert b'name="params"\r\n\r\n{"seed": 5}\r\n' in job
    assert SECRET not in str((fake.headers, fake.asked))
    assert not any(SECRET.encode() in body for body in fake.bodies)
    assert progress == sorted(progress)
    assert progress[-1] == (4_000_000, 4_000_000)


def test_it_writes_image_and_record(fake: Fake, infer: Infer, tmp_path: Path) -> None:
    fake.record = {"seed": 5, "seconds": {"read": 1.0}}
    result = infer(Client(fake.url), "ct.nii.gz")
    assert result.path == tmp_path / "out" / "ct.nii.gz"
    assert result.path.read_bytes() == fake.volume
    written = json.loads((tmp_path / "out" / "ct.provenance.json").read_text())
    assert written == fake.record == result.provenance
    assert result.seconds == {"read": 1.0}
    assert len(list(result.path.parent.iterdir())) == 2
    assert fake.count("/box") == 0


def test_paths_may_be_text(fake: Fake, files: Path, tmp_path: Path) -> None:
    """As the README writes them."""
    paths = {"mask_path": files / f"{SECRET}-mask.nrrd", "reference_path": files / f"{SECRET}.nii.gz"}
    texts = {name: str(path) for name, path in paths.items()}
    result = Client(fake.url).infer("lung", out_path=str(tmp_path / "ct.nii"), **texts)
    assert result.path.read_bytes() == fake.volume


def test_several_variants(fake: Fake, infer: Infer, tmp_path: Path) -> None:
    """Numbered as the server does, without those that somebody has discarded."""
    fake.end = {"state": "done", "variants": 3, "discarded": [2]}
    result = infer(Client(fake.url), "ct.NII")
    assert [path.name for path in result.paths] == ["ct-1.NII", "ct-3.NII"]
    names = ["ct-1.NII", "ct-1.provenance.json", "ct-3.NII", "ct-3.provenance.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_a_whole_ct_needs_neither_ct_nor_mask(fake: Fake, tmp_path: Path) -> None:
    fake.generate()
    labels = Layout(Upload(b"labels", "nii.gz"), {1: "liver"})
    result = Client(fake.url).infer(
        "chest", out_path=tmp_path / "ct.nii.gz", layout=labels, report="a nodule"
    )
    assert result.provenance == GENERATED
    assert result.path.read_bytes() == fake.volume
    assert fake.count("/labels") == 0


def test_a_lost_connection_leaves_what_was_there(fake: Fake, infer: Infer, tmp_path: Path) -> None:
    (tmp_path / "out" / "ct.nii").write_text("what was there")
    fake.lose["volume"] = 1000
    client = Client(fake.url)
    client.patience = type(client.patience)(silent_s=1.0, lost_s=0.3, first_wait_s=0.05)
    with pytest.raises(ServerUnreachable, match="the connection was lost"):
        infer(client)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["what was there"]


def test_the_box_is_not_for_files(fake: Fake, infer: Infer) -> None:
    with pytest.raises(WrongInput, match="output: whole CTs are written here"):
        infer(Client(fake.url), params={"output": "box"})
    assert fake.asked == []


def test_no_proxy_sees_a_ct(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert Client(fake.url).images() == ["ct1", "ct2"]


def test_a_ct_is_not_sent_on_to_another_address(fake: Fake, infer: Infer) -> None:
    fake.refuse["put"] = (307, b"", {"Location": f"{fake.url}/elsewhere"})
    with pytest.raises(ServerError, match="307"):
        infer(Client(fake.url))
    assert fake.count("elsewhere") == 0


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
def test_what_the_server_says_is_passed_on(fake: Fake, status: int, body: str, code: str, words: str) -> None:
    fake.refuse["facts"] = (status, body.encode(), {})
    with pytest.raises(ServerError, match=words) as error:
        JobClient(fake.url).models()
    assert (error.value.status, error.value.code) == (status, code)


@pytest.mark.parametrize(
    "given", [{"name": "ct.dcm"}, {"mask_path": Path("mask.png")}, {"reference_path": Path("ct")}]
)
def test_an_unknown_file_type_is_not_even_sent(fake: Fake, infer: Infer, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown file type; use one of \.nii\.gz"):
        infer(Client(fake.url), **given)
    assert fake.asked == []


def test_nobody_there() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(ServerUnreachable, match=r"from http://127\.0\.0\.1:\d+ .*start the server"):
        client.images()
    began = time.monotonic()
    with pytest.raises(ServerUnreachable):
        client.wait_until_ready(0.3)
    assert 0.3 < time.monotonic() - began < 5
    with pytest.raises(ServerUnreachable):
        client.wait_until_ready(60, alive=lambda: False)


def test_waiting_for_a_server(fake: Fake) -> None:
    Client(fake.url).wait_until_ready(1)
    fake.refuse["facts"] = (503, b"", {})
    with pytest.raises(ServerError):
        Client(fake.url).wait_until_ready(1)


def test_a_ct_is_stored(fake: Fake, files: Path) -> None:
    assert Client(fake.url).put_image(files / f"{SECRET}.nii.gz", "own") == "own"
    assert fake.asked == ["PUT /datastore/image?image=own"]
    assert b'filename="reference.nii.gz"' in fake.bodies[0]


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


def test_a_token_from_a_file_has_a_line_break(fake: Fake, infer: Infer) -> None:
    assert infer(Client(fake.url, token="abcdefghijklmnopqrstuvwx\n")).provenance == RECORD
    assert "Bearer abcdefghijklmnopqrstuvwx" in fake.headers[0]["Authorization"]
