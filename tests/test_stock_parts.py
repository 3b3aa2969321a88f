"""The parts behind the doors for MONAI Label's clients: words, sessions, strategies, runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import UnknownSession
from lesionbrush.server.stock import runs as kept_runs
from lesionbrush.server.stock.runs import Runs, UnseenRun
from lesionbrush.server.stock.strategies import list_strategies
from lesionbrush.server.stock.words import client_name, require_device, split
from lesionbrush.server.storage import sessions as sessions_module
from lesionbrush.server.storage.private import PrivateRoot
from lesionbrush.server.storage.sessions import Sessions
from lesionbrush.server.storage.vault import References
from storage_kit import ct_bytes, put


class Time:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[PrivateRoot]:
    (tmp_path / "studies").mkdir()
    made = PrivateRoot(tmp_path / "studies")
    yield made
    made.close()


@pytest.fixture
def references(root: PrivateRoot, clock: Time) -> References:
    return References(root, clock=clock)


@pytest.fixture
def reference(references: References, tmp_path: Path) -> str:
    return put(references, ct_bytes(tmp_path))


@pytest.fixture
def sessions(root: PrivateRoot, references: References, clock: Time) -> Sessions:
    return Sessions(root, references, clock)


class TestSessions:
    def test_it_ends_an_hour_after_its_last_use(
        self, sessions: Sessions, reference: str, clock: Time
    ) -> None:
        session = sessions.open(reference)
        for _ in range(3):
            clock.now += 3500
            assert sessions.use(session.id).used_s == clock.now
        clock.now += 3500
        assert sessions.find(session.id).used_s == clock.now - 3500, "looking is no use"
        clock.now += 200
        for ask in (sessions.find, sessions.use, sessions.close):
            with pytest.raises(UnknownSession, match=f"no session {session.id[:8]}"):
                ask(session.id)

    @pytest.mark.parametrize(("asked", "given"), [(0, 3600), (60, 60), (10**9, 3600)])
    def test_sooner_if_it_was_wanted_never_later(
        self, sessions: Sessions, reference: str, clock: Time, asked: float, given: float
    ) -> None:
        session = sessions.open(reference, asked)
        assert session.expiry_s == given
        clock.now += given + 1
        sessions.sweep()
        assert sessions.shelf.names() == []

    def test_it_outlives_the_server(
        self, root: PrivateRoot, references: References, sessions: Sessions, reference: str, clock: Time
    ) -> None:
        session = sessions.open(reference)
        assert Sessions(root, references, clock).find(session.id).reference == reference

    def test_it_ends_with_its_ct(self, sessions: Sessions, references: References, reference: str) -> None:
        session = sessions.open(reference)
        references.shelf.drop(reference)
        with pytest.raises(UnknownSession):
            sessions.use(session.id)

    def test_using_it_keeps_its_ct(
        self, sessions: Sessions, references: References, reference: str, clock: Time
    ) -> None:
        session = sessions.open(reference)
        for _ in range(30):
            clock.now += 3500
            sessions.use(session.id)
        references.sweep()
        assert sessions.find(session.id).reference == reference

    def test_a_thousand_and_no_more(
        self, sessions: Sessions, reference: str, clock: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 3)
        opened = []
        for _ in range(5):
            clock.now += 1
            opened.append(sessions.open(reference).id)
        assert sessions.shelf.names() == opened[2:]
        assert len(list(sessions.shelf.folder.iterdir())) == 3

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', '{"expiry_s": "../x"}'])
    def test_a_damaged_one_is_none(self, sessions: Sessions, reference: str, text: str) -> None:
        session = sessions.open(reference)
        (sessions.shelf.folder / session.id / "about.json").write_text(text)
        with pytest.raises(UnknownSession):
            sessions.find(session.id)
        sessions.sweep()
        assert sessions.shelf.names() == []

    def test_what_it_writes_is_for_nobody_else(self, sessions: Sessions, reference: str) -> None:
        folder = sessions.shelf.folder / sessions.open(reference).id
        assert os.name == "nt" or folder.stat().st_mode & 0o077 == 0


class TestWords:
    def test_ours_are_left_to_be_checked_as_ever(self) -> None:
        words, rest = split('{"steps": 3, "client_id": "a", "stepz": 1, "result_dtype": "uint8", "roi": []}')
        assert rest == {"steps": 3, "stepz": 1}
        assert (words.client_id, words.wants_label_map) == ("a", True)

    @pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "[" * 100_000])
    def test_what_is_no_object_is_left_as_it_is(self, text: str) -> None:
        words, rest = split(text)
        assert not words.wants_label_map
        assert not isinstance(rest, dict)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                '{"result_dtype": "float32"}',
                "'uint16' (got 'float32'); int16 is the CT, uint8 and uint16 are",
            ),
            ('{"result_extension": ".py"}', "result_extension: Input should be '.nii'"),
            ('{"label_info": [{"id": "x"}]}', "label_info.0.id: "),
            ('{"selected_label_name": null}', "selected_label_name: "),
        ],
    )
    def test_another_value_is_refused(self, text: str, said: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            split(text)
        assert said in str(caught.value)

    def test_a_device_is_one_of_the_servers(self) -> None:
        for device in (None, "cuda", "cuda:1"):
            words, _ = split("{}" if device is None else f'{{"device": "{device}"}}')
            require_device(words, ["cuda:0", "cuda:1"])
        for device in ("cpu", "cuda:2", "../x"):
            words, _ = split(f'{{"device": "{device}"}}')
            with pytest.raises(InvalidRequest, match="this server computes on cuda:0, cuda:1"):
                require_device(words, ["cuda:0", "cuda:1"])

    @pytest.mark.parametrize(
        ("client_id", "name"),
        [
            ("ann", "ann@h"),
            (None, "h"),
            ("", "h"),
            ("a b", "h"),
            ("a\r\nX: y", "h"),
            (5, "h"),
            ("x" * 65, "h"),
        ],
    )
    def test_who_asks(self, client_id: Any, name: str) -> None:
        assert client_name(client_id, "h") == name

    @pytest.mark.parametrize("value", [-1, 65536, 10**30, "1;x", 1.5])
    def test_a_value_is_one_a_label_map_can_have(self, value: Any) -> None:
        with pytest.raises(InvalidRequest, match=r"label_info\.0\.id: "):
            split(json.dumps({"label_info": [{"name": "lesion", "id": value}]}))
        words, _ = split('{"label_info": [{"name": "lesion", "id": 0}]}')
        assert words.values_of("lesion") == [], "what is not labelled is no lesion"

    def test_values_by_their_names(self) -> None:
        words, _ = split('{"label_info": [{"name": "a", "id": 4}, {"name": "b", "idx": 2}, {"name": "a"}]}')
        assert words.values_of("a", "b") == [4, 2]
        assert words.values_of("c") == []


class StudiesWith:
    def __init__(self, *images: str) -> None:
        self.images = list(images)

    def without_case(self) -> list[str]:
        return self.images


class TestStrategies:
    def test_first_and_random(self) -> None:
        strategies, studies = list_strategies(np.random.default_rng(3)), StudiesWith("a", "b", "c")
        assert strategies["first"]({}, studies) == {"id": "a"}  # type: ignore[arg-type]
        given = [strategies["random"]({}, studies)["id"] for _ in range(60)]  # type: ignore
        assert {given.count(image) > 10 for image in "abc"} == {True}
        again = list_strategies(np.random.default_rng(3))["random"]
        assert given == [again({}, studies)["id"] for _ in range(60)]  # type: ignore

    def test_when_all_is_done(self) -> None:
        for strategy in list_strategies(np.random.default_rng(0)).values():
            assert strategy({}, StudiesWith()) is None  # type: ignore[arg-type]
            assert strategy.info()["description"]


def test_only_so_many_runs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_runs, "MOST_RUNS", 2)
    runs = Runs()
    for name in ("a", "b", "a", "c"):
        runs.remember("who", name, UnseenRun(name, "lesion"))
    assert runs.find("who", "b") is None
    assert runs.find("who", "a") == UnseenRun("a", "lesion")
    assert runs.find("another", "a") is None
    for name in ("", "x" * 257):
        runs.remember("who", name, UnseenRun("d", "lesion"))
        assert runs.find("who", name) is None
