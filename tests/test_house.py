"""The plan of the house: a system is a folder, the core names none, no module is another's old name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_layers import FOLDERS, REPOSITORY, below, imports, others, sources

LENT = {"mddpm": ("lesion_inpainting.network", "lesion_inpainting.card", "lesion_inpainting.bundle")}
"""What a system takes from another one: mDDPM in 3D asks the network of lesion inpainting, untold."""
LEARNED_FROM = (
    "lesion_inpainting.data",
    "lesion_inpainting.attributes",
    "lesion_inpainting.pack",
    "lesion_inpainting.soft_tissue.data",
    "lesion_inpainting.soft_tissue.pack",
)
"""Nodules, lungs, tumours and bodies that several systems are trained with."""


def acquaintances(repository: Path) -> list[str]:
    """Where a system imports another one, apart from what it lends."""
    found = []
    for module, file in sources(repository):
        for folder in FOLDERS:
            if not below(module, (f"lesionbrush.systems.{folder}",)):
                continue
            lent = [f"lesionbrush.systems.{name}" for name in (*LENT.get(folder, ()), *LEARNED_FROM)]
            known = [name for name in imports(module, file) if below(name, others(folder))]
            found += [f"{module} imports {name}" for name in known if not below(name, lent)]
    return found


def systems_named(file: Path) -> list[str]:
    """Words of a file, outside its sentences, that name a system or what one is about."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    sentences = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words: list[str] = []
    for node in ast.walk(tree):
        fields = {name: value for name, value in ast.iter_fields(node) if isinstance(value, str)}
        words += [value for name, value in fields.items() if name in ("id", "attr", "arg", "name")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in sentences:
            words += [node.value]
    named = re.compile("|".join([*FOLDERS, r"(?<![a-z])lungs?(?![a-z])", "inpaint", "pathology"]))
    joint = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
    return [word for word in words if named.search(joint.sub("_", word).lower())]


def only_passes_on(file: Path) -> bool:
    """Whether a module has imports alone: another name for what stands elsewhere."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    rest = [node for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    own = [node for node in rest if not isinstance(node, ast.Expr) and not _is_all(node)]
    return len(rest) < len(body) and not own


def names_of_two(repository: Path) -> dict[str, list[str]]:
    """Names of classes of the app that stand for more than one thing, and the modules that say so."""
    found: dict[str, list[str]] = {}
    for module, file in sources(repository):
        if not below(module, ("lesionbrush",)):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def test_systems_do_not_know_each_other() -> None:
    assert acquaintances(REPOSITORY) == []


def test_the_core_names_no_system() -> None:
    core = REPOSITORY / "app/lesionbrush/core"
    assert {file.name: found for file in core.rglob("*.py") if (found := systems_named(file))} == {}


def test_no_module_only_passes_on_what_stands_elsewhere() -> None:
    files = [file for _, file in sources(REPOSITORY) if file.name != "__init__.py"]
    assert [file.name for file in files if only_passes_on(file)] == []


def test_a_class_name_stands_for_one_thing() -> None:
    assert names_of_two(REPOSITORY) == {}


def test_the_root_of_the_package_holds_little() -> None:
    root = REPOSITORY / "app/lesionbrush"
    assert sorted(file.name for file in root.glob("*.py")) == ["__init__.py", "errors.py", "montage.py"]


def test_a_system_that_knows_another_is_found(tmp_path: Path) -> None:
    for folder in ("mddpm", "lung_ddpm"):
        file = tmp_path / f"app/lesionbrush/systems/{folder}/model.py"
        file.parent.mkdir(parents=True)
        file.write_text("from lesionbrush.systems.lesion_inpainting import network, laws", encoding="utf-8")
    own = "lesionbrush.systems"
    assert sorted(acquaintances(tmp_path)) == [
        f"{own}.lung_ddpm.model imports {own}.lesion_inpainting.laws",
        f"{own}.lung_ddpm.model imports {own}.lesion_inpainting.network",
        f"{own}.mddpm.model imports {own}.lesion_inpainting.laws",
    ]


@pytest.mark.parametrize(
    "text",
    ["lungs = 1", "def find(lung_mask): ...", "x.pathology", "NAMES = ['mddpm']", "class LungDDPM: ..."],
)
def test_a_core_that_names_a_system_is_found(tmp_path: Path, text: str) -> None:
    file = tmp_path / "core.py"
    file.write_text(f'"""A sentence about lungs is none."""\n{text}\n', encoding="utf-8")
    assert systems_named(file)
    file.write_text('"""A sentence about lungs is none."""\nplunge = "lungee"\n', encoding="utf-8")
    assert not systems_named(file)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from a import b", True),
        ('"""For the old path."""\nfrom a import b\n__all__ = ["b"]', True),
        ("from a import b\nc = b", False),
        ('"""A package."""', False),
    ],
)
def test_a_module_that_only_passes_on_is_found(tmp_path: Path, text: str, found: bool) -> None:
    file = tmp_path / "old.py"
    file.write_text(text, encoding="utf-8")
    assert only_passes_on(file) is found


def test_a_class_name_of_two_things_is_found(tmp_path: Path) -> None:
    for folder in ("app/lesionbrush/core", "app/lesionbrush/systems/mddpm", "slicer_module/LesionBrush"):
        file = tmp_path / folder / "grid.py"
        file.parent.mkdir(parents=True)
        file.write_text(f"class Grid: ...\nclass {file.parent.name.title()}Grid: ...\n", encoding="utf-8")
    assert names_of_two(tmp_path) == {"Grid": ["lesionbrush.core.grid", "lesionbrush.systems.mddpm.grid"]}
