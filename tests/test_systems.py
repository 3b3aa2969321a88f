"""The table of systems, cards and records of before, and systems of an admin's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import METADATA, ModelCard, load_card
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.files.records import read_sidecar
from lesionbrush.systems import (
    FOLDERS,
    VARIABLE,
    find_system,
    list_inputs,
    list_systems,
    parse_request,
    request_of,
)
from lesionbrush.systems.contract import SystemCard
from lesionbrush.systems.lesion_inpainting.card import LesionCard
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.request import LungDDPMPlusRequest, LungDDPMRequest
from lesionbrush.systems.mddpm.card import BoxCard, SliceCard
from lesionbrush.systems.mddpm.request import MDDPMRequest
from lesionbrush.systems.med_ddpm.request import MedDDPMRequest
from lesionbrush.systems.palette.request import PaletteRequest
from lesionbrush.systems.semantic.request import SemanticRequest

TOYS = Path(__file__).with_name("toy_systems")
UNET = {
    "dims": 2,
    "in_channels": 1,
    "channels": [32, 64, 96, 128],
    "attention": [False] * 4,
    "blocks": 1,
    "norm_groups": 8,
    "prediction": "v",
    "data_spread": 1.0,
    "variance": "learned_range",
}
LESION_UNET = {"channels": [32, 64], "blocks": 1, "head_channels": 16, "prior_spread": 0.2}
FLAT: dict[str, Any] = {
    "name": "mddpm",
    "system": "mddpm",
    "title": "mDDPM",
    "makes": "Another case's lesion under the mask, slice by slice.",
    "window_hu": [-1000.0, 1000.0],
    "spacing_mm": 1.0,
    "roi_voxels": [64, 96, 128],
    "roi_multiple": 8,
    "schedule": "cosine",
    "timesteps": 500,
    "scaling": "window",
    "field": "lesion",
    "inputs": ["anatomy", "pathology", "pathology_mask"],
    "temperature": 0.9,
    "grain_temperature": None,
    "outline_of_blur": 0.0,
    "outline_if_sharp_mm": 0.0,
    "core_hu": None,
    "ground_glass_above_lung_hu": None,
    "calcium": None,
    "small_solid": None,
    "tissue": {"name": "lung", "hu": [-1000.0, -300.0], "least_share": 0.3},
    "network": UNET,
    "attributes": [],
    "weights_from": None,
    "weights_sha256": "9" * 64,
    "weights_license": "Apache-2.0",
    "attribution": "Trained on LIDC-IDRI.",
    "trained": {"steps": 3300.0, "hours": 1.19},
    "training_data": "Axial slices at 1 mm.",
    "split": "by patient",
    "figures": {"hu_mae": 12.0},
    "limits": ["It makes no lesion of its own."],
}
"""A card as they were before sections: the fields of all systems, with nulls."""


def flat(**changes: Any) -> ModelCard:
    return ModelCard.model_validate({**FLAT, **changes})


class TestCardsOfBefore:
    def test_one_still_opens_from_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / METADATA).parent.mkdir()
        (tmp_path / METADATA).write_text(json.dumps({"lesionbrush": FLAT}))
        card = load_card(tmp_path)
        assert (card.name, card.roi_voxels, card.limits) == ("mddpm", (64, 96, 128), (FLAT["limits"][0],))
        assert card.tissue is not None
        section = SliceCard.of(card)
        assert (section.schedule, section.timesteps, section.temperature) == ("cosine", 500, 0.9)
        assert section.network.channels == (32, 64, 96, 128)
        assert section.network.variance == "learned_range"

    @pytest.mark.parametrize(
        ("kind", "system", "network"),
        [
            (LesionCard, "lesion_inpainting", LESION_UNET),
            (BoxCard, "mddpm_3d", LESION_UNET),
            (LungDDPMCard, "lung_ddpm", {**UNET, "dims": 3, "in_channels": 3, "variance": "fixed_small"}),
        ],
    )
    def test_so_do_those_of_the_other_systems(
        self, kind: type[SystemCard], system: str, network: dict[str, Any]
    ) -> None:
        section = kind.of(flat(system=system, network=network, field="lungs", inputs=["lungs"]))
        assert find_system(system).card is kind
        dumped = section.model_dump(mode="json", exclude_unset=True)
        assert dumped["network"] == network
        assert "field" not in dumped

    def test_written_anew_it_has_a_section_and_says_the_same(self) -> None:
        card = flat()
        again = ModelCard.model_validate_json(card.model_dump_json())
        assert again == card
        assert SliceCard.of(again) == SliceCard.of(card)
        assert set(json.loads(card.model_dump_json())) == set(ModelCard.model_fields)


class TestWrongSections:
    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"colour": "red"}, "colour"),
            ({"temperature": -1}, "temperature"),
            ({"schedule": None}, "schedule"),
            ({"network": {**UNET, "prediction": "guess"}}, r"network\.prediction"),
            ({"network": {**UNET, "colour": 1}}, r"network\.colour"),
            ({"network": LESION_UNET}, r"network\.dims"),
        ],
    )
    def test_one_is_refused_with_its_field(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(WeightsError, match=rf"^the card of 'mddpm' does not fit 'mddpm': .*{field}: \w"):
            SliceCard.of(flat(**changes))

    def test_a_section_lacks_nothing(self) -> None:
        bare = ModelCard.model_validate({name: FLAT[name] for name in FLAT if name in ModelCard.model_fields})
        with pytest.raises(WeightsError, match="schedule: Field required; network: Field required"):
            SliceCard.of(bare)

    def test_what_belongs_to_another_system_is_refused_where_there_is_a_section(self) -> None:
        section = SliceCard.of(flat()).model_dump(mode="json")
        card = flat().model_copy(update={"section": {**section, "core": [40.0, 5.0]}})
        with pytest.raises(WeightsError, match="core: Extra inputs are not permitted"):
            SliceCard.of(card)


RECORD: dict[str, Any] = {
    "synthetic": True,
    "notice": "Synthetic CT made by LesionBrush. Not for diagnosis; not a medical device.",
    "model": "lung_lesion",
    "weights_sha256": "0" * 64,
    "weights_license": "Apache-2.0",
    "attribution": "nobody",
    "variant": 1,
    "seed": 8,
    "reference_sha256": "1" * 64,
    "inputs_sha256": {},
    "box_offset": [3, 4, 5],
    "box_shape": [20, 20, 10],
    "voxels_changed": 1200,
    "in_mask": {"voxels": 400, "mean_hu": -20.0, "std_hu": 40.0, "p10_hu": -90.0, "p90_hu": 30.0},
    "device": "cpu",
    "remarks": [],
    "seconds": {"prepare": 0.1, "sample": 2.0, "compose": 0.1},
    "created": "2025-01-01T00:00:00+00:00",
    "versions": {"lesionbrush": "0.1.0"},
}
COMMON = {"seed": 7, "variants": 2, "margin_mm": 3.0, "label": None, "output": "volume", "steps": 12}
ASKED = {
    "lesion_inpainting": SynthesisRequest,
    "lung_ddpm": LungDDPMRequest,
    "lung_ddpm_plus": LungDDPMPlusRequest,
    "mddpm": MDDPMRequest,
    "med_ddpm": MedDDPMRequest,
    "palette": PaletteRequest,
    "semantic": SemanticRequest,
}


class TestRecordsOfBefore:
    def test_a_request_that_names_no_system_is_lesion_inpaintings(self, tmp_path: Path) -> None:
        request = {**COMMON, "sampler": "ddim", "attributes": {"lesion": "present", "margin": 0.5}}
        (tmp_path / "ct.provenance.json").write_text(json.dumps({**RECORD, "request": request}))
        record = read_sidecar(tmp_path / "ct.nii.gz")
        asked = request_of(record)
        assert isinstance(asked, SynthesisRequest)
        assert (asked.seed, asked.variants, asked.sampler, asked.attributes.margin) == (7, 2, "ddim", 0.5)
        assert not record.generated
        assert record.made_from is None
        assert record.note.startswith("SYNTHETIC LesionBrush ")

    @pytest.mark.parametrize("system", ASKED)
    def test_one_that_names_it_is_of_that_type(self, system: str) -> None:
        record = Provenance.model_validate({**RECORD, "request": {**COMMON, "system": system}})
        asked = request_of(record)
        assert type(asked) is ASKED[system]
        assert asked.model_dump()["system"] == system
        again = record.model_copy(update={"request": asked.model_dump(mode="json")})
        assert request_of(Provenance.model_validate_json(again.model_dump_json())) == asked

    def test_what_its_system_does_not_know_is_refused(self) -> None:
        record = Provenance.model_validate(
            {**RECORD, "request": {**COMMON, "system": "mddpm", "region": "x"}}
        )
        with pytest.raises(InvalidRequest, match=r"region: unknown parameter \(got 'x'\)"):
            request_of(record)
        gone = record.model_copy(update={"request": {"system": "gone"}})
        with pytest.raises(WeightsError, match="system 'gone' is not known; known are lesion_inpainting, "):
            request_of(gone)


class TestTheTable:
    def test_an_unknown_system_is_refused_and_the_known_ones_are_named(self) -> None:
        for ask in (find_system, lambda name: parse_request({}, name)):
            with pytest.raises(
                WeightsError, match=r"^system 'x' is not known; known are lesion_inpainting, "
            ):
                ask("x")

    def test_every_name_is_one_system_and_every_request_says_of_which(self) -> None:
        for name, system in list_systems().items():
            assert name == system.name
            assert system.makes in ("edit", "volume")
            said = system.request.model_fields["system"].default
            assert find_system(said).request is system.request

    def test_what_systems_take_is_listed_once(self) -> None:
        inputs = list_inputs()
        assert {"lungs", "anatomy", "pathology", "pathology_mask"} <= set(inputs)
        assert all(name == one.name for name, one in inputs.items())

    def test_it_imports_no_torch(self) -> None:
        assert "torch" not in imported("from lesionbrush.systems import list_systems; list_systems()")


def imported(program: str, **environment: str) -> list[str]:
    """The modules that are there after a program, in a process of its own."""
    found = run(f"{program}\nimport sys; print(*sys.modules)", **environment)
    return found.stdout.split()


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


LIST = "from lesionbrush.systems import list_systems; print(*list_systems())"


class TestSystemsOfAnAdmin:
    def test_there_are_none_unless_the_variable_names_a_folder(self) -> None:
        own = run(LIST).stdout.split()
        assert "steered" not in own
        assert own[0] == FOLDERS[0]
        assert run(LIST, **{VARIABLE: str(TOYS)}).stdout.split() == [*own, "noise", "steered", "unpainted"]

    def test_a_package_may_import_its_own_modules(self, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        folder.mkdir()
        (folder / "parts.py").write_text("SYSTEMS = ()\n")
        (folder / "__init__.py").write_text("from .parts import SYSTEMS\n")
        assert run(LIST, **{VARIABLE: str(tmp_path)}).stdout.split() == run(LIST).stdout.split()

    @pytest.mark.parametrize("made", ["nothing", "a file", "no folder"])
    def test_a_folder_without_any_is_refused(self, tmp_path: Path, made: str) -> None:
        root = tmp_path / "gone" if made == "no folder" else tmp_path
        if made == "a file":
            (tmp_path / "__init__.py").write_text("SYSTEMS = ()\n")
        failed = run(LIST, **{VARIABLE: str(root)})
        assert failed.returncode != 0
        assert f"{VARIABLE} names {root}, where no folder has an __init__.py with SYSTEMS" in failed.stderr

    def test_a_package_that_has_no_systems_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "__init__.py").write_text("")
        failed = run(LIST, **{VARIABLE: str(tmp_path)})
        assert failed.returncode != 0
        assert f"{VARIABLE}: {tmp_path / 'empty'} has no SYSTEMS, so it is no system" in failed.stderr
