"""How Python's garbage collector leaves the event loop free.

A full collection looks at every object there is with Python's lock held: with torch and MONAI loaded that is
half a million, and 0.15 to 0.3 s in which no request is answered. Nearly all of them stay until the end.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """What is there now stays there: collections to come do not look at it.

    It still goes when nothing refers to it any more; only cycles among it would stay.
    """
    gc.collect()
    gc.freeze()
