"""Draws docs/slicer_panel.png: the panel after a synthesis of three variants, on the stand-ins, off-screen.

Run from the repository: python tests/slicer_panel/draw_panel.py [FILE]. The variants are real: a server is
started, and the shipped model makes them on the sample CT, which takes a minute or two. The Segment Editor is
a grey field here: it is Slicer's own.
"""

# ruff: noqa: E402, I001 - the paths and the stand-ins have to be there first

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from collections.abc import Callable

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY / "app"), str(REPOSITORY / "slicer_module" / "LesionBrush")]

import pytest
from lesionbrush import __version__
from lesionbrush.cli.local_server import local_server
from lesionbrush.files.io import read_volume
from lesionbrush.core.registry import find_model
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from panel_kit import MODULE, Bench, new_bench, new_ct
from LesionBrushLib.panel import sample_data
from LesionBrushLib.client import Box, ConnectionReport, JobClient, ModelFacts, Order, ServerFacts
from qt_kit import pythonqt
from qt_kit.application import slicer_application

WIDTH_PX = 470
MODEL, SEED = "lung_lesion", 0
SPACING_MM = (2.08, 2.08, 3.2)
LUNG_IJK = (48, 48, 32)


Answers = tuple[list[Box], list[dict[str, Any]]]
Synthesis = Callable[[Order], Answers]


def by_the_model(order: Order) -> Answers:
    """What the shipped model makes, by the real server and the real client."""
    with TemporaryDirectory(prefix="lesionbrush-panel-") as folder:
        studies = Path(folder) / "studies"
        studies.mkdir()
        with local_server(studies, Path(folder) / "server.log", gpu=False) as (server, _):
            outcome = JobClient(server.url).synthesize(order)
    return outcome.boxes, outcome.provenances


def arranged(bench: Bench, synthesize: Synthesis) -> None:
    """Connected, with a CT, a proposed lesion and three variants."""
    import slicer

    card = find_model(MODEL).card.model_dump(mode="json")
    model = ModelFacts(MODEL, card, SynthesisRequest.model_json_schema())
    server = ServerFacts(__version__, 1, {MODEL: model}, devices=("cpu",))
    words = f"connected to LesionBrush {__version__} at http://127.0.0.1:8000: 1 model ready"
    bench.client.report = ConnectionReport(True, "ok", words, server)
    bench.connect()
    node = new_ct(bench.scene, "Chest phantom")
    slicer.util.updateVolumeFromArray(node, read_volume(sample_data.PHANTOM).array.T.copy())
    node.SetSpacing(*SPACING_MM)
    bench.ui.volumeSelector.setCurrentNode(node)
    bench.panel.enter()
    bench.logic.parameters.lesion_mm = 18.0
    bench.logic.propose(18.0, SEED, ras_mm=[at * mm for at, mm in zip(LUNG_IJK, SPACING_MM, strict=True)])
    bench.panel.refresh()
    controls = bench.panel.synthesize.view.controls
    controls[("variants",)].number.value = 3
    controls[("attributes", "margin")].given.click()
    controls[("attributes", "margin")].number.value = 0.3
    sent, params = bench.logic.export(), bench.logic.parameters.request()
    boxes, records = synthesize(Order(MODEL, sent.mask(), sent.reference(), params))
    bench.logic.receive(boxes, records)
    bench.ui.compareSection.collapsed = bench.ui.keepSection.collapsed = False
    bench.panel.refresh()


def draw(path: Path, synthesize: Synthesis) -> None:
    """Write the picture of the whole panel."""
    with pytest.MonkeyPatch.context() as patch, slicer_application(patch, MODULE) as slicer:
        bench = new_bench(slicer)
        arranged(bench, synthesize)
        bench.panel.paint.editor.setMinimumHeight(150)
        bench.top.resize(WIDTH_PX, bench.top.sizeHint().height())
        bench.top.show()
        pythonqt.application().processEvents()
        bench.top.resize(WIDTH_PX, bench.top.layout().totalHeightForWidth(WIDTH_PX))
        pythonqt.application().processEvents()
        assert bench.top.grab().save(str(path))
        bench.panel.close()


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "slicer_panel.png"
    draw(out, by_the_model)
