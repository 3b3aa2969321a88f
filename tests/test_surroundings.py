"""What a mask lies in: the remark when a model was not made for it, and its silence when it was."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_fixtures import ball, grid, install, made, paints
from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.registry import Tissue, list_models
from lesionbrush.core.surroundings import Place
from lesionbrush.core.synthesize import Synthesis
from lesionbrush.core.volume import Volume
from lesionbrush.systems import find_system
from lesionbrush.systems.lung_ddpm import published

LIVER = {"name": "liver", "hu": (20, 200), "least_share": 0.5}
SOFT = {"name": "soft tissue", "hu": (-150, 300), "least_share": 0.6}
LUNG = Tissue.model_validate(published.LUNG)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No model is installed unless a test does it."""
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    return tmp_path


def body(hu: int = 57) -> Volume:
    """Lung everywhere; from the second half of the first axis on it is tissue of `hu`."""
    array = np.full((60, 60, 40), -850, np.int16)
    array[30:] = hu
    return Volume(array, grid((1.0, 1.0, 1.5)))


def asked(ct: Volume, mask: Volume, **card: object) -> Synthesis:
    return made(ct, mask, paints(40, **{"tissue": LUNG, **card}))


def remarks(ct: Volume, mask: Volume, **card: object) -> tuple[str, ...]:
    return asked(ct, mask, **card).provenance.remarks


def test_a_mask_in_the_liver_is_told_of_and_no_voxel_changes_for_it() -> None:
    ct = body()
    mask = ball(ct, (45, 30, 20), 6.0)
    told, silent = asked(ct, mask), asked(ct, mask, tissue=None)
    assert told.provenance.remarks == (
        "the mask lies in tissue of 57 HU (median 3 to 8 mm around); tiny was made for lesions in lung "
        "(-1000 to -300 HU there): expect a border that does not fit. Installed models that fit: none",
    )
    assert silent.provenance.remarks == ()
    assert np.array_equal(told.box, silent.box)


@pytest.mark.parametrize("centre", [(12, 30, 20), (28, 30, 20), (2, 2, 2)], ids=["lung", "pleura", "corner"])
def test_a_mask_in_lung_or_at_the_pleura_is_not(centre: tuple[int, int, int]) -> None:
    ct = body()
    assert remarks(ct, ball(ct, centre, 6.0)) == ()


def test_a_mask_over_a_nodule_in_lung_is_not() -> None:
    ct = body()
    mask = ball(ct, (15, 30, 20), 6.0)
    ct.array[mask.array > 0] = 40
    assert remarks(ct, mask) == ()


def test_lesions_are_looked_at_one_by_one() -> None:
    ct = body()
    array = sum(ball(ct, (i, j, 20), 3.0).array for i, j in ((10, 10), (50, 10), (50, 50)))
    (remark,) = remarks(ct, ct.with_array(array.astype(np.uint8)))
    assert remark.startswith("2 of 3 lesions lie in tissue of 57 HU")


def test_lesions_smaller_than_any_it_was_made_for_are_told_of() -> None:
    ct = body()
    (remark,) = remarks(ct, ball(ct, (12, 30, 20), 1.1))
    assert remark.endswith("tiny was made for lesions from 4 mm: smaller ones may hardly be seen")
    assert remarks(ct, ball(ct, (12, 30, 20), 1.1), tissue=None) == ()
    both = ball(ct, (12, 30, 20), 1.1).array + ball(ct, (12, 10, 20), 4.0).array
    (remark,) = remarks(ct, ct.with_array(both.astype(np.uint8)))
    assert remark.startswith("the smallest of 2 lesions has the volume of a ball of ")


def test_models_made_for_that_tissue_are_named(models: Path) -> None:
    install(models, name="for_liver", tissue=LIVER)
    install(models, name="for_lung", tissue=LUNG.model_dump())
    install(models, name="unsaid")
    ct = body()
    (remark,) = remarks(ct, ball(ct, (45, 30, 20), 6.0))
    assert remark.endswith("Installed models that fit: for_liver")
    install(models, name="liver_first", tissue=LIVER, recommended=True)
    (remark,) = remarks(ct, ball(ct, (45, 30, 20), 6.0))
    assert remark.endswith("Installed models that fit: liver_first")
    ct = body(hu=400)
    (remark,) = remarks(ct, ball(ct, (45, 30, 20), 6.0))
    assert remark.endswith("Installed models that fit: none")


