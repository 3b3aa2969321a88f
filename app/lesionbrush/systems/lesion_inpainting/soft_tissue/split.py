"""Which cases of soft tissue are held out of training, by name."""

from __future__ import annotations

HELD_OUT_ABDOMENS = frozenset({"CRLM-CT-1004"})
HELD_OUT_SARCOMAS = 8
"""The last ones of the index."""
