"""Model folders are MONAI bundles: complete, true to their cards, and opened by MONAI and MONAI Label."""

from __future__ import annotations

import json
import re
import shutil
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_kit import (
    MODELS,
    SCHEMA_COPY,
    SHIPPED,
    SYSTEMS,
    forward_arguments,
    install_bundle,
    label_loader,
    parser_of,
    read,
)
from lesionbrush.bundles.configs import (
    INFERENCE,
    LICENSE,
    PACKAGES,
    README,
    inference_of,
    metadata_of,
    with_weights,
)
from lesionbrush.core.registry import METADATA, WEIGHTS, find_model, load_card
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems import load_model
from lesionbrush.training.export import update_card
from monai.bundle import create_workflow, load, verify_metadata, verify_net_in_out
from monailabel.utils.others.generic import get_bundle_models
from packaging.version import Version
from safetensors.torch import load_file

VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
SECTIONS = (
    *("Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance"),
    *("Usage", "System Configuration", "Limitations", "References", "License"),
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for a host gets an error. And the path of modules is put back afterwards."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.syspath_prepend(str(MODELS.parent / "app"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    """The tiny bundle, to be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "model" / tiny.name))


@pytest.mark.parametrize("name", SHIPPED)
class TestShipped:
    def test_both_configs_say_what_the_card_says(self, name: str) -> None:
        written, card = read(MODELS / name / METADATA), load_card(MODELS / name)
        told = metadata_of(card, written)
        for key in (*VERSIONS, "required_packages_version"):  # as they were when it was written
            told[key] = written[key]
        assert written == told, f"write it anew: run.py models bundle {name}"
        assert read(MODELS / name / INFERENCE) == inference_of(card), f"run.py models bundle {name}"
        assert card.weights_license in written["copyright"]

    def test_the_versions_are_there_to_be_had(self, name: str) -> None:
        written = read(MODELS / name / METADATA)
        named = {package: written[key] for key, package in VERSIONS.items()}
        named |= written["required_packages_version"]
        assert named.keys() == {*VERSIONS.values(), *PACKAGES}
        assert all(Version(told) <= Version(version(package)) for package, told in named.items())

    def test_monai_verifies_the_metadata(self, name: str) -> None:
        verify_metadata(str(MODELS / name / METADATA), filepath=SCHEMA_COPY)

    def test_the_network_takes_and_gives_what_the_metadata_say(self, name: str) -> None:
        folder = MODELS / name
        files = {"meta_file": str(folder / METADATA), "config_file": str(folder / INFERENCE)}
        verify_net_in_out("network_def", **files, device="cpu", extra_forward_args=forward_arguments(folder))

    def test_the_network_has_the_weights_of_the_model(self, name: str) -> None:
        parser = parser_of(MODELS / name)
        parser["device"] = "cpu"
        ours = load_model(find_model(name, MODELS), "cpu").network.state_dict()  # type: ignore[attr-defined]
        theirs = parser.get_parsed_content("network").state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(value, ours[key]) for key, value in theirs.items())

    def test_the_documents_are_those_of_the_model_zoo(self, name: str) -> None:
        folder = MODELS / name
        lines = (folder / README).read_text(encoding="utf-8").splitlines()
        headings = {line.lstrip("# ") for line in lines if line.startswith("#")}
        assert headings >= set(SECTIONS)
        assert any(f"monai.bundle run --config_file models/{name}/{INFERENCE.as_posix()}" in x for x in lines)
        terms = (folder / LICENSE).read_text(encoding="utf-8")
        assert (MODELS.parent / "LICENSE").read_text(encoding="utf-8").strip() in terms
        assert "CC BY 3.0" in terms or "Attribution 3.0" in terms
        collections = re.findall(r"doi:(10\.[^;,)\s]+)", load_card(folder).attribution)
        assert collections
        assert [doi for doi in collections if doi.lower() not in terms.lower()] == []
        assert "Cancer Imaging Archive" in (folder / "docs/data_license.txt").read_text(encoding="utf-8")


