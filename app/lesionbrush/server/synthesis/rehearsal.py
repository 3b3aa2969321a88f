"""A request of our own before the first of a client, which then waits for no import and no weights."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.systems import DEFAULT_MODEL, parse_request

if TYPE_CHECKING:
    from lesionbrush.server.synthesis.inference import Service

AFTER_S = 0.2
"""By then the port is open."""
LESIONS_MM = (22.0, 14.0, 6.0)
"""A network is compiled for each size of its boxes; these have three of them."""
SIDE_VOXELS, SPACING_MM, LUNG_HU = 64, 1.5, -850

logger = logging.getLogger(__name__)


def rehearse_soon(service: Service) -> None:
    """In the workers."""
    service.jobs.before_first = partial(rehearse, service)
    timer = threading.Timer(AFTER_S, service.jobs.start)
    timer.daemon = True
    timer.start()


def rehearse(service: Service, device: str) -> None:
    """A step of the model that is asked for most, for each size, until a job waits. Raises nothing."""
    try:
        for size_mm in LESIONS_MM:
            if service.jobs.load().queued:
                return
            model = service.models.warm(DEFAULT_MODEL, device).model
            request = parse_request({"steps": 1}, model.card.system)
            assert isinstance(request, EditRequest)
            synthesize(*_scene(size_mm), request, model)
    except Exception as error:  # noqa: BLE001, whoever asks for the model is told what is wrong with it
        logger.info("%s was not made ready on %s: %s", DEFAULT_MODEL, device, type(error).__name__)


def _scene(size_mm: float) -> tuple[Volume, Volume]:
    """Lung without anything in it, and a ball in its middle."""
    affine = np.diag((SPACING_MM, SPACING_MM, SPACING_MM, 1.0))
    from_middle_mm = (np.indices((SIDE_VOXELS,) * 3) - SIDE_VOXELS / 2) * SPACING_MM
    ball = (from_middle_mm**2).sum(axis=0) < (size_mm / 2) ** 2
    return Volume(np.full(ball.shape, LUNG_HU, np.int16), affine), Volume(ball.astype(np.uint8), affine)
