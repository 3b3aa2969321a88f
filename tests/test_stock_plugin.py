"""A day with MONAI Label's own 3D Slicer plugin: its requests in its order, on real servers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import requests
from lesionbrush.files.io import read_volume
from lesionbrush.files.records import sidecar_path
from server_kit import FAST, MODEL, edit_region, make_mask
from stock_kit import SCRIBBLES, House, Plugin, another_ct, drawing, refused, saved, stock_client

pytest_plugins = ("server_fixtures", "stock_fixtures")
pytestmark = pytest.mark.server


@pytest.fixture
def plugin(at: House, tmp_path: Path) -> Plugin:
    """Connected."""
    made = Plugin(at, tmp_path / "slicer")
    made.folder.mkdir()
    made.connect()
    return made


@pytest.fixture
def image(at: House, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A CT of this test alone, stored on the server."""
    number = sum(map(ord, request.node.name)) % 997 + 1
    ident = f"ct-{number}"
    stock_client(at, tmp_path).upload_image(saved(another_ct(number), tmp_path / "own.nii.gz"), ident)
    return ident


def test_what_it_lists(plugin: Plugin) -> None:
    assert MODEL in plugin.models("scribbles")
    assert plugin.models("segmentation", "detection", "deepgrow", "deepedit") == []
    assert plugin.info["labels"] == ["lesion"], "the segment it offers to draw"
    assert plugin.runs_by_itself() == []
    assert list(plugin.info["strategies"]) == ["first", "random"]


def test_from_next_sample_to_a_case(plugin: Plugin, at: House, tmp_path: Path) -> None:
    sample = plugin.next_sample("first")
    ct, drawn = read_volume(plugin.folder / sample["name"]), drawing(tmp_path / "drawn.nii.gz")
    file, params = plugin.run(sample["id"], drawn, ["lesion"])
    shown = read_volume(Path(file))
    assert Path(file).suffix == ".nrrd"
    assert shown.array.dtype == np.uint8
    assert np.array_equal(shown.array, make_mask().array)
    assert np.allclose(shown.affine, ct.affine, atol=1e-4)
    assert params["label_names"] == {"lesion": 1}
    assert "LesionBrush's own Slicer module" in params["note"]
    result = plugin.submit(sample["id"], drawn, ["lesion"])
    (case,) = result["cases"]
    assert "LesionBrush's own Slicer module" in result["note"]
    stored = read_volume(at.studies / f"{case}.nii.gz").array
    label = read_volume(at.studies / "labels" / "final" / f"{case}.nii.gz").array
    record = json.loads(sidecar_path(at.studies / f"{case}.nii.gz").read_text())
    changed = stored != ct.array
    assert np.array_equal(label, make_mask().array)
    assert changed.sum() == record["voxels_changed"] == params["variants"][0]["voxels_changed"] > 100
    assert (record["reference_id"], record["user"]) == (sample["id"], "user-xyz@127.0.0.1")
    assert not (at.studies / "labels" / "final" / f"{sample['id']}.nii.gz").exists()
    assert plugin.next_sample("first").get("id") != sample["id"]
    assert plugin.submit(sample["id"], drawn, ["lesion"])["cases"] == [case], "twice is once"


def test_the_ct_that_it_cannot_show_is_the_one_that_others_get(
    plugin: Plugin, at: House, image: str, tmp_path: Path
) -> None:
    _, params = plugin.run(image, drawing(tmp_path / "drawn.nii.gz"), ["lesion"])
    address = f"{at.url}/lesionbrush/v1/jobs/{params['job']}/variants/1/volume?format=nii.gz"
    (tmp_path / "kept.nii.gz").write_bytes(requests.get(address, headers=at.headers, timeout=30).content)
    client = stock_client(at, tmp_path)
    given, _ = client.infer(MODEL, image, dict(FAST), str(drawing(tmp_path / "drawn.nii.gz")))
    assert np.array_equal(read_volume(tmp_path / "kept.nii.gz").array, read_volume(Path(given)).array)


def test_what_its_scribbles_tool_paints_is_lesion_too(plugin: Plugin, image: str, tmp_path: Path) -> None:
    names = ["lesion", *SCRIBBLES]
    drawn = drawing(tmp_path / "drawn.nii.gz", scribbles=3)
    file, _ = plugin.run(image, drawn, names)
    assert np.array_equal(read_volume(Path(file)).array, make_mask().array)
    background = drawing(tmp_path / "background.nii.gz", scribbles=2)
    file, _ = plugin.run(image, background, names)
    assert np.array_equal(read_volume(Path(file)).array, read_volume(background).array == 1)
    two = drawing(tmp_path / "two.nii.gz", 2, scribbles=1)
    file, params = plugin.run(image, two, ["tumour", "organ"])
    assert np.array_equal(read_volume(Path(file)).array, read_volume(two).array == 1)
    assert params["label_names"] == {"tumour": 1}


