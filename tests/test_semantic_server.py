"""Semantic CT over a real server: organs moved by two layouts, whole CTs, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_fixtures import ball, edit_region
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from LesionBrushLib.client import (
    Client,
    JobClient,
    Order,
    Outcome,
    ServerError,
    Upload,
    ct_upload,
    labels_upload,
)
from LesionBrushLib.client import Layout as SentLayout
from LesionBrushLib.client.errors import WrongInput
from LesionBrushLib.client.uploads import mask_upload
from own_server import Started, serving
from semantic_kit import install_semantic, make_abdomen, move, named_layout
from slicer_files import write_segmentation
from test_semantic_whole import with_body

pytestmark = pytest.mark.server
MARGIN_MM = 3.0
CT, LABELS = make_abdomen()
MOVED = move(LABELS, 6, (0, -4, 0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    root = tmp_path_factory.mktemp("server")
    for system in ("semantic", "semantic_whole"):
        install_semantic(root / "models", system)
    with serving(root, root / "models") as started:
        yield started


@pytest.fixture
def client(server: Started) -> JobClient:
    return JobClient(server.url)


def sent(layout: Layout) -> SentLayout:
    return SentLayout(labels_upload(layout.labels.array, layout.labels.affine), dict(layout.names))


BEFORE, AFTER = sent(named_layout(LABELS)), sent(named_layout(MOVED))
BOTH = {"layout": BEFORE, "new_layout": AFTER}


def edited(
    client: JobClient, inputs: Mapping[str, Any], mask: Upload | None = None, **params: Any
) -> Outcome:
    wish = {"steps": 2, "seed": 7, "margin_mm": MARGIN_MM, **params}
    return client.synthesize(Order("semantic", mask, ct_upload(CT.array, CT.affine), wish, inputs))


def composed(outcome: Outcome) -> np.ndarray:
    made = CT.array.copy()
    (box,) = outcome.boxes
    made[box.place] = box.array
    return made


def test_it_says_that_nothing_has_to_be_painted(client: JobClient) -> None:
    models = client.models()
    assert not models["semantic"].needs_mask
    assert not models["semantic_whole"].needs_mask
    assert [(take.name, take.required) for take in models["semantic"].takes] == [
        ("layout", True),
        ("new_layout", False),
    ]


def test_an_organ_is_moved_the_rest_is_the_ct_and_a_seed_is_a_ct(client: JobClient) -> None:
    first, again, other = (edited(client, BOTH, seed=seed) for seed in (7, 7, 8))
    differs = LABELS.array != MOVED.array
    made = composed(first)
    changed = made != CT.array
    assert not changed[~edit_region(differs, CT.spacing_mm, MARGIN_MM)].any()
    assert changed[differs].mean() > 0.5
    assert np.array_equal(made, composed(again))
    assert not np.array_equal(made, composed(other))
    assert first.provenances[0]["inputs_sha256"].keys() == {"layout", "new_layout"}


def test_a_mask_says_where_an_organ_is_taken_out(client: JobClient) -> None:
    mask = ball(CT, (26, 20, 6), 10.0)
    upload = mask_upload(mask.array, CT.affine)
    changed = composed(edited(client, {"layout": BEFORE}, upload, organ="body")) != CT.array
    assert changed[mask.array > 0].mean() > 0.5
    assert not changed[~edit_region(mask.array, CT.spacing_mm, MARGIN_MM)].any()


def test_a_whole_ct_comes_with_its_labels(client: JobClient) -> None:
    whole = with_body()
    orders = [Order("semantic_whole", params={"steps": 2, "seed": 3}, inputs={"layout": sent(whole)})] * 2
    first, again = (client.synthesize(order) for order in orders)
    (volume,), (same,) = first.volumes, again.volumes
    assert first.provenances[0]["generated"]
    assert np.array_equal(volume.array, same.array)
    np.testing.assert_allclose(volume.affine, whole.labels.affine, atol=1e-4)
    assert volume.labels is not None
    (liver,) = [number for number, name in volume.labels.names.items() if name == "liver"]
    assert np.array_equal(volume.labels.array == liver, whole.mask("liver"))


def test_the_client_for_files_sends_layouts(server: Started, tmp_path: Path) -> None:
    write_volume(CT, tmp_path / "ct.nii.gz")
    made = Client(server.url).infer(
        "semantic",
        reference_path=tmp_path / "ct.nii.gz",
        params={"steps": 2, "seed": 7, "margin_mm": MARGIN_MM},
        out_path=tmp_path / "made.nii.gz",
        **BOTH,
    )
    differs = LABELS.array != MOVED.array
    changed = read_volume(made.path).array != CT.array
    assert changed[differs].mean() > 0.5
    assert not changed[~edit_region(differs, CT.spacing_mm, MARGIN_MM)].any()


def shifted(mm: float) -> SentLayout:
    """Half of it lies beyond the CT."""
    affine = LABELS.affine.copy()
    affine[0, 3] += mm
    return sent(named_layout(Volume(LABELS.array, affine)))


def nameless() -> SentLayout:
    return sent(Layout(LABELS, {number: f"structure {number}" for number in (1, 2, 3, 6)}))


def test_without_layouts_or_paint_it_says_what_to_send(client: JobClient) -> None:
    with pytest.raises(ServerError, match="layout and new_layout say the same, and no mask was sent"):
        edited(client, {"layout": BEFORE})
    with pytest.raises(ServerError, match="organ: nothing says where liver is to be"):
        edited(client, BOTH, organ="liver")
    with pytest.raises(WrongInput, match="layout is missing: model 'semantic' needs the organs of the CT"):
        edited(client, {"new_layout": AFTER})
    with pytest.raises(WrongInput, match="model 'semantic' works on a CT: give one"):
        client.synthesize(Order("semantic", inputs=BOTH))


@pytest.mark.parametrize(
    ("layout", "code", "said"),
    [
        (sent(named_layout(make_abdomen(slices=8)[1])), "geometry_mismatch", r"layout: .* 40 x 32 x 8"),
        (shifted(100.0), "geometry_mismatch", r"layout: the layout and the CT differ by 100 mm"),
        (nameless(), "invalid_request", r"none of structure 1, .* is an organ that is known; known are"),
        (sent(Layout(LABELS, {1: "spleen"})), "invalid_request", r"layout: the labels 2, 3, 6 have no name"),
    ],
)
def test_layouts_that_cannot_be_are_refused(client: JobClient, layout: Any, code: str, said: str) -> None:
    with pytest.raises(ServerError, match=said) as error:
        edited(client, {"layout": layout, "new_layout": AFTER})
    assert error.value.code == code


def test_a_segmentation_whose_segments_overlap_is_refused(client: JobClient, tmp_path: Path) -> None:
    organ = LABELS.array == 6
    path = write_segmentation(tmp_path / "two.seg.nrrd", CT, {"liver": organ, "right lobe": organ})
    layout = SentLayout(Upload.of(path), {1: "liver"})
    with pytest.raises(ServerError, match=r"its segments overlap \(liver, right lobe\)"):
        edited(client, {"layout": layout, "new_layout": AFTER})


def test_a_whole_ct_needs_a_body(client: JobClient) -> None:
    with pytest.raises(ServerError, match="nothing in it is called body"):
        client.synthesize(Order("semantic_whole", params={"steps": 2}, inputs={"layout": BEFORE}))
