"""Lung-DDPM and Lung-DDPM+ on a CT: nothing outside the region changes, and the same seed is the same CT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_fixtures import ball, box, make_ct
from lesionbrush.core.inputs import NO_INPUTS, Inputs
from lesionbrush.core.registry import InstalledModel, load_card
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import LesionBrushError, NoLungs, WeightsError
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.systems import load_model, parse_request
from lung_ddpm_kit import install_layout_model, layout_model

CT = make_ct()
MASK = ball(CT, (20, 18, 15), 5)
WIDE = box(CT, (4, 36), (4, 32), (4, 26))
OUTSIDE = ~edit_region(MASK.array > 0, CT.spacing_mm, 3.0)
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("lung_ddpm", {"region": "edit"}),
    ("lung_ddpm", {"region": "lungs"}),
    ("lung_ddpm", {"as_published": True}),
    ("lung_ddpm_plus", {"start": "blended"}),
    ("lung_ddpm_plus", {"start": "inversion"}),
    ("lung_ddpm_plus", {"as_published": True}),
]


def made(system: str, lungs: Volume | None = WIDE, **request: Any) -> list[Synthesis]:
    asked = parse_request({"steps": 2, **request}, system)
    inputs = Inputs(lungs=lungs) if system == "lung_ddpm" else NO_INPUTS
    return synthesize(CT, MASK, asked, layout_model(system), inputs)


@pytest.mark.parametrize(("system", "request_"), REQUESTS)
def test_no_voxel_outside_the_region_changes(system: str, request_: dict[str, Any]) -> None:
    changed = made(system, **request_)[0].volume().array != CT.array
    allowed = ~OUTSIDE
    if request_.get("region") == "lungs":
        allowed = allowed | (WIDE.array > 0)
        assert (changed & OUTSIDE).any()
    assert not (changed & ~allowed).any()
    assert changed[MASK.array > 0].mean() > 0.9


@pytest.mark.parametrize("system", ["lung_ddpm", "lung_ddpm_plus"])
def test_a_seed_is_a_ct(system: str) -> None:
    first, again = made(system, seed=3)[0], made(system, seed=3)[0]
    assert np.array_equal(first.box, again.box)
    other = made(system, seed=4)[0]
    assert not np.array_equal(first.box, other.box)
    assert first.provenance.request["system"] == system


@pytest.mark.parametrize(
    ("lungs", "error"),
    [
        (CT.with_array(np.zeros(CT.shape, np.uint8)), NoLungs),
        (Volume(WIDE.array, CT.affine + np.array([[0, 0, 0, 1000.0], *np.zeros((3, 4))])), LesionBrushError),
    ],
)
def test_lungs_that_cannot_be_are_refused(lungs: Volume, error: type[LesionBrushError]) -> None:
    with pytest.raises(error, match="lungs: "):
        made("lung_ddpm", lungs)


def test_a_card_whose_network_has_other_channels_is_refused(tmp_path: Any) -> None:
    folder = install_layout_model(tmp_path, "lung_ddpm", network={"in_channels": 2})
    with pytest.raises(WeightsError, match="2 channels, the system 'lung_ddpm' has 3"):
        load_model(InstalledModel(load_card(folder), folder), "cpu")


def test_weights_of_another_size_are_refused(tmp_path: Any) -> None:
    folder = install_layout_model(tmp_path, "lung_ddpm_plus")
    other = install_layout_model(tmp_path / "other", "lung_ddpm_plus", network={"channels": (16, 16)})
    (folder / "models" / "model.safetensors").write_bytes(
        (other / "models" / "model.safetensors").read_bytes()
    )
    card = load_card(folder).model_copy(update={"weights_sha256": load_card(other).weights_sha256})
    with pytest.raises(WeightsError, match="do not fit its network"):
        load_model(InstalledModel(card, folder), "cpu")
