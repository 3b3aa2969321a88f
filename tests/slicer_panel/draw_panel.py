"""Draws docs/slicer_panel.png: the panel after a synthesis of three variants, on the stand-ins, off-screen.

Run from the repository: python tests/slicer_panel/draw_panel.py [FILE]. The Segment Editor is a grey field
here: it is Slicer's own.
"""

# ruff: noqa: E402, I001 - the paths and the stand-ins have to be there first

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY / "app"), str(REPOSITORY / "slicer_module" / "LesionBrush")]

import numpy as np
import pytest
from lesionbrush.io import read_volume
from lesionbrush.registry import find_model
from lesionbrush.request import SynthesisRequest
from panel_kit import MODULE, Bench, new_bench, new_ct
from LesionBrushLib import sample_data
from LesionBrushLib.answers import ConnectionReport, ModelFacts, ServerFacts
from LesionBrushLib.boxes import Box, voxel_sha256
from qt_kit import pythonqt
from qt_kit.application import slicer_application

WIDTH_PX = 470


def lesion_boxes(shape: tuple[int, int, int]) -> np.ndarray:
    """A soft ball in lung, HU, so that the thumbnails show something."""
    i, j, k = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape), indexing="ij")
    radius = np.sqrt(i**2 + j**2 + k**2)
    return np.where(radius < 8, 20, -850 + 870 * np.clip(1 - (radius - 8) / 3, 0, 1)).astype(np.int16)


def arranged(bench: Bench) -> None:
    """Connected, with a CT, a painted lesion and three variants."""
    import slicer

    card = find_model("lung_lesion").card.model_dump(mode="json")
    model = ModelFacts("lung_lesion", card, SynthesisRequest.model_json_schema())
    server = ServerFacts("0.2.0", 1, {"lung_lesion": model}, devices=("cpu",))
    words = "connected to LesionBrush 0.2.0 at http://127.0.0.1:8000: 1 model ready"
    bench.client.report = ConnectionReport(True, "ok", words, server)
    bench.connect()
    node = new_ct(bench.scene, "Chest phantom")
    slicer.util.updateVolumeFromArray(node, read_volume(sample_data.PHANTOM).array.T.copy())
    node.SetSpacing(2.08, 2.08, 3.2)
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    parameters = bench.logic.parameters
    mask = np.zeros((80, 160, 160), np.uint8)
    mask[28:36, 40:56, 40:56] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, parameters.segmentation, parameters.segment_id, node
    )
    bench.panel.refresh()
    controls = bench.panel.synthesize.view.controls
    controls[("variants",)].number.value = 3
    controls[("attributes", "margin")].given.click()
    controls[("attributes", "margin")].number.value = 0.3
    voxels = voxel_sha256(slicer.util.arrayFromVolume(node).T)
    boxes = [Box(lesion_boxes((28 + 2 * n, 28, 20)), (34 - n, 34, 22), voxels) for n in range(3)]
    bench.logic.receive(boxes, [{"model": "lung_lesion", "seed": n} for n in range(3)])
    bench.ui.compareSection.collapsed = bench.ui.keepSection.collapsed = False
    bench.panel.refresh()


def draw(path: Path) -> None:
    """Write the picture of the whole panel."""
    with pytest.MonkeyPatch.context() as patch, slicer_application(patch, MODULE) as slicer:
        bench = new_bench(slicer)
        arranged(bench)
        bench.panel.paint.editor.setMinimumHeight(150)
        bench.top.resize(WIDTH_PX, bench.top.sizeHint().height())
        bench.top.show()
        pythonqt.application().processEvents()
        bench.top.resize(WIDTH_PX, bench.top.layout().totalHeightForWidth(WIDTH_PX))
        pythonqt.application().processEvents()
        assert bench.top.grab().save(str(path))
        bench.panel.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "slicer_panel.png")