def test_a_volume_that_is_not_on_the_server(plugin: Plugin, at: House, tmp_path: Path) -> None:
    """Loaded from a file, run in a session, uploaded when it is submitted."""
    local = saved(another_ct(501), tmp_path / "local.nii.gz")
    drawn = drawing(tmp_path / "drawn.nii.gz")
    session = plugin.client().create_session(local)["session_id"]
    assert plugin.client().get_session(session)
    plugin.run("MyCT", drawn, ["lesion"], session)
    file, _ = plugin.run("MyCT", drawn, ["lesion"], session)
    assert np.array_equal(read_volume(Path(file)).array, make_mask().array)
    plugin.client().upload_image(local, "MyCT")
    (case,) = plugin.submit("MyCT", drawn, ["lesion"])["cases"]
    changed = read_volume(at.studies / f"{case}.nii.gz").array != another_ct(501).array
    assert changed.any()
    assert not changed[~edit_region()].any()
    record = json.loads(sidecar_path(at.studies / f"{case}.nii.gz").read_text())
    assert record["reference_id"] == "MyCT", "the same CT, though it was run in a session"
    assert "MyCT" not in {plugin.next_sample("random").get("id") for _ in range(20)}


def test_a_file_and_a_stored_label(plugin: Plugin, at: House, image: str, tmp_path: Path) -> None:
    """What its Python client can ask for as well."""
    wanted = {**FAST, "result_dtype": "uint16", "result_extension": ".nii.gz"}
    drawn = drawing(tmp_path / "drawn.nii.gz", 7)
    file, params = plugin.client().infer(
        MODEL, "", dict(wanted), str(drawn), file=saved(another_ct(7), tmp_path / "sent.nii.gz")
    )
    shown = read_volume(Path(file)).array
    assert (shown.dtype, Path(file).name[:13]) == (np.uint16, "lesion_label-")
    assert np.array_equal(shown, make_mask().array)
    assert len(params["job"]) == 24
    plugin.client().save_label(image, str(drawn))
    stored, _ = plugin.client().infer(MODEL, image, dict(wanted))
    assert np.array_equal(read_volume(Path(stored)).array, make_mask().array)


def test_another_lesion_than_the_one_that_was_run_is_no_case(
    plugin: Plugin, at: House, image: str, tmp_path: Path
) -> None:
    plugin.run(image, drawing(tmp_path / "drawn.nii.gz"), ["lesion"])
    half = drawing(tmp_path / "half.nii.gz", scribbles=2)
    refused(lambda: plugin.submit(image, half, ["lesion", "other"]), "422", "run it again, then submit")
    empty = saved(make_mask(0), tmp_path / "empty.nii.gz")
    refused(lambda: plugin.submit(image, Path(empty), ["lesion"]), "422", "empty_mask")
    client = plugin.client()
    assert client.save_label(image, str(half), "draft") == {"image": image, "label": image}


def test_without_a_run_a_label_is_a_label(plugin: Plugin, at: House, image: str, tmp_path: Path) -> None:
    drawn = drawing(tmp_path / "drawn.nii.gz")
    other = Plugin(at, plugin.folder, client_id="somebody-else")
    other.connect()
    other.run(image, drawn, ["lesion"])
    assert plugin.submit(image, drawn, ["lesion"]) == {"image": image, "label": image}
    assert (at.studies / "labels" / "final" / f"{image}.nii.gz").read_bytes() == drawn.read_bytes()


def test_each_variant_is_a_case(plugin: Plugin, at: House, image: str, tmp_path: Path) -> None:
    drawn = drawing(tmp_path / "drawn.nii.gz")
    params = {**FAST, "variants": 2, "result_dtype": "uint8"}
    plugin.client().infer(MODEL, image, params, str(drawn))
    cases = plugin.submit(image, drawn, ["lesion"])["cases"]
    first, second = (read_volume(at.studies / f"{case}.nii.gz").array for case in cases)
    assert (first != second).any()


def test_a_failing_model_is_said(plugin: Plugin, image: str, tmp_path: Path) -> None:
    drawn = str(drawing(tmp_path / "drawn.nii.gz"))
    for model, words in (("altered", "weights_error"), ("crashing", "internal_error")):
        asked = {**FAST, "result_dtype": "uint8"}
        refused(lambda model=model, asked=asked: plugin.client().infer(model, image, asked, drawn), words)
