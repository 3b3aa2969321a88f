"""Any stored type of a CT becomes the same int16 HU, and the server reads the very same volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesionbrush.files.io import read_volume
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.problems import NotACT, NotReady
from LesionBrushLib.logic.voxels import Grid, hu_array
from logic_kit import ball, chest, oblique
from mrml_kit import World, array_of, paint

pytest_plugins = "logic_fixtures"


@pytest.mark.parametrize("stored", ["int16", "int32", "int64", "float32", "float64"])
def test_every_stored_type_gives_the_same_hu(world: World, stored: str) -> None:
    hu = hu_array(world.volume(chest().astype(stored)))
    assert hu.dtype == np.int16
    assert np.array_equal(hu, chest())


def test_int16_is_not_copied(world: World) -> None:
    volume = world.volume(chest())
    assert np.shares_memory(hu_array(volume), array_of(volume))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (chest().astype(np.float32) + 0.25, "not whole HU"),
        (np.where(chest() > 0, np.nan, chest()).astype(np.float32), "NaN"),
        ((chest() + 1100).astype(np.uint16), "no value below 0"),
        (chest().astype(np.int32) * 100, "no HU"),
        (np.zeros((4, 5, 6, 3), np.uint8), "colour"),
    ],
)
def test_what_is_no_ct_is_refused_with_its_name(world: World, array: np.ndarray, says: str) -> None:
    with pytest.raises(NotACT, match=says) as refused:
        hu_array(world.volume(array, name="Mr X"))
    assert "Mr X" in refused.value.message


def test_a_volume_without_voxels_is_refused(world: World) -> None:
    with pytest.raises(NotReady, match="no voxels"):
        Grid.of(world.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"))


@pytest.mark.parametrize("stored", ["int16", "float64"])
def test_what_is_sent_is_what_the_server_reads(
    world: World, logic: LesionBrushLogic, tmp_path: Path, stored: str
) -> None:
    volume: Any = world.volume(chest().astype(stored), oblique())
    logic.parameters.reference = volume
    segmentation = logic.ensure_segmentation()
    paint(world, segmentation, logic.parameters.segment_id, ball(), volume)
    sent = logic.export()
    read = [read_volume(saved(upload, tmp_path / name)) for name, upload in uploads(sent).items()]
    assert np.array_equal(read[0].array, chest().T)
    assert np.allclose(read[0].affine, oblique(), atol=1e-4)
    assert sent.voxels == np.count_nonzero(ball())
    first = np.linalg.inv(read[0].affine) @ read[1].affine[:, 3]
    start = np.rint(first[:3]).astype(int)
    whole = np.zeros(read[0].shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(start, read[1].shape, strict=True))] = read[1].array > 0
    assert np.array_equal(whole, ball().T)


def uploads(sent: Any) -> dict[str, Any]:
    return {"ct": sent.reference(), "mask": sent.mask()}


def saved(upload: Any, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.{upload.format}")
    path.write_bytes(upload.source)
    return path


def test_the_ct_may_change_while_it_is_sent(logic: LesionBrushLogic, ct: Any, lesion: np.ndarray) -> None:
    sent = logic.export()
    array_of(ct)[:] = 0
    assert np.array_equal(sent.hu_kji, chest())
    assert sent.mask_kji[lesion].all()
