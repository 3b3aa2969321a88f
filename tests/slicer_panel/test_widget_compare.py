"""Compare and Keep: views, variants, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from LesionBrushLib.client.errors import ServerUnreachable
from LesionBrushLib.panel.pictures import pixmap, png_bytes
from panel_kit import Bench


@pytest.fixture
def made(bench: Bench) -> Bench:
    """Three variants have arrived."""
    bench.ready()
    bench.panel.synthesize.view.controls[("variants",)].number.value = 3
    bench.synthesize()
    assert bench.message == ""
    return bench


def test_a_result_opens_the_comparison(made: Bench) -> None:
    assert made.logic.comparison.active
    assert made.ui.compareButton.checked
    assert made.ui.compareButton.text == "Back to the former layout"
    assert not made.ui.compareSection.collapsed
    assert made.host.hidden_bars == list(made.logic.comparison.view_names)


def test_one_click_goes_back_to_the_former_layout(bench: Bench) -> None:
    layout = bench.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    bench.ready()
    bench.synthesize()
    assert layout.GetViewArrangement() != layout.SlicerLayoutOneUpRedSliceView
    bench.ui.compareButton.click()
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView
    assert bench.ui.compareButton.text == "Compare side by side"
    bench.ui.compareButton.click()
    assert bench.logic.comparison.active


def test_thumbnails_choose_variants(made: Bench) -> None:
    assert made.ui.variantList.count == 3
    assert made.ui.variantList.item(1).text().startswith("variant 2 of 3, seed 1")
    assert not made.ui.variantList.item(1).icon().isNull()
    made.ui.variantList.setCurrentRow(2)
    assert made.logic.variants.index == 2
    assert made.ui.variantLabel.text == "Shown: variant 3 of 3, seed 2."
    made.ui.nextButton.click()
    assert made.ui.variantList.currentRow == 0
    made.ui.previousButton.click()
    assert made.logic.variants.index == 2


def test_flicker_says_what_is_shown(made: Bench) -> None:
    made.ui.flickerButton.click()
    assert "Now the ORIGINAL" in made.ui.variantLabel.text
    assert made.ui.flickerButton.checked
    made.ui.flickerButton.click()
    assert "ORIGINAL" not in made.ui.variantLabel.text
    assert not made.ui.flickerButton.checked


def test_outline_and_difference(made: Bench) -> None:
    made.ui.outlineCheck.click()
    assert not made.logic.comparison.outline
    assert not made.logic.parameters.outline
    made.ui.differenceCheck.click()
    assert made.logic.comparison.difference
    made.panel.keys()["D"][1]()
    made.panel.keys()["M"][1]()
    made.panel.refresh()
    assert not made.logic.comparison.difference
    assert made.ui.outlineCheck.checked
    assert not made.ui.differenceCheck.checked


def test_windows_are_chosen_and_kept_with_the_scene(made: Bench) -> None:
    box = made.ui.windowsBox
    words = [box.itemText(n) for n in range(box.count)]
    assert words == ["By the organ", "Lung", "Soft tissue"]
    box.currentIndex = 2
    assert made.logic.parameters.windows == "soft tissue"
    made.logic.parameters.windows = "lung"  # as a loaded scene says
    made.panel.refresh()
    assert box.currentText == "Lung"


def test_orientation_is_chosen_and_kept_with_the_scene(made: Bench) -> None:
    box = made.ui.orientationBox
    assert [box.itemText(n) for n in range(box.count)] == ["Axial", "Coronal", "Sagittal"]
    box.currentIndex = 1
    views = made.logic.comparison.layout.slice_nodes()
    assert {view.GetOrientation() for view in views} == {"Coronal"}
    assert made.logic.parameters.orientation == "Coronal"
    made.panel.compare.compare(False)
    made.logic.parameters.orientation = "Sagittal"  # as a loaded scene says
    made.panel.compare.compare(True)
    made.panel.refresh()
    assert {view.GetOrientation() for view in views} == {"Sagittal"}
    assert box.currentText == "Sagittal"
    made.logic.parameters.orientation = "Oblique"
    made.panel.compare.compare(True)
    made.panel.refresh()
    assert {view.GetOrientation() for view in views} == {"Sagittal"}


def test_jump_works(made: Bench) -> None:
    made.ui.jumpButton.click()
    assert made.message == ""


def test_nothing_to_compare(bench: Bench) -> None:
    for name in (
        "flickerButton",
        "jumpButton",
        "previousButton",
        "nextButton",
        "acceptButton",
        "discardButton",
    ):
        assert not getattr(bench.ui, name).enabled, name
    for key in "XNPJ":
        bench.panel.session.guard(bench.panel.keys()[key][1])
    assert bench.message == ""
    bench.panel.session.guard(bench.panel.keys()["C"][1])
    assert "choose a CT" in bench.message


def test_accept(made: Bench) -> None:
    made.ui.nextButton.click()
    made.ui.acceptButton.click()
    made.wait()
    assert ("accept", "job-1", 2) in made.client.calls
    assert made.logic.variants[1].state == "accepted"
    assert made.ui.keepLabel.text == "Accepted: the server keeps it as 'synthetic-2'."
    assert made.ui.variantList.item(1).text().endswith("accepted")
    assert not made.ui.acceptButton.enabled
    made.ui.nextButton.click()
    assert made.ui.acceptButton.enabled


def test_a_failed_accept_leaves_it_as_it_was(made: Bench) -> None:
    made.client.raises = ServerUnreachable("the connection was lost")
    made.ui.acceptButton.click()
    made.wait()
    assert made.message == "the connection was lost"
    assert made.logic.variants[0].state == "new"
    assert made.ui.acceptButton.enabled


def test_save(made: Bench, tmp_path: Path) -> None:
    made.ui.saveButton.click()
    assert list(tmp_path.iterdir()) == []  # the dialog was closed
    made.host.path = tmp_path
    made.ui.saveButton.click()
    assert made.message == ""
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["SYNTHETIC-lung_lesion-seed0.nii.gz", "SYNTHETIC-lung_lesion-seed0.provenance.json"]
    assert made.logic.variants[0].state == "saved"
    assert "SYNTHETIC-lung_lesion-seed0.nii.gz" in made.ui.keepLabel.text


def test_a_folder_that_cannot_be_written_is_said(made: Bench, tmp_path: Path) -> None:
    made.host.path = tmp_path / "nowhere"
    made.ui.saveButton.click()
    assert made.message
    assert made.logic.variants[0].state == "new"


def test_discard(made: Bench) -> None:
    made.ui.discardButton.click()
    made.wait()
    assert ("discard", "job-1", 1) in made.client.calls
    assert made.logic.variants[0].state == "discarded"
    assert made.ui.variantList.item(0).isHidden()
    assert made.logic.variants.index == 1
    for _ in range(2):
        made.ui.discardButton.click()
        made.wait()
    assert not made.ui.discardButton.enabled
    assert made.logic.parameters.synthetic is None


def test_discard_without_a_server(made: Bench) -> None:
    made.client.raises = ServerUnreachable("nobody there")
    made.ui.discardButton.click()
    made.wait()
    assert made.logic.variants[0].state == "discarded"
    assert made.message.startswith("Discarded here.")


def test_what_was_kept_is_not_discarded_by_accident(made: Bench) -> None:
    made.ui.acceptButton.click()
    made.wait()
    made.host.says_yes = False
    made.ui.discardButton.click()
    assert made.logic.variants[0].state == "accepted"
    made.host.says_yes = True
    made.ui.discardButton.click()
    made.wait()
    assert made.logic.variants[0].state == "discarded"
    assert not [call for call in made.client.calls if call[0] == "discard"]  # what was accepted stays there


def test_a_result_of_no_server_is_accepted_by_none(made: Bench) -> None:
    made.panel.session.result_job = None
    made.panel.refresh()
    assert not made.ui.acceptButton.enabled
    assert made.ui.saveButton.enabled
    made.panel.keep.accept()
    assert made.message == "this result cannot be accepted on a server: save it as files"


def test_the_users_volumes_and_segments_are_untouched(made: Bench) -> None:
    reference = made.logic.parameters.reference
    assert (slicer.util.arrayFromVolume(reference) == -850).all()
    assert made.logic.export().voxels == 27


def test_pictures_are_real_png() -> None:
    rgb = np.zeros((5, 7, 3), np.uint8)
    rgb[1, 2] = (255, 128, 0)
    picture = pixmap(png_bytes(rgb)).toImage()
    colour: Any = picture.pixelColor(2, 1)
    assert (picture.width(), picture.height()) == (7, 5)
    assert (colour.red(), colour.green(), colour.blue()) == (255, 128, 0)
    assert pixmap(b"no picture").isNull()
