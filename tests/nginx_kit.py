"""The reverse proxy of docs/server.md, run for real: its example, with other ports and files."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from certificates import Authority
from dicom_kit import missing
from server_kit import REPOSITORY, free_port, stop

HOST = "127.0.0.1"
AROUND = """
daemon off;
pid {root}/nginx.pid;
error_log {root}/error.log;
{user}
events {{}}
http {{
    access_log {root}/access.log;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
{example}
}}
"""


@dataclass(frozen=True)
class Proxy:
    url: str
    authority: Path
    root: Path


def example(kind: str = "nginx") -> str:
    """The one block of this kind in docs/server.md."""
    page = (REPOSITORY / "docs" / "server.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
    return str(block)


def changed(text: str, changes: dict[str, str]) -> str:
    """Each of the texts has to be there: the page and the test must not drift apart."""
    for old, new in changes.items():
        assert old in text, f"docs/server.md does not say {old!r} any more"
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(root: Path, server_port: int, body: str = "4g") -> Iterator[Proxy]:
    """body: in the place of the page's limit."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        missing("nginx")
    assert program is not None
    root.mkdir()
    authority = Authority.make(root / "authority")
    certificate, key = authority.sign(HOST)
    port = free_port()
    text = changed(
        example(),
        {
            "listen 443 ssl": f"listen {HOST}:{port} ssl",
            "/var/log/nginx/lesionbrush.log": str(root / "own.log"),
            "/etc/ssl/ct.crt": str(certificate),
            "/etc/ssl/ct.key": str(key),
            "http://127.0.0.1:8000": f"http://127.0.0.1:{server_port}",
            "client_max_body_size 4g": f"client_max_body_size {body}",
        },
    )
    user = "user root;" if getpass.getuser() == "root" else ""
    config = root / "nginx.conf"
    config.write_text(AROUND.format(root=root, user=user, example=text))
    with (root / "nginx.log").open("w") as log:
        process = subprocess.Popen([program, "-p", str(root), "-c", str(config)], stdout=log, stderr=log)
    proxy = Proxy(f"https://{HOST}:{port}", authority.file, root)
    try:
        _wait(proxy, process)
        yield proxy
    finally:
        stop(process)


def _wait(proxy: Proxy, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(proxy.url, verify=str(proxy.authority), timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nginx did not start: {(proxy.root / 'nginx.log').read_text()[-2000:]}")
