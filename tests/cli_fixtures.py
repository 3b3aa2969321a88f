"""Fixtures for tests of the commands. Load with `pytest_plugins = "cli_fixtures"`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import Command, Outcome
from lesionbrush.cli.__main__ import main
from lesionbrush.files.io import write_volume
from server_kit import make_ct, make_mask, make_model


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one that works, `tiny`."""
    root = tmp_path_factory.mktemp("tiny_models")
    make_model(root)
    return root


@pytest.fixture
def command(
    tiny_models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """`command("montage", path, ...)`: runs it here, as `python run.py montage ...` would."""
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # how argparse refuses
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return call


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "ct.nii.gz"
    write_volume(make_ct(), path)
    return path


@pytest.fixture(scope="session")
def mask(ct: Path) -> Path:
    path = ct.with_name("mask.nii.gz")
    write_volume(make_mask(), path)
    return path
