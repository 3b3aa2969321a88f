"""docs/slicer_panel.png is a picture of this panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from draw_panel import WIDTH_PX, draw
from LesionBrushLib.client import Box, Order, voxel_sha256
from LesionBrushLib.client.nifti import read_nifti
from panel_kit import REPOSITORY
from PIL import Image


def stand_ins(order: Order) -> tuple[list[Box], list[dict[str, Any]]]:
    """The real model is for the picture that is kept."""
    with order.reference.packed() as packed:
        voxels = voxel_sha256(
            read_nifti(packed.source.read_bytes() if isinstance(packed.source, Path) else packed.source)[0]
        )
    boxes = [Box(np.full((20, 20, 12), 40 * n, np.int16), (38, 38, 26), voxels) for n in range(3)]
    return boxes, [{"model": order.model, "seed": n} for n in range(3)]


def test_the_panel_can_be_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "panel.png", stand_ins)
    with (
        Image.open(tmp_path / "panel.png") as drawn,
        Image.open(REPOSITORY / "docs/slicer_panel.png") as kept,
    ):
        assert drawn.width == kept.width == WIDTH_PX
        assert drawn.height > 1200
        assert np.asarray(drawn.convert("L")).std() > 20
