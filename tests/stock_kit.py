"""MONAI Label's own clients against our servers: its Python client, and its 3D Slicer plugin's requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import requests
from doors_kit import READ_TOKEN, TOKEN
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException
from own_server import Started, serving
from server_kit import FAST, MODEL, make_ct, make_mask

SCRIBBLES = ("background_scribbles", "foreground_scribbles")


@dataclass(frozen=True)
class House:
    """A server of `run.py serve`; token: None where it has none."""

    server: Started
    token: str | None

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def studies(self) -> Path:
        return self.server.root / "studies"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@contextmanager
def house(root: Path, models_dir: Path, guarded: bool) -> Iterator[House]:
    variables = {"LESIONBRUSH_TOKEN": TOKEN, "LESIONBRUSH_READ_TOKEN": READ_TOKEN} if guarded else {}
    with serving(root, models_dir, **variables) as server:
        yield House(server, TOKEN if guarded else None)


def stock_client(house: House, folder: Path, client_id: str | None = "reader-7") -> MONAILabelClient:
    """Logged in as the plugin does it, where the server wants that."""
    client = MONAILabelClient(house.url, str(folder), client_id)
    if client.auth_enabled():
        client.update_auth(client.auth_token("anybody", house.token))
    return client


def refused(call: Any, *words: str) -> None:
    """The client says what the server said."""
    with pytest.raises(MONAILabelClientException) as caught:
        call()
    assert all(word in str(caught.value.msg) for word in words), caught.value.msg


def another_ct(number: int) -> Volume:
    """Like `make_ct`, and no other is the same."""
    ct = make_ct()
    return ct.with_array(ct.array - number)


def saved(volume: Volume, path: Path) -> str:
    write_volume(volume, path)
    return str(path)


@dataclass
class Plugin:
    """MONAI Label's 3D Slicer plugin as the server sees it (plugins/slicer/MONAILabel/MONAILabel.py)."""

    house: House
    folder: Path
    client_id: str = "user-xyz"
    token: dict[str, str] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def client(self) -> MONAILabelClient:
        """A new one for each request, which asks each time whether its token still holds."""
        client = MONAILabelClient(self.house.url, str(self.folder), self.client_id)
        if client.auth_enabled():
            client.update_auth(self.token)
            if not self.token or not client.auth_valid_token():
                self.token = client.auth_token(self.client_id, self.house.token)
                client.update_auth(self.token)
        return client

    def connect(self) -> None:
        self.info = self.client().info()
        assert not self.info.get("config"), "the plugin calls such a server too old"

    def models(self, *types: str) -> list[str]:
        """What one of its selectors lists."""
        return [name for name, model in self.info["models"].items() if model["type"] in types]

    def runs_by_itself(self) -> list[str]:
        """The models that it starts at each Next Sample, with nothing drawn."""
        labels = self.info["labels"]
        return [n for n, m in self.info["models"].items() if any(label in m["labels"] for label in labels)]

    def options(self, section: str, name: str) -> dict[str, Any]:
        """Its table of options, shown as text and read again."""
        config = self.info[section][name].get("config", {})
        return {key: shown_and_read(value) for key, value in config.items()}

    def next_sample(self, strategy: str) -> dict[str, Any]:
        sample: dict[str, Any] = self.client().next_sample(strategy, self.options("strategies", strategy))
        if sample.get("id"):
            assert not sample.get("path"), "the plugin would read that file"
            # Slicer itself downloads it, and sends no token: that it cannot is said in docs/server.md.
            address = f"{self.house.url}/datastore/image?image={quote_plus(sample['id'])}"
            answer = requests.get(address, headers=self.house.headers, timeout=30)
            answer.raise_for_status()
            (self.folder / sample["name"]).write_bytes(answer.content)
            assert sample["id"] in self.client().datastore()["objects"]
        return sample

    def run(self, image: str, drawn: Path, names: list[str], session: str | None = None) -> Any:
        """Its scribbles section, the one that sends what was drawn. (file, params) of the answer."""
        params = {
            **self.options("models", MODEL),
            **FAST,
            "roi": [],
            "label_info": [{"name": name, "id": number} for number, name in enumerate(names, 1)],
            "selected_label_name": names[0],
            "result_extension": ".nrrd",
            "result_dtype": "uint8",
        }
        return self.client().infer(MODEL, image, params, str(drawn), session_id=session)

    def submit(self, image: str, drawn: Path, names: list[str]) -> dict[str, Any]:
        info = [
            {"name": name, "idx": number} for number, name in enumerate(names, 1) if name not in SCRIBBLES
        ]
        result: dict[str, Any] = self.client().save_label(
            image, str(drawn), params={"label_info": info, "model": ""}
        )
        self.connect()
        return result


def shown_and_read(value: Any) -> Any:
    """What a cell of the plugin's table makes of a value."""
    if isinstance(value, list):
        return value[0]
    if isinstance(value, (bool, str)):
        return value
    text = str(value) if value else ""
    return type(value)(text) if text else type(value)()


def drawing(path: Path, value: int = 1, scribbles: int = 0) -> Path:
    """The ball of `make_mask` as one segment; scribbles: the value of the upper half of it, if not 0."""
    array = make_mask(value).array.copy()
    if scribbles:
        upper = array[:, :, array.shape[2] // 2 :]
        upper[upper > 0] = scribbles
    write_volume(make_mask().with_array(array), path)
    return path
