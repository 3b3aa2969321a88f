"""A small picture of what is becoming of a result."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lesionbrush.montage import windows_for

EVERY_STEPS = 3


def middle_slice_png(hu: np.ndarray) -> bytes:
    """PNG of the middle axial slice in the first window of its tissue, patient's right on the left, front up.

    hu: (Z, Y, X) to superior, anterior, right: a ROI, whose middle is the middle of the lesion, or a CT.
    """
    slice_hu = hu[hu.shape[0] // 2, ::-1, ::-1]
    stream = io.BytesIO()
    Image.fromarray(windows_for(slice_hu)[0].to_grey(slice_hu)).save(stream, "PNG")
    return stream.getvalue()


def is_wanted(step: int) -> bool:
    """The first, and every few after it. step counts from 1."""
    return step % EVERY_STEPS == 1