class TestWritten:
    """What training, evaluation and `models add` write with the same function."""

    @pytest.mark.parametrize("system", SYSTEMS)
    def test_it_is_valid_for_every_system(self, system: str, tmp_path: Path) -> None:
        folder = install_bundle(tmp_path, system)
        verify_metadata(str(folder / METADATA), filepath=SCHEMA_COPY)
        assert parser_of(folder).get_parsed_content("network") is not None
        workflow = create_workflow(
            config_file=str(folder / INFERENCE), workflow_type="infer", bundle_root=str(folder)
        )
        assert workflow.check_properties() == []

    @pytest.mark.parametrize(
        ("change", "problem"),
        [({"task": None}, "task"), ({"network_data_format": {}}, "network_data_format")],
    )
    def test_what_is_not_valid_is_found(self, own: Path, change: dict[str, Any], problem: str) -> None:
        (own / METADATA).write_text(json.dumps({**read(own / METADATA), **change}))
        with pytest.raises(
            ValueError, match=f"(?s){problem}.*against schema|Failed validating.*against schema"
        ):
            verify_metadata(str(own / METADATA), filepath=SCHEMA_COPY)

    def test_new_facts_go_into_both_and_peoples_words_stay(self, own: Path) -> None:
        metadata = {**read(own / METADATA), "task": "as a person wrote it", "changelog": {"0.2.0": "more"}}
        (own / METADATA).write_text(json.dumps(metadata))
        section = {**load_card(own).section, "attributes": ["lesion"]}
        update_card(own, figures={"error_hu": 3.0}, title="Tinier", section=section)
        written = read(own / METADATA)
        assert written["task"] == "as a person wrote it"
        assert written["changelog"] == {"0.2.0": "more"}
        assert (written["name"], written["eval_metrics"]) == ("Tinier", {"error_hu": 3.0})
        assert written["network_data_format"]["inputs"]["attributes"]["num_channels"] == 2
        assert read(own / INFERENCE)["network_def"]["config"]["attributes"] == 1
        assert load_card(own).title == "Tinier"


class TestWeights:
    def test_missing_ones_are_said_to_be(self, own: Path) -> None:
        (own / WEIGHTS).unlink()
        with pytest.raises(WeightsError, match="the weights of 'tiny' are missing"):
            with_weights(torch.nn.Identity(), str(own), "tiny")

    def test_damaged_ones_are_refused(self, own: Path) -> None:
        (own / WEIGHTS).write_bytes((own / WEIGHTS).read_bytes()[:-1] + b"x")
        with pytest.raises(WeightsError, match="SHA-256"):
            with_weights(torch.nn.Identity(), str(own), "tiny")

    def test_another_network_is_refused(self, own: Path) -> None:
        with pytest.raises(WeightsError, match="do not fit"):
            with_weights(torch.nn.Identity(), str(own), "tiny")

    def test_another_bundle_is_refused(self, own: Path) -> None:
        with pytest.raises(InvalidRequest, match=r"is 'tiny', this config is of 'other'.*--bundle_root"):
            with_weights(torch.nn.Identity(), str(own), "other")

    def test_no_bundle_is_said_to_be_none(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="no bundle in"):
            with_weights(torch.nn.Identity(), str(tmp_path), "tiny")


def converted(folder: Path) -> Path:
    """What a user of MONAI's own loaders does once, in his own copy."""
    torch.save(load_file(folder / WEIGHTS), folder / "models" / "model.pt")
    return folder


class TestLoaders:
    def test_monai_label_finds_the_folder(self, own: Path) -> None:
        conf = {"models": own.name, "zoo_source": "local"}
        assert get_bundle_models(str(own.parents[1]), conf) == {own.name: str(own)}

    def test_monai_label_opens_it(self, own: Path) -> None:
        """Its constants let a caller say what weights are called; it reads no safetensors by itself."""
        label = label_loader()
        names = label.BundleConstants()
        names.model_pytorch = lambda: WEIGHTS.name
        task = label.BundleInferTask(str(own), {}, const=names)
        assert task.is_valid()
        assert task.info()["version"] == "0.1.0"
        assert task.description == load_card(own).makes
        assert task.network.state_dict().keys() == load_file(own / WEIGHTS).keys()
        assert (task.key_image, task.key_pred, task.dimension) == ("image", "pred", 3)

    def test_monai_label_by_itself_wants_a_pickle(self, own: Path) -> None:
        label = label_loader()
        assert not label.BundleInferTask(str(own), {}).is_valid()
        task = label.BundleInferTask(str(converted(own)), {}, load_strict=True)
        assert task.is_valid()
        wanted = load_file(own / WEIGHTS)
        loaded = task._get_network("cpu", {}).state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in loaded.items())

    def test_monai_loads_it_once_converted(self, own: Path) -> None:
        bundles = {"bundle_dir": converted(own).parent, "workflow_type": "inference", "device": "cpu"}
        loaded = load(own.name, **bundles).state_dict()
        wanted = load_file(own / WEIGHTS)
        assert all(torch.equal(value, wanted[name]) for name, value in loaded.items())
