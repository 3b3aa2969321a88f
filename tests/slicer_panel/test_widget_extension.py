"""What 3D Slicer's ExtensionsIndex asks of a repository, and what its build needs; the rules written out."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lesionbrush.files.io import read_volume
from lesionbrush.phantom.chest import chest_phantom
from LesionBrushLib.panel import sample_data
from panel_kit import MODULE, REPOSITORY
from PIL import Image

CATEGORIES = {"Active Learning", "Segmentation", "Simulation"}  # some of those the index accepts
LICENCES = ("LICENSE", "LICENCE", "LICENSE.txt", "COPYING")
MEGABYTE = 1_000_000


def problems(cmake: str, name: str) -> list[str]:
    """What the index's own check would say of a root CMakeLists.txt, without fetching the pictures."""
    found = []
    project = re.findall(r"project\s*\(\s*([^\s)]+)", cmake, re.IGNORECASE)
    if not project or project[0].strip("\"'") != name:
        found.append("the name of the project is not that of the description file")
    icon = re.findall(r'set\s*\(EXTENSION_ICONURL\s*"([^"]+)"[ ]*\)', cmake, re.IGNORECASE)
    if not icon or not icon[0].startswith("http"):
        found.append("EXTENSION_ICONURL is no quoted address")
    shots = re.findall(r'set\s*\(EXTENSION_SCREENSHOTURLS\s*"([^"]+)"\)', cmake, re.IGNORECASE)
    if not shots or not all(url.startswith("http") for url in shots[0].split()):
        found.append("EXTENSION_SCREENSHOTURLS are no quoted addresses")
    return found


@pytest.fixture
def cmake() -> str:
    return (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")


def test_the_root_cmakelists_passes_the_index(cmake: str) -> None:
    assert problems(cmake, "LesionBrush") == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("project(LesionBrush)", "project(SlicerLesionBrush)", "the name of the project"),
        ("set(EXTENSION_ICONURL", "set(NO_ICON", "EXTENSION_ICONURL"),
        ('set(EXTENSION_SCREENSHOTURLS "http', 'set(EXTENSION_SCREENSHOTURLS "${HOME}', "SCREENSHOTURLS"),
    ],
)
def test_the_rules_can_say_no(cmake: str, old: str, new: str, words: str) -> None:
    assert old in cmake
    assert words in " ".join(problems(cmake.replace(old, new), "LesionBrush"))


def test_the_description_file() -> None:
    entry = json.loads((REPOSITORY / "slicer_module" / "LesionBrush.json").read_text(encoding="utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert entry["category"] in CATEGORIES
    repository = entry["scm_url"].rpartition("/")[2].removesuffix(".git")
    assert "slicer" in repository.lower()
    assert entry["scm_url"].startswith(("https://", "git://"))
    assert not "LesionBrush".lower().startswith("slicer")


def test_the_pictures_it_names_are_in_the_repository(cmake: str) -> None:
    urls = re.findall(r'"(https?://[^"]*\.png[^"]*)"', cmake)
    paths = [url.partition("/SlicerLesionBrush/")[2] for line in urls for url in line.split()]
    assert len(paths) == 3
    assert [path for path in paths if not (REPOSITORY / path).is_file()] == []


def test_a_licence_is_in_the_root_and_the_repository_is_small() -> None:
    assert any((REPOSITORY / name).is_file() for name in LICENCES)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    size = sum(
        (REPOSITORY / name).stat().st_size for name in listed if name and (REPOSITORY / name).is_file()
    )
    assert size < 178 * MEGABYTE  # most of it weights, 23 of them of two models that are there to be compared


def test_every_file_is_listed_for_the_build() -> None:
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^  ((?:[\w/]+)\.(?:py|png|ui|nii\.gz))$", text, re.MULTILINE)
    there = [*MODULE.glob("*.py"), *(MODULE / "LesionBrushLib").rglob("*.py")]
    there += [path for path in (MODULE / "Resources").rglob("*.*") if path.suffix != ".py" and path.is_file()]
    names = {path.relative_to(MODULE).as_posix() for path in there}
    assert sorted(listed) == sorted(names)


def test_the_icon() -> None:
    with Image.open(MODULE / "Resources" / "Icons" / "LesionBrush.png") as icon:
        assert (icon.size, icon.format) == ((128, 128), "PNG")
        assert np.asarray(icon)[..., :3].std() > 30  # not blank


def test_the_sample_ct_is_the_projects_phantom() -> None:
    shipped = read_volume(sample_data.PHANTOM)
    made = chest_phantom(0, (160, 160, 80), (2.08, 2.08, 3.2)).volume
    assert shipped.shape == made.shape
    assert np.allclose(shipped.affine, made.affine, atol=1e-4)
    difference = np.abs(shipped.array.astype(int) - made.array.astype(int))
    assert difference.max() <= 2  # versions of numpy and scipy round differently
    assert sample_data.PHANTOM.stat().st_size < 3 * MEGABYTE


class Registered(list):
    """SampleData.SampleDataLogic, as far as registering goes."""

    def module(self) -> Any:
        module = ModuleType("SampleData")
        logic = SimpleNamespace(registerCustomSampleDataSource=lambda **given: self.append(given))
        module.SampleDataLogic = logic  # type: ignore[attr-defined]
        return module


def test_sample_data_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = Registered()
    monkeypatch.setitem(sys.modules, "SampleData", registered.module())
    assert sample_data.register()
    (given,) = registered
    assert given["uris"].startswith("file:")
    digest = hashlib.sha256(sample_data.PHANTOM.read_bytes()).hexdigest()
    assert given["checksums"] == f"SHA256:{digest}"
    assert Path(given["thumbnailFileName"]).is_file()


def test_a_copy_without_the_phantom_registers_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registered = Registered()
    monkeypatch.setitem(sys.modules, "SampleData", registered.module())
    monkeypatch.setattr(sample_data, "PHANTOM", tmp_path / "gone.nii.gz")
    assert not sample_data.register()
    assert registered == []


def test_the_module_is_python_3_9_and_asks_only_for_what_slicer_has() -> None:
    bundled = {
        "numpy",
        "requests",
        "vtk",
        "slicer",
        "qt",
        "ctk",
        "SampleData",
        "LesionBrushLib",
        "certifi",
        "urllib3",
    }
    for path in [*MODULE.glob("*.py"), *(MODULE / "LesionBrushLib").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            strange = {name.partition(".")[0] for name in names} - bundled - set(sys.stdlib_module_names)
            assert not strange, (path.name, strange)


def test_only_the_entry_is_a_module_for_slicer() -> None:
    """Slicer takes every .py beside it whose text names that base class."""
    modules = [path.name for path in MODULE.glob("*.py") if "ScriptedLoadableModule" in path.read_text()]
    assert modules == ["LesionBrush.py"]
