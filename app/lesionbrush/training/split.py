"""Which patients are held out. Everything of a patient is on one side: nodules, crops and whole CTs."""

from __future__ import annotations

import numpy as np

VALIDATION_PATIENTS = frozenset({"LIDC-IDRI-0314"})
VALIDATION_SHARE = 0.15


def is_validation(patient: str) -> bool:
    """Whether a patient is held out: by name alone, so it never depends on which files are there."""
    if patient in VALIDATION_PATIENTS:
        return True
    number = int("".join(c for c in patient if c.isdigit()) or 0)
    return bool(np.random.default_rng((0, number)).random() < VALIDATION_SHARE)
