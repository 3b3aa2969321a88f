"""How the server is started, and what is said before it is: options, the stock command, `--check`."""

from __future__ import annotations

import os
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doors_kit import TOKEN
from lesionbrush.cli import serve as command
from lesionbrush.cli.__main__ import OneLineParser, main
from lesionbrush.core.registry import WEIGHTS
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.operation import serve as module
from lesionbrush.server.operation import startup
from lesionbrush.server.operation.serve import APP, Tls, serve, silence_dependencies, stock_host
from server_kit import free_port, make_model

MAIN = "/x/site-packages/monailabel/main.py"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test or the code sets is gone afterwards."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("LESIONBRUSH_")]:
        monkeypatch.delenv(name)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What uvicorn is told, instead of a server."""
    import uvicorn
    from lesionbrush.server.operation import logs
    from monailabel.config import settings

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **given: calls.append({"app": app, **given}))
    monkeypatch.setattr(logs, "configure", lambda style: calls.append({"log": style}))
    monkeypatch.setattr(module, "import_monai_label", lambda: None)
    for name, value in settings.model_dump().items():
        monkeypatch.setattr(settings, name, value)  # put back afterwards
    return calls


def options(*arguments: str) -> Namespace:
    parser = OneLineParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


class TestServe:
    def test_it_is_monai_labels_app_on_loopback(self, started: list[dict[str, Any]], tmp_path: Path) -> None:
        from monailabel.config import settings

        serve(tmp_path, port=8123, models=tmp_path)
        log, run = started
        assert log == {"log": "text"}
        assert (run["app"], run["host"], run["port"]) == ("monailabel.app:app", "127.0.0.1", 8123)
        assert (run["access_log"], run["server_header"], run["log_config"]) == (False, False, None)
        assert not [name for name in run if name.startswith("ssl")]
        assert str(APP) == settings.MONAI_LABEL_APP_DIR
        assert str(tmp_path) == settings.MONAI_LABEL_STUDIES
        assert not settings.MONAI_LABEL_SESSIONS
        assert os.environ["LESIONBRUSH_MODELS"] == str(tmp_path)
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"

    def test_a_dicomweb_address_stays_as_it_is(self, started: list[dict[str, Any]]) -> None:
        from monailabel.config import settings

        serve("http://archive.example/dicom-web")
        assert settings.MONAI_LABEL_STUDIES == "http://archive.example/dicom-web"

    def test_tls(self, started: list[dict[str, Any]], tmp_path: Path) -> None:
        for name in ("cert.pem", "key.pem"):
            (tmp_path / name).touch()
        serve(tmp_path, tls=Tls(tmp_path / "cert.pem", tmp_path / "key.pem"))
        assert started[-1]["ssl_certfile"] == str(tmp_path / "cert.pem")
        assert started[-1]["ssl_keyfile"] == str(tmp_path / "key.pem")
        with pytest.raises(InvalidRequest, match=r"no\.pem: there is no such file"):
            Tls(tmp_path / "cert.pem", tmp_path / "no.pem")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.9"])
    def test_no_token_no_other_address(
        self, started: list[dict[str, Any]], tmp_path: Path, host: str
    ) -> None:
        with pytest.raises(InvalidRequest, match="without a token this server does not listen"):
            serve(tmp_path, host)
        assert started == []
        os.environ["LESIONBRUSH_TOKEN"] = TOKEN
        serve(tmp_path, host)
        assert started[-1]["host"] == host


class TestCommand:
    def test_options_become_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        command.apply(
            options(
                "--token-file", "t", "--origin", "https://a.example", "--origin", "https://b.example",
                "--upload-gb", "2", "--log", "json", "--shutdown", "cancel", "--grace", "5",
            )
        )  # fmt: skip
        set_ = {name: value for name, value in os.environ.items() if name.startswith("LESIONBRUSH_")}
        assert set_ == {
            "LESIONBRUSH_TOKEN_FILE": "t",
            "LESIONBRUSH_ORIGINS": "https://a.example https://b.example",
            "LESIONBRUSH_UPLOAD_GB": "2",
            "LESIONBRUSH_LOG_FORMAT": "json",
            "LESIONBRUSH_SHUTDOWN": "cancel",
            "LESIONBRUSH_GRACE_SECONDS": "5",
        }

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--host", "0.0.0.0"], "without a token"),
            (["--token-file", "no such file"], "LESIONBRUSH_TOKEN_FILE cannot be read"),
            (["--origin", "*"], "is no origin"),
            (["--upload-gb", "much"], "LESIONBRUSH_UPLOAD_GB"),
            (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
            (["--tls-cert", "no.pem"], "there is no such file"),
        ],
    )
    def test_it_does_not_start(
        self,
        started: list[Any],
        capsys: Any,
        monkeypatch: Any,
        tmp_path: Path,
        arguments: list[str],
        words: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["serve", *arguments]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert (said.out, started, list(tmp_path.iterdir())) == ("", [], [])

    def test_a_new_token(self, capsys: Any, tmp_path: Path) -> None:
        file = tmp_path / "token"
        assert main(["serve", "--make-token", str(file)]) == 0
        assert file.read_text().strip() not in capsys.readouterr().out
        assert main(["serve", "--make-token", str(file)]) == 2

    def test_the_greeting(self, tmp_path: Path) -> None:
        open_ = command.greeting("127.0.0.1", 8000, tmp_path)
        assert "http://127.0.0.1:8000" in open_
        assert "Authorization" not in open_
        os.environ["LESIONBRUSH_TOKEN"] = TOKEN
        guarded = command.greeting("10.0.0.9", 8000, tmp_path)
        assert "Authorization: Bearer $TOKEN" in guarded
        assert TOKEN not in guarded
        assert "Without TLS" in guarded
        assert "Without TLS" not in command.greeting("10.0.0.9", 8000, tmp_path, encrypted=True)

    def test_studies_may_be_an_address(self) -> None:
        assert options("--studies", "https://a.example//dicom-web").studies == "https://a.example//dicom-web"
        assert options("--studies", "cts").studies == Path("cts")


class TestCheck:
    @pytest.fixture
    def checked(self, tmp_path: Path, capsys: Any) -> Callable[..., tuple[int, str]]:
        make_model(tmp_path / "models")
        os.environ["LESIONBRUSH_MODELS"] = str(tmp_path / "models")
        (tmp_path / "studies").mkdir()

        def check(*arguments: str) -> tuple[int, str]:
            port = () if "--port" in arguments else ("--port", str(free_port()))
            code = main(["serve", "--check", "--studies", str(tmp_path / "studies"), *port, *arguments])
            return code, capsys.readouterr().out

        return check

    def test_all_is_well(self, checked: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        code, text = checked()
        assert (code, text.splitlines()[-1]) == (0, "all is well")
        for topic in ("device", "models: tiny: weights", "disk", "token: none", "port: 127.0.0.1"):
            assert f"ok     {topic}" in text
        assert list((tmp_path / "studies").iterdir()) == []

    def test_everything_that_is_wrong_is_listed(
        self, checked: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        (tmp_path / "models" / "tiny" / WEIGHTS).write_bytes(b"damaged")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            code, text = checked("--port", str(taken.getsockname()[1]), "--free-gb", "1000000")
        assert code == 1
        for topic in ("models: the weights of 'tiny' have SHA-256", "disk: ", "port: "):
            assert f"WRONG  {topic}" in text
        assert text.splitlines()[-1] == "3 of 5 points are wrong"

    def test_the_token(self, checked: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        code, text = checked("--host", "0.0.0.0")
        assert (code, "WRONG  token: without a token" in text) == (1, True)
        main(["serve", "--make-token", str(tmp_path / "token")])
        code, text = checked("--host", "0.0.0.0", "--token-file", str(tmp_path / "token"))
        assert (code, "ok     TLS: none here" in text) == (0, True)
        (tmp_path / "token").chmod(0o644)
        if os.name != "nt":
            assert "WRONG  token: other users can read" in checked()[1]

    def test_no_model_and_no_place(self, checked: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        os.environ["LESIONBRUSH_MODELS"] = str(tmp_path / "none")
        (tmp_path / "file").touch()
        code, text = checked("--studies", str(tmp_path / "file" / "below"))
        assert code == 1
        assert "WRONG  models: none is installed" in text

    def test_settings_that_make_no_sense(self, checked: Callable[..., tuple[int, str]]) -> None:
        code, text = checked("--upload-gb", "-1")
        assert (code, "WRONG  settings: LESIONBRUSH_UPLOAD_GB" in text) == (1, True)


class TestStockCommand:
    @pytest.mark.parametrize(
        ("argv", "host"),
        [
            ([MAIN, "start_server", "--app", "a"], "0.0.0.0"),
            ([MAIN, "start_server", "--host", "127.0.0.1"], "127.0.0.1"),
            ([MAIN, "start_server", "-i", "10.0.0.9", "-p", "80"], "10.0.0.9"),
            ([MAIN, "start_server", "--host=::"], "::"),
            ([MAIN, "apps"], None),
            (["/usr/bin/pytest"], None),
            ([], None),
        ],
    )
    def test_where_it_will_listen(self, argv: list[str], host: str | None) -> None:
        assert stock_host(argv) == host

    def test_the_app_does_not_start_for_others_without_a_token(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from monailabel.config import settings

        monkeypatch.setattr(startup, "configure", lambda style: None)
        monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(APP))
        monkeypatch.setattr(sys, "argv", [MAIN, "start_server"])
        with pytest.raises(InvalidRequest, match=r"does not listen at 0\.0\.0\.0"):
            startup.prepare()
        assert "the server does not start: without a token" in caplog.text
        os.environ["LESIONBRUSH_TOKEN"] = TOKEN
        startup.prepare()

    def test_telemetry_is_off_even_if_it_was_loaded_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        telemetry = SimpleNamespace(set_telemetry_client=lambda: asked.append(os.environ["DO_NOT_TRACK"]))
        monkeypatch.setitem(sys.modules, "mlflow.telemetry", telemetry)
        silence_dependencies()
        assert asked == ["true"]
        monkeypatch.delitem(sys.modules, "mlflow.telemetry")
        silence_dependencies()

    def test_mlflow_really_drops_its_client(self) -> None:
        import mlflow.telemetry

        module.silence_dependencies()
        assert mlflow.telemetry.get_telemetry_client() is None
