"""The servers MONAI Label's own clients are tried on. Load it and `server_fixtures` as `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stock_kit import House, house


@pytest.fixture(scope="module", params=[False, True], ids=["no token", "token"])
def at(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models_dir: Path
) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), models_dir, guarded=request.param) as running:
        yield running
