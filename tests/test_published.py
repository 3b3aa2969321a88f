"""Added models: what verify and remove say, and the catalogue of what can be added."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adding_kit import LUNG_DDPM, ignore, order
from lesionbrush.core.registry import find_model, list_models, verify_weights
from lesionbrush.errors import InvalidRequest, UnknownModel, WeightsError
from lesionbrush.published.adding import add
from lesionbrush.published.catalogue import CATALOGUE, KnownModel, find_known
from lesionbrush.published.models import (
    PUBLISHED,
    PublishedModel,
    find_published,
    list_published,
    remove,
)
from lesionbrush.systems import list_systems
from pydantic import ValidationError

pytest_plugins = "adding_fixtures"
REPOSITORY = Path(__file__).resolve().parents[1]


class TestInstalled:
    @pytest.fixture
    def model(self, weights: Path, root: Path) -> PublishedModel:
        return add(order(weights), ignore, root)

    def test_verified(self, model: PublishedModel, root: Path) -> None:
        installed = find_model("lung_ddpm_published", root)
        verify_weights(installed)
        content = bytearray(model.weights.read_bytes())
        content[-1] ^= 1
        model.weights.write_bytes(content)
        with pytest.raises(WeightsError, match="the file is damaged"):
            verify_weights(installed)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
    def test_a_damaged_card_is_refused_and_can_be_removed(
        self, model: PublishedModel, root: Path, content: bytes
    ) -> None:
        (model.folder / PUBLISHED).write_bytes(content)
        with pytest.raises(WeightsError, match=r"'lung_ddpm_published' has no valid configs/published\.json"):
            list_published(root)
        remove("lung_ddpm_published", root)
        assert list(root.iterdir()) == []

    def test_removed(self, model: PublishedModel, root: Path) -> None:
        assert remove("lung_ddpm_published", root) > 100_000
        assert list(root.iterdir()) == []
        with pytest.raises(UnknownModel):
            find_published("lung_ddpm_published", root)

    def test_a_link_is_removed_and_not_what_it_points_to(
        self, model: PublishedModel, root: Path, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        model.folder.rename(elsewhere)
        model.folder.symlink_to(elsewhere)
        assert remove("lung_ddpm_published", root) == 0
        assert list(root.iterdir()) == []
        assert (elsewhere / PUBLISHED).is_file()

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../models/lung_ddpm_published", "nobody", "lung_ddpm_published/configs"]
    )
    def test_what_is_no_model_is_not_removed(self, model: PublishedModel, root: Path, name: str) -> None:
        with pytest.raises(UnknownModel):
            remove(name, root)
        assert model.weights.is_file()

    def test_what_ships_is_not_removed(self, root: Path) -> None:
        shipped = root / "lung_lesion"
        shutil.copytree(REPOSITORY / "models" / "lung_lesion" / "configs", shipped / "configs")
        with pytest.raises(InvalidRequest, match="ships with LesionBrush"):
            remove("lung_lesion", root)
        assert (shipped / "configs" / "metadata.json").is_file()

    def test_all_that_ships_is_protected(self) -> None:
        assert all(model.card.shipped for model in list_models(REPOSITORY / "models"))


class TestCatalogue:
    def test_names_are_distinct_and_none_is_a_model_of_ours(self) -> None:
        names = [known.name for known in CATALOGUE]
        assert len(set(names)) == len(names)
        assert not set(names) & {model.card.name for model in list_models(REPOSITORY / "models")}

    def test_what_can_be_added_has_an_architecture_to_check_against(self) -> None:
        addable = {known.architecture for known in CATALOGUE if known.addable}
        assert addable == {name for name, system in list_systems().items() if system.published}

    def test_terms_name_both_licences_and_the_page(self) -> None:
        for known in CATALOGUE:
            assert known.weights_license in known.terms()
            assert known.page in known.terms()
        assert "no right to pass them on" in LUNG_DDPM.terms()

    @pytest.mark.parametrize(
        "change",
        [{"license_remark": ""}, {"page": "http://x.example"}, {"sha256": "1"}, {"architecture": "?"}],
    )
    def test_an_entry_without_its_facts_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            KnownModel.model_validate({**LUNG_DDPM.model_dump(), **change})

    def test_an_unknown_name(self) -> None:
        with pytest.raises(
            UnknownModel, match="can be added are: lung_ddpm_published, lung_ddpm_plus_published"
        ):
            find_known("nobody")

    def test_looking_needs_neither_torch_nor_a_network_library(self) -> None:
        program = (
            f"import sys; sys.path.insert(0, {str(REPOSITORY / 'app')!r})\n"
            "import lesionbrush.published.catalogue, lesionbrush.published.models, json\n"
            "print(json.dumps([name for name in ('torch', 'urllib.request') if name in sys.modules]))"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert json.loads(run.stdout) == []
