"""Fixtures of the panel's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from panel_kit import MODULE, Bench, new_bench
from qt_kit.application import slicer_application


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """`slicer` with a fresh scene and the few things of the application that the module asks for."""
    with slicer_application(monkeypatch, MODULE) as slicer:
        yield slicer


@pytest.fixture
def bench(application) -> Iterator[Bench]:
    """A panel on a fresh scene, with a client and a host that do as they are told."""
    bench = new_bench(application)
    yield bench
    bench.panel.close()
