"""The list of routes, and who may use them: every rule of the gate, where it says no and where yes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from doors_kit import HERE, LOCAL, READ_TOKEN, SHA256, TOKEN, House, bearer, code_of
from fastapi import FastAPI
from lesionbrush.server.doors.gate import DOORS, PARTS, V1, find_door
from lesionbrush.server.http.routes import front_app
from lesionbrush.server.operation.health import router as operation_router
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service

VALUES = {
    "model": "tiny",
    "sha256": SHA256,
    "id": "abc123",
    "n": "1",
    "session": "a" * 32,
    "strategy": "first",
    "name": "like0123456789abcdef",
}
GUARDED = {"token": TOKEN, "read_token": READ_TOKEN}
REMOTE = ("10.0.0.7", 40000)
PAGE = "https://viewer.example"


def address(template: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda part: VALUES[part[1]], template)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.template}")
def test_every_door_opens(house: House, door: Any) -> None:
    answer = house.client().request(door.method, address(door.template))
    assert answer.status_code == 200
    if door.method != "HEAD":
        assert answer.text == ("stock" if door.stock else "front")


def test_the_list_is_what_there_is(tmp_path: Path) -> None:
    """A route that somebody adds is shut until it is on the list; the list names none that is not there."""

    def anonymous(template: str) -> str:
        return re.sub(r"\{\w+\}", "{}", template)

    def offered(app: FastAPI, prefix: str = "") -> set[tuple[str, str]]:
        paths = app.openapi()["paths"]
        return {(method.upper(), anonymous(prefix + path)) for path in paths for method in paths[path]}

    front = front_app(Service(studies=tmp_path), Studies(str(tmp_path)))
    front.include_router(operation_router)
    (v1,) = [route.app for route in front.routes if getattr(route, "path", "") == V1]
    there = offered(front) | offered(v1, V1) | {("GET", f"{V1}/openapi.json")}
    assert there == {(door.method, anonymous(door.template)) for door in DOORS if not door.stock}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/redoc"), ("GET", "//info/"),
        ("GET", "/info"), ("GET", "/INFO/"), ("POST", "/info/"), ("GET", "/info/x"),
        ("POST", "/infer/"), ("POST", "/infer/a/b"), ("POST", "/infer/..%2Ftiny"), ("POST", "/infer/a.b"),
        ("POST", f"/infer/{'m' * 65}"), ("GET", f"{V1}/references/{SHA256[1:]}"),
        ("GET", f"{V1}/references/{SHA256.upper()}"), ("GET", f"{V1}/references/../{SHA256}"),
        ("GET", f"{V1}/jobs/a.b"), ("GET", f"{V1}/jobs/a%2Fb"), ("GET", f"{V1}/jobs/x/variants/0"),
        ("GET", f"{V1}/jobs/x/variants/-1"), ("GET", f"{V1}/jobs/x/variants/1e3"),
        ("GET", f"{V1}/jobs/x/variants/99999"), ("PATCH", f"{V1}/jobs/x"), ("TRACE", "/info/"),
        ("OPTIONS", "/info/"), ("CONNECT", "/info/"),
    ],
)  # fmt: skip
def test_everything_else_is_404(house: House, method: str, path: str) -> None:
    answer = house.client().request(method, path)
    assert code_of(answer) == (404, "not_offered")
    assert path.strip("/") not in answer.json()["detail"]["message"] or path == "/"


def test_no_part_of_an_address_can_be_a_path() -> None:
    assert all(not re.search(pattern, hostile) or not re.fullmatch(pattern, hostile)
               for pattern in PARTS.values()
               for hostile in ("..", "a/b", "a\\b", "a.b", "~", "", "a\0b", "a\n", "ü", "%2e"))  # fmt: skip
    assert find_door("GET", f"{V1}/jobs/x\n")[0] is None


def test_there_is_no_websocket(house: House) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/info/", "headers": []}
    asyncio.run(house.client().app(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


class TestTokens:
    @pytest.mark.parametrize(
        "header",
        [
            "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN.upper()}", "Bearer ü", f"Bearer x {TOKEN}",
        ],
    )  # fmt: skip
    def test_the_wrong_one(self, house: House, header: str) -> None:
        headers = {"Authorization": header.encode()} if header else {}
        answer = house.client(**GUARDED).get("/info/", headers=headers)
        assert code_of(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="LesionBrush"'

    def test_the_right_one_from_anywhere_by_any_name(self, house: House) -> None:
        client = house.client("http://ct.hospital.example", REMOTE, **GUARDED)
        assert client.get("/info/", headers=bearer()).text == "stock"
        assert client.get("/info/", headers={"Authorization": f"bearer  {TOKEN} "}).text == "stock"
        assert client.post("/infer/tiny", headers=bearer()).text == "front"

    def test_the_reading_one(self, house: House) -> None:
        client = house.client(**GUARDED)
        reading = bearer(READ_TOKEN)
        for door in DOORS:
            answer = client.request(door.method, address(door.template), headers=reading)
            if door.method in ("GET", "HEAD"):
                assert answer.status_code == 200
            else:
                assert code_of(answer) == (403, "read_only")

    def test_a_stranger_does_not_learn_what_there_is(self, house: House) -> None:
        assert code_of(house.client(**GUARDED).get("/nothing")) == (401, "unauthorized")
        assert code_of(house.client(**GUARDED).get("/nothing", headers=bearer())) == (404, "not_offered")

    def test_the_probes_of_a_container_need_none(self, house: House) -> None:
        client = house.client("http://10.0.0.9", REMOTE, **GUARDED)
        assert client.get("/health/live").text == client.get("/health/ready").text == "front"
        assert client.get("/metrics").status_code == 401


class TestWithoutToken:
    @pytest.mark.parametrize(
        ("base_url", "peer"),
        [
            ("http://10.0.0.9:8000", REMOTE),
            ("http://10.0.0.9:8000", HERE),
            (LOCAL, REMOTE),
            (LOCAL, ("not an address", 1)),
            ("http://[2001:db8::1]:8000", ("2001:db8::2", 1)),
        ],
    )
    def test_only_this_machine(self, house: House, base_url: str, peer: tuple[str, int]) -> None:
        for path in ("/info/", "/health/live", "/nothing"):
            answer = house.client(base_url, peer).get(path)
            assert code_of(answer) == (403, "token_required")

    @pytest.mark.parametrize(
        "peer", [("127.0.0.1", 1), ("127.8.8.8", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)]
    )
    def test_this_machine(self, house: House, peer: tuple[str, int]) -> None:
        assert house.client(peer=peer).get("/info/").status_code == 200

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
    def test_nobody_behind_a_proxy(self, house: House, name: str) -> None:
        assert code_of(house.client().get("/info/", headers={name: "10.0.0.7"})) == (403, "token_required")

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "localhost.",
                 "localhost@evil.example:80", "evil.example@localhost", "169.254.169.254"]
    )  # fmt: skip
    def test_a_name_that_was_made_to_lead_here(self, house: House, host: str) -> None:
        assert code_of(house.client().get("/info/", headers={"Host": host})) == (421, "wrong_host")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
    def test_its_own_names(self, house: House, host: str) -> None:
        assert house.client().get("/info/", headers={"Host": host}).status_code == 200


class TestPages:
    def test_a_page_that_is_not_listed(self, house: House) -> None:
        client, page = house.client(), {"Origin": PAGE}
        assert "access-control-allow-origin" not in client.get("/info/", headers=page).headers
        assert code_of(client.post("/infer/tiny", headers=page)) == (403, "foreign_origin")
        assert code_of(client.post("/infer/tiny", headers={"Origin": "null"})) == (403, "foreign_origin")
        asks = {
            **page,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Private-Network": "true",
        }
        answer = client.options("/datastore/image", headers=asks)
        assert code_of(answer) == (404, "not_offered")
        assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_a_page_of_the_same_origin(self, house: House) -> None:
        assert house.client().post("/infer/tiny", headers={"Origin": LOCAL}).status_code == 200

    def test_a_listed_page(self, house: House) -> None:
        client = house.client(origins=(PAGE,), **GUARDED)
        asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, idempotency-key"}  # fmt: skip
        asked = client.options(f"{V1}/jobs", headers=asks)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in asked.headers
        answer = client.post(f"{V1}/jobs", headers={"Origin": PAGE, **bearer()})
        assert (answer.text, answer.headers["access-control-allow-origin"]) == ("front", PAGE)
        assert "X-LesionBrush-Box" in answer.headers["access-control-expose-headers"]
        assert client.post(f"{V1}/jobs", headers={"Origin": PAGE}).status_code == 401
        refused = client.options(f"{V1}/jobs", headers={**asks, "Origin": f"{PAGE}.evil.example"})
        assert refused.status_code == 401


class TestBodies:
    def test_too_much(self, house: House) -> None:
        client = house.client(upload_gb=1e-6)
        assert client.put("/datastore/image", content=b"x" * 1000).status_code == 200
        assert code_of(client.put("/datastore/image", content=b"x" * 1001)) == (413, "too_large")
        accept = f"{V1}/jobs/x/variants/1/accept"
        assert client.post(accept, content=b"x" * (1 << 16)).status_code == 200
        assert code_of(client.post(accept, content=b"x" * ((1 << 16) + 1))) == (413, "too_large")
        assert code_of(client.request("DELETE", f"{V1}/jobs/x", content=b"x")) == (413, "too_large")

    def test_no_room_on_the_disk(self, house: House) -> None:
        client, large = house.client(free_gb=1e9), b"x" * ((1 << 20) + 1)
        assert code_of(client.put("/datastore/image", content=large)) == (507, "storage_full")
        assert client.put("/datastore/image", content=large[1:]).status_code == 200

    @pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "", "٣", "9" * 400])
    def test_a_length_that_is_none(self, house: House, length: str) -> None:
        answer = house.client().post("/infer/tiny", headers={"Content-Length": length.encode()})
        assert answer.status_code in (411, 413)

    def test_an_unknown_length(self, house: House) -> None:
        answer = house.client().post("/infer/tiny", content=iter([b"x"]))
        assert code_of(answer) == (411, "length_required")


def test_answers_are_marked_and_not_kept_on_the_way(house: House) -> None:
    for path, status in (("/info/", 200), ("/nothing", 404)):
        answer = house.client().get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        visit = house.visits[-1]
        assert answer.headers["x-lesionbrush-request"] == visit.request
        assert (visit.status, visit.peer) == (status, "127.0.0.1")


def test_nothing_a_client_wrote_is_told_of_its_visit(house: House) -> None:
    client = house.client()
    client.get("/DOE_JANE?name=DOE_JANE")
    client.get(f"{V1}/jobs/DOE_JANE")
    client.post("/infer/DOE_JANE?image=DOE_JANE", headers={"Host": "DOE_JANE"})
    client.request("DOE_JANE", "/info/")
    client.get(f"{V1}/jobs/{'a1' * 12}")
    assert len(house.visits) == 5
    assert house.visits[-1].ident == "a1" * 12
    assert "DOE_JANE" not in str(house.visits)
