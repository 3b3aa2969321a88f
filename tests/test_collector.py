"""Python's garbage collector does not keep the event loop waiting, and nothing stays because of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from lesionbrush.server.collector import no_collections, settle
from lesionbrush.server.synthesis.models import ModelPool
from server_kit import MODEL

pytest_plugins = "server_fixtures"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_a_collection_passes_over_what_has_settled() -> None:
    import torch  # noqa: F401

    gc.unfreeze()
    everything = len(gc.get_objects())
    settle()
    assert len(gc.get_objects()) < everything / 100


def test_nothing_is_collected_in_the_block_and_all_is_as_before_after_an_error() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError), no_collections():
        fail()
    assert gc.isenabled()


def test_garbage_of_before_is_gone_and_not_kept() -> None:
    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    gone = weakref.ref(node)
    del node
    settle()
    assert gone() is None


def test_a_loaded_model_settles_and_goes_when_it_is_let_go(models_dir: Path) -> None:
    gc.unfreeze()
    pool = ModelPool(models_dir)
    model = weakref.ref(pool.warm(MODEL, "cpu").model)
    assert gc.get_freeze_count() > 10_000
    gc.disable()
    try:
        pool._warm["cpu"].clear()
        assert model() is None
    finally:
        gc.enable()
