"""docs/slicer_panel.png is a picture of this panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from draw_panel import WIDTH_PX, draw
from panel_kit import REPOSITORY
from PIL import Image


def test_the_panel_can_be_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "panel.png")
    with (
        Image.open(tmp_path / "panel.png") as drawn,
        Image.open(REPOSITORY / "docs/slicer_panel.png") as kept,
    ):
        assert drawn.width == kept.width == WIDTH_PX
        assert drawn.height > 1200
        assert np.asarray(drawn.convert("L")).std() > 20
