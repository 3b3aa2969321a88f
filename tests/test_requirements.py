"""The locked set: complete, exact, the same as what is installed, and naming what we import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
OURS = {"lesionbrush", "LesionBrushLib", "main"}
CHOSEN_BY_TORCH = re.compile(r"(nvidia|cuda)-.*|triton")
DISTRIBUTION = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}  # where the module's name is not the distribution's
SLICER_BRINGS = {"slicer", "qt", "ctk", "vtk", "SampleData"}


def pins(name: str) -> list[Requirement]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def group(name: str, title: str) -> set[str]:
    """The distributions of one '# ---' group of a requirements file."""
    text = (REPOSITORY / name).read_text(encoding="utf-8").split(f"# --- {title}")[1].split("# ---")[0]
    return set(re.findall(r"(?m)^([a-z0-9-]+)==", text))


LOCKED = {canonicalize_name(pin.name): pin for pin in pins("requirements.txt")}
LOCKED_FOR_DEVELOPMENT = {
    canonicalize_name(pin.name): pin
    for name in ("requirements-dev.txt", "requirements-ray.txt")
    for pin in pins(name)
}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt", "requirements-ray.txt"])
def test_every_line_is_one_exact_version_from_the_usual_index(file: str) -> None:
    for pin in pins(file):
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), f"{pin} is not pinned"
        assert pin.url is None
    names = [pin.name for pin in pins(file)]
    assert len(names) == len(set(names))


def test_nothing_is_locked_twice() -> None:
    assert not LOCKED.keys() & LOCKED_FOR_DEVELOPMENT.keys()


def test_the_versions_mona_label_cannot_do_without() -> None:
    version = {name: Version(str(pin.specifier).removeprefix("==")) for name, pin in LOCKED.items()}
    assert version["monailabel"] == Version("0.8.5")
    assert version["numpy"] < Version("2"), "pydicom-seg and numpymaxflow need numpy 1"
    assert Version("2.4.4") <= version["pydicom"] < Version("3"), "pydicom-seg needs pydicom 2"


def needed_by(roots: set[str]) -> Iterator[tuple[str, str]]:
    """(distribution, who asks for it) for everything the installed metadata ask for, on this machine."""
    queue = [(root, "") for root in sorted(roots)]
    seen = set(queue)
    while queue:
        name, extra = queue.pop()
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
                continue
            child = canonicalize_name(wanted.name)
            yield child, name
            new = {(child, one) for one in ("", *wanted.extras)} - seen
            if not CHOSEN_BY_TORCH.fullmatch(child):
                queue += sorted(new)
                seen |= new


def test_the_lock_is_complete_and_holds_nothing_else() -> None:
    direct = group("requirements.txt", "what this project imports itself") | {"setuptools"}
    needed = dict(needed_by(direct))
    assert {n: by for n, by in needed.items() if n not in LOCKED and not CHOSEN_BY_TORCH.fullmatch(n)} == {}
    here = {name for name, pin in LOCKED.items() if pin.marker is None or pin.marker.evaluate()}
    assert here - needed.keys() - direct - {"greenlet"} == set()  # greenlet: SQLAlchemy, on some processors


def test_the_development_lock_is_complete() -> None:
    direct = LOCKED_FOR_DEVELOPMENT.keys()
    missing = set(dict(needed_by(set(direct)))) - direct - LOCKED.keys()
    assert missing == set()


def test_what_is_installed_is_what_is_locked() -> None:
    other = {}
    for name, pin in (LOCKED | LOCKED_FOR_DEVELOPMENT).items():
        if pin.marker is None or pin.marker.evaluate():
            installed = metadata.version(name)
            if not pin.specifier.contains(installed, prereleases=True):
                other[name] = installed
    assert other == {}


def imported() -> set[str]:
    """The top-level modules that the app and the Slicer module import, without the standard library."""
    files = [file for root in ("app", "slicer_module") for file in (REPOSITORY / root).rglob("*.py")]
    found: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found - OURS - SLICER_BRINGS - set(sys.stdlib_module_names)


def test_what_we_import_is_named_as_ours() -> None:
    used = {canonicalize_name(DISTRIBUTION.get(name, name)) for name in imported()}
    at_will = {"ray", "torchio", "transformers"}
    assert used - at_will <= group("requirements.txt", "what this project imports itself")