@pytest.mark.parametrize(
    ("centre", "chosen", "said"),
    [
        ((45, 30, 20), LUNG, "in tissue of 57 HU"),
        ((12, 30, 20), SOFT, "in tissue of -850 HU"),
        ((45, 30, 20), SOFT, ""),
        ((12, 30, 20), LUNG, ""),
    ],
)
def test_each_model_sends_to_the_other_where_it_does_not_fit(
    models: Path, centre: tuple[int, int, int], chosen: Any, said: str
) -> None:
    install(models, name="for_soft_tissue", tissue=SOFT)
    install(models, name="for_lung", tissue=LUNG.model_dump())
    ct = body()
    told = remarks(ct, ball(ct, centre, 6.0), tissue=Tissue.model_validate(chosen))
    other = "for_soft_tissue" if chosen is LUNG else "for_lung"
    assert len(told) == bool(said)
    for remark in told:
        assert said in remark
        assert remark.endswith(f"Installed models that fit: {other}")


@pytest.mark.parametrize(("air", "fits"), [(0.3, True), (0.5, False)])
def test_soft_tissue_takes_some_air_beside_it_and_no_more(air: float, fits: bool) -> None:
    hu = np.where(np.arange(1000) < 1000 * air, -900, 60)
    assert Place(hu, hu).is_in(Tissue.model_validate(SOFT)) == fits


def at_the_skin() -> Place:
    """Half of it room, with the noise of a scanner, then a blurred rim, then fat."""
    hu = np.concatenate([np.linspace(-1024, -980, 500), np.linspace(-965, -150, 180), np.full(320, -100)])
    return Place(hu, hu)


def test_the_room_beside_the_skin_is_no_lung() -> None:
    assert at_the_skin().share_in(Tissue.model_validate(SOFT)) == pytest.approx(0.64, abs=0.02)
    assert at_the_skin().share_in(LUNG) < 0.31
    bulla = np.full(100, -1000)
    assert Place(bulla, bulla).is_in(LUNG)


def test_at_the_skin_the_models_for_lung_are_not_named(models: Path) -> None:
    """By thresholds alone the rim of the skin would do for lung."""
    install(models, name="for_soft_tissue", tissue=SOFT)
    install(models, name="for_lung", tissue={**LUNG.model_dump(), "least_share": 0.25})
    ct = body(-100)
    rim = np.linspace(-960, -150, 4).round().astype(np.int16)
    ct.array[:30], ct.array[30:34] = -1024, rim[:, None, None]
    (remark,) = remarks(ct, ball(ct, (33, 30, 20), 5.0), tissue=Tissue.model_validate(LIVER))
    assert remark.endswith("that fit: for_soft_tissue")


def test_a_damaged_card_of_another_model_costs_its_name_only(models: Path) -> None:
    (install(models, name="for_liver", tissue=LIVER) / "configs" / "metadata.json").write_text("{")
    ct = body()
    (remark,) = remarks(ct, ball(ct, (45, 30, 20), 6.0))
    assert remark.endswith("that fit: none")


def test_a_mask_that_fills_the_volume_is_called_by_what_is_under_it() -> None:
    ct = body().crop((slice(40, 46), slice(0, 60), slice(0, 40)))
    whole = ct.with_array(np.ones(ct.shape, np.uint8))
    place = Place.of(ct.array, whole.array, bounding_box(whole.array), np.array(ct.spacing_mm))
    assert (place.around_hu.size, place.shown_hu.min(), place.is_in(LUNG)) == (0, 57, False)


def test_only_what_is_3_to_8_mm_away_is_around() -> None:
    """A point in a volume that holds its own distance to it, in mm, on a grid that is not even."""
    spacing_mm = np.array([1.0, 1.0, 2.5])
    index = np.indices((31, 31, 31)).reshape(3, -1).T - 15
    away_mm = np.linalg.norm(index * spacing_mm, axis=1).reshape(31, 31, 31)
    mask = (away_mm == 0).astype(np.uint8)
    place = Place.of(away_mm, mask, bounding_box(mask), spacing_mm)
    assert place.inside_hu.tolist() == [0]
    assert place.around_hu.size == np.count_nonzero((away_mm > 3) & (away_mm <= 8))
    assert (place.around_hu.min() > 3, place.around_hu.max()) == (True, 8)


def test_a_large_ct_costs_no_more_than_a_small_one() -> None:
    """128 MB of HU, which a copy of, or a mask as large, would show."""
    hu, mask = np.broadcast_to(np.int16(57), (400, 400, 400)), np.zeros((400, 400, 400), np.uint8)
    box = (slice(200, 206), slice(200, 206), slice(200, 206))
    mask[box] = 1
    tracemalloc.start()
    place = Place.of(hu, mask, box, np.ones(3))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert place.around_hu.size > 1000
    assert peak_bytes < 2e6


def test_every_model_that_ships_says_what_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LESIONBRUSH_MODELS")
    cards = [model.card for model in list_models()]
    edits = [card for card in cards if find_system(card.system).makes == "edit"]
    assert {card.tissue for card in edits} <= {LUNG, Tissue.model_validate(SOFT)}
    assert {card.tissue for card in edits if card.name.startswith("lung")} == {LUNG}
