"""The panel with a real server and the real model: propose, synthesize, compare, accept, discard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.cli.local_server import local_server
from LesionBrushLib.client import JobClient
from LesionBrushLib.panel import sample_data
from panel_kit import Bench, Store, new_bench

pytestmark = [pytest.mark.server, pytest.mark.slow]
PATIENCE_S = 240.0


@pytest.fixture
def real(application, tmp_path: Path) -> Iterator[tuple[Bench, str]]:
    studies = tmp_path / "studies"
    studies.mkdir()
    with local_server(studies, tmp_path / "server.log", gpu=False) as (server, _):

        def client(url: str, token: str | None, ca_file: Path | None) -> JobClient:
            return JobClient(url, token, ca_file=ca_file)

        bench = new_bench(application, Store(), client)
        bench.ui.addressEdit.text = server.url
        yield bench, server.url
        bench.panel.close()


def test_the_promise_of_the_panel(real: tuple[Bench, str]) -> None:
    import slicer

    bench, url = real
    bench.connect()
    assert "connected to LesionBrush" in bench.ui.connectionLabel.text
    ct = slicer.modules.volumes.logic().AddArchetypeVolume(str(sample_data.PHANTOM), "Phantom", 0)
    bench.ui.volumeSelector.setCurrentNode(ct)
    bench.panel.enter()
    bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(80.0, -5.0, 5.0)
    bench.ui.proposeButton.click()
    assert "Proposed a lesion" in bench.message
    bench.panel.synthesize.view.controls[("variants",)].number.value = 2
    bench.panel.synthesize.view.controls[("steps",)].number.value = 4
    assert bench.ui.synthesizeButton.enabled, bench.ui.reasonLabel.text
    bench.ui.synthesizeButton.click()
    bench.wait(seconds=PATIENCE_S)
    assert bench.message == ""
    before = slicer.util.arrayFromVolume(ct)
    after = slicer.util.arrayFromVolume(bench.logic.variants.node).copy()
    changed = before != after
    mask = bench.logic.export().mask_kji > 0
    assert 0 < changed.sum() < 60 * mask.sum()
    assert np.mean(after[mask]) > np.mean(before[mask]) + 200
    assert len(bench.logic.variants) == 2
    keep(bench, url, after)
    look_quickly(bench, ct)


def keep(bench: Bench, url: str, after: np.ndarray) -> None:
    """Accept the first variant, discard the second, and get the first back from the server."""
    import slicer

    bench.ui.acceptButton.click()
    bench.wait(seconds=PATIENCE_S)
    assert bench.message == ""
    image = bench.logic.variants[0].image_id
    assert image in JobClient(url).images()
    bench.ui.nextButton.click()
    bench.ui.discardButton.click()
    bench.wait(seconds=PATIENCE_S)
    assert bench.message == ""
    bench.ui.listButton.click()
    bench.wait(seconds=PATIENCE_S)
    box, volumes = bench.ui.imageBox, slicer.modules.volumes.logic()
    box.currentIndex = [box.itemText(n) for n in range(box.count)].index(image)
    bench.host.load_volume = lambda path, name: volumes.AddArchetypeVolume(str(path), name, 0)
    bench.ui.fetchButton.click()
    bench.wait(seconds=PATIENCE_S)
    assert bench.message == ""
    assert np.array_equal(slicer.util.arrayFromVolume(bench.logic.parameters.reference), after)


def look_quickly(bench: Bench, ct: object) -> None:
    """A quick look on the CT, and a lesion painted into it: their records say so, and so do their names."""
    name = "SYNTHETIC lung_lesion seed 0"
    crosshair = bench.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    for node, right_mm, button, said in [
        (ct, 80.0, bench.ui.quickButton, "quick look (fast)"),
        (None, -80.0, bench.ui.synthesizeButton, "in a quick look (fast)"),
    ]:
        crosshair.SetCrosshairRAS(right_mm, -5.0, 5.0)
        bench.ui.volumeSelector.setCurrentNode(node or bench.logic.parameters.synthetic)
        bench.ui.proposeButton.click()
        assert button.enabled, f"{bench.message} {button.toolTip}"
        button.click()
        bench.wait(seconds=PATIENCE_S)
        assert bench.logic.variants.node.GetName() == f"{name} {said}"
