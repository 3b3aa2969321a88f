"""The starter weights that ship: they are the cards', they load, and what they paint is a nodule."""

from __future__ import annotations

import numpy as np
import pytest
from lesionbrush.core.registry import find_model, verify_weights
from lesionbrush.core.synthesize import synthesize
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.phantom.chest import chest_phantom, propose_lesion
from lesionbrush.systems import load_model, parse_request
from scipy.ndimage import binary_erosion


@pytest.mark.parametrize("name", ["lung_ddpm", "lung_ddpm_plus"])
def test_the_weights_are_the_ones_the_card_names_and_small_enough_for_git(name: str) -> None:
    installed = find_model(name)
    verify_weights(installed)
    assert installed.weights.stat().st_size < 20_000_000
    for part in ("LICENSE", "docs/README.md", "docs/montage.png"):
        assert (installed.folder / part).is_file()
    assert load_model(installed, "cpu").card.system == name


def test_lung_ddpm_plus_paints_something_denser_than_lung_and_nothing_else() -> None:
    phantom = chest_phantom(seed=1, shape=(160, 160, 64), spacing_mm=(2.0, 2.0, 4.0))
    mask = propose_lesion(phantom.volume, phantom.lungs, 14.0, np.random.default_rng(2))
    request = parse_request({"steps": 6}, "lung_ddpm_plus")
    made = synthesize(phantom.volume, mask, request, load_model(find_model("lung_ddpm_plus"), "cpu"))[0]
    array, inside = made.volume().array, mask.array > 0
    assert array[binary_erosion(inside)].mean() > -500
    outside = ~edit_region(inside, phantom.volume.spacing_mm, 3.0)
    assert np.array_equal(array[outside], phantom.volume.array[outside])
