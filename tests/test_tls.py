"""HTTPS by `run.py serve --tls-cert --tls-key`: a real handshake, and who is not believed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from certificates import Authority
from doors_kit import TOKEN
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.operation.serve import Tls
from LesionBrushLib.client import JobClient, Order, ServerUnreachable, ct_upload, mask_upload
from own_server import Started, serving
from server_kit import FAST, MODEL, STORED, affine, make_ct, make_mask

pytest_plugins = "server_fixtures"
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, hospital: Authority
) -> Iterator[Started]:
    certificate, key = hospital.sign(HOST)
    arguments = ("--tls-cert", str(certificate), "--tls-key", str(key))
    root = tmp_path_factory.mktemp("tls")
    with serving(root, models_dir, *arguments, authority=hospital.file, LESIONBRUSH_TOKEN=TOKEN) as started:
        yield started


@pytest.mark.server
class TestHandshake:
    def test_the_client_works_over_https(self, server: Started, hospital: Authority) -> None:
        """All of it: facts, upload, events, box."""
        assert server.url.startswith("https://")
        client = JobClient(server.url, TOKEN, ca_file=hospital.file)
        assert client.test_connection().ok
        assert STORED in client.images()
        ct = make_ct()
        order = Order(
            MODEL, mask_upload(make_mask().array, affine()), ct_upload(ct.array, affine()), dict(FAST)
        )
        (box,) = client.synthesize(order).boxes
        assert np.ptp(box.array) > 0

    def test_a_stranger_is_not_believed(self, server: Started, tmp_path: Path) -> None:
        """Same name, another key."""
        stranger = Authority.make(tmp_path)
        with pytest.raises(ServerUnreachable, match="its certificate was not accepted") as refused:
            JobClient(server.url, TOKEN, ca_file=stranger.file).about()
        assert refused.value.lasting

    def test_nobody_is_believed_without_an_authority(self, server: Started) -> None:
        with pytest.raises(ServerUnreachable, match="its certificate was not accepted"):
            JobClient(server.url, TOKEN).about()

    def test_a_certificate_of_another_host_is_refused(self, server: Started, hospital: Authority) -> None:
        elsewhere = JobClient(f"https://localhost:{server.port}", TOKEN, ca_file=hospital.file)
        with pytest.raises(ServerUnreachable, match="its certificate was not accepted"):
            elsewhere.about()

    def test_it_speaks_no_plain_http(self, server: Started) -> None:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{HOST}:{server.port}/health/live", timeout=10)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_it_speaks_the_tls_of_today(
        self, server: Started, hospital: Authority, version: ssl.TLSVersion
    ) -> None:
        context = ssl.create_default_context(cafile=str(hospital.file))
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection((HOST, server.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as wrapped,
        ):
            assert wrapped.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]

    def test_a_request_without_the_token_is_refused(self, server: Started, hospital: Authority) -> None:
        answer = requests.get(f"{server.url}/info/", verify=str(hospital.file), timeout=10)
        assert answer.status_code == 401


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"gone\.pem: there is no such file"):
        Tls(tmp_path / "gone.pem")
