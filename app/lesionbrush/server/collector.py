"""How Python's garbage collector leaves the event loop free.

A full collection looks at every object there is with Python's lock held: with torch and MONAI loaded that is
half a million, and 0.15 to 0.3 s in which no request is answered. Nearly all of them stay until the end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """For imports, which only add to what there is: to look at it each time takes a fifth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """What is there now stays there: collections to come do not look at it.

    It still goes when nothing refers to it any more; only cycles among it would stay.
    """
    gc.collect()
    gc.freeze()
