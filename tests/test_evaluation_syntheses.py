"""What a model is asked for in an evaluation, by its system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from core_fixtures import FakeModel, ball, make_ct, paints
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.evaluation.card_figures import Case
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.syntheses import MAKING, PACKAGE, Maker, code_digest
from lesionbrush.systems import find_system, system_folder
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest

CT = make_ct()
MASK = ball(CT, (20, 18, 15), 5)
GROUND_GLASS = Attributes(texture="ground_glass")


class Listening:
    """A fake model that remembers its requests."""

    def __init__(self, system: str) -> None:
        self.fake: FakeModel = paints(0.0, system=system)
        self.card, self.hooks = self.fake.card, find_system(system).hooks
        self.requests: list[BaseRequest] = []

    def sample(self, rois: RoiBatch, request: BaseRequest, seeds: Sequence[int], *watch: Any) -> Sampled:
        self.requests.append(request)
        return self.fake.sample(rois, request, seeds, *watch)


def nodule() -> Nodule:
    return Nodule(Case("n", CT, MASK, GROUND_GLASS), "LIDC-IDRI-0000", {})


def test_what_a_card_says_of_sampling_makes_another_synthesis_and_its_texts_do_not(tmp_path: Path) -> None:
    model = Listening("lesion_inpainting")
    maker = Maker(model, tmp_path)
    calmer = {**model.card.section, "temperature": 0.5}
    for change in ({}, {"limits": ("none",), "figures": {"cases": 3.0}}, {"section": calmer}):
        model.card = model.card.model_copy(update=change)
        maker.one(nodule(), GROUND_GLASS)
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("system", "request_"),
    [
        (
            "lesion_inpainting",
            SynthesisRequest(attributes=GROUND_GLASS, seed=3, draw_shape=False, keep_vessels=False),
        ),
        ("lung_ddpm_plus", LungDDPMPlusRequest(seed=3)),
    ],
)
def test_a_system_is_asked_in_its_own_words_and_once(
    system: str, request_: BaseRequest, tmp_path: Path
) -> None:
    model = Listening(system)
    maker = Maker(model, tmp_path)
    first, again = (maker.one(nodule(), GROUND_GLASS, seed=3) for _ in range(2))
    assert model.requests == [request_]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, CT.array)


def test_other_laws_make_other_syntheses(tmp_path: Path) -> None:
    model = Listening("lesion_inpainting")
    maker = Maker(model, tmp_path)
    for laws in (frozenset({"core", "haze"}), frozenset({"haze", "core"}), frozenset({"core"})):
        model.laws = laws
        maker.one(nodule(), GROUND_GLASS)
    assert len(model.requests) == 2


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code that makes syntheses."""
    copy = tmp_path_factory.mktemp("package")
    for part in ("core", "diffusion", "engines", "anatomy", "systems"):
        copytree(PACKAGE / part, copy / part)
    return copy


def digest_with(package: Path, changed: str) -> str:
    """Of lesion inpainting, while a file has a line more."""
    path = package / changed
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "# another line\n", encoding="utf-8")
    try:
        return code_digest(package / "systems" / "lesion_inpainting", package)
    finally:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "changed",
    [
        "systems/lesion_inpainting/model.py",
        "systems/lesion_inpainting/laws/haze.py",
        "core/roi.py",
        "diffusion/samplers.py",
        "engines/openvino.py",
        "anatomy/lungs.py",
        "systems/running.py",
        "systems/contract.py",
    ],
)
def test_what_makes_voxels_voids_the_cache(package: Path, changed: str) -> None:
    assert digest_with(package, changed) != code_digest(system_folder("lesion_inpainting"))


@pytest.mark.parametrize("changed", ["systems/lung_ddpm/model.py", "systems/mddpm/slices.py"])
def test_another_system_does_not(package: Path, changed: str) -> None:
    assert digest_with(package, changed) == code_digest(system_folder("lesion_inpainting"))


def test_a_file_that_moved_voids_the_cache_and_no_code_is_refused(package: Path, tmp_path: Path) -> None:
    moved = tmp_path / "lesion_inpainting"
    copytree(package / "systems" / "lesion_inpainting", moved)
    before = code_digest(moved, package)
    (moved / "steps.py").rename(moved / "levels.py")
    assert code_digest(moved, package) != before
    with pytest.raises(FileNotFoundError, match="no Python files"):
        code_digest(tmp_path / "nothing", package)


def test_every_system_has_its_own_folder() -> None:
    assert system_folder("lung_ddpm_plus") == system_folder("lung_ddpm") != system_folder("lesion_inpainting")
    assert all((PACKAGE / part).exists() for part in MAKING)
