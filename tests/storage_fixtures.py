"""Fixtures for tests of storage. Load with `pytest_plugins = "storage_fixtures"`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lesionbrush.server.storage.private import PrivateRoot, close_private_root
from lesionbrush.server.storage.vault import References
from storage_kit import KEPT, Folder, ticking, write


@pytest.fixture
def root(tmp_path: Path) -> Iterator[PrivateRoot]:
    (tmp_path / "studies").mkdir()
    opened = PrivateRoot(tmp_path / "studies")
    yield opened
    opened.close()


@pytest.fixture
def references(root: PrivateRoot) -> References:
    return References(root, KEPT, clock=ticking())


@pytest.fixture
def studies(tmp_path: Path) -> Iterator[Folder]:
    yield Folder(tmp_path / "studies")
    close_private_root(tmp_path / "studies")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Two CTs, one of them with a final label and one more."""
    folder = tmp_path / "studies"
    for name in ("1.2.840.10.nii.gz", "1.2.840.11.nrrd"):
        write(folder / name)
    for tag in ("final", "mine"):
        write(folder / "labels" / tag / "1.2.840.10.nii.gz")
    yield folder
    close_private_root(folder)
