"""The client in the Pythons that 3D Slicer brings: 3.9 to 3.12."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from LesionBrushLib import client
from test_layers import imports

CLIENT = Path(client.__file__).parent
MODULE = CLIENT.parents[1]
PYTHONS = ("3.9", "3.10", "3.11", "3.12")
WITHOUT_PACKAGES = """
import sys, types
from unittest.mock import MagicMock

class Package(MagicMock):
    __path__ = []

assert sys.version_info[:2] == {version}, sys.version
for name in ("numpy", "requests"):
    try:
        __import__(name)
    except ImportError:
        fake = Package(name=name)
        fake.__spec__ = None
        if name == "requests":
            fake.exceptions = types.SimpleNamespace(
                **{{kind: type(kind, (OSError,), {{}}) for kind in
                   ("InvalidURL", "MissingSchema", "InvalidSchema", "SSLError")}})
        sys.modules[name] = fake
sys.path.insert(0, {module!r})
import typing
from LesionBrushLib import client
for name in client.__all__:
    kind = getattr(client, name)
    if isinstance(kind, type):
        typing.get_type_hints(kind)
        for method in vars(kind).values():
            if isinstance(method, types.FunctionType) and kind.__name__ != "JobFailed":
                typing.get_type_hints(method)
print("fine")
"""


def foreign(file: Path) -> set[str]:
    """Modules that are neither of the client, nor of Python, nor one of the two packages it may use."""
    names = imports(f"LesionBrushLib.client.{file.stem}", file)
    ours = {name for name in names if name.startswith("LesionBrushLib.client.")}
    return {name.partition(".")[0] for name in names - ours} - sys.stdlib_module_names - {"requests", "numpy"}


def problems(source: str) -> Iterator[str]:
    """What Python 3.9 cannot read, or evaluate when it imports this."""
    tree = ast.parse(source, feature_version=(3, 9))
    hints = [node.annotation for node in ast.walk(tree) if isinstance(node, (ast.arg, ast.AnnAssign))]
    hints += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    if "from __future__ import annotations" not in source:  # else hints are never evaluated
        yield from (ast.unparse(hint) for hint in hints if hint and "|" in ast.unparse(hint))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg for keyword in call.keywords}
        late = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}}.get(ast.unparse(call.func), set())
        yield from (f"{ast.unparse(call.func)}({name}=...)" for name in sorted(given & late))


def test_the_client_is_python_3_9_with_requests_and_numpy() -> None:
    files = sorted(CLIENT.glob("*.py"))
    assert {"jobs.py", "files.py", "wire.py", "events.py"} <= {file.name for file in files}
    assert [(file.name, list(problems(file.read_text("utf-8")))) for file in files] == [
        (file.name, []) for file in files
    ]
    assert {name for file in files for name in foreign(file)} == set()


def test_all_of_the_module_is_python_3_9() -> None:
    for file in MODULE.rglob("*.py"):
        assert list(problems(file.read_text(encoding="utf-8"))) == [], file.name


@pytest.mark.parametrize(
    "source", ["def f(a: int | None): ...", "zip(a, b, strict=True)", "@dataclass(slots=True)\nclass A: ..."]
)
def test_what_is_newer_is_found(source: str) -> None:
    assert list(problems(source))


def test_newer_syntax_is_found() -> None:
    with pytest.raises(SyntaxError):
        list(problems("match a:\n    case 1: ..."))


def interpreters() -> dict[str, str]:
    """Those that really run: pyenv has a name for every Python of which one is chosen."""
    roots = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"]
    found = {}
    for version in PYTHONS:
        candidates = [
            which(f"python{version}"),
            *(str(p) for r in roots for p in r.glob(f"{version}.*/bin/python")),
        ]
        for candidate in filter(None, candidates):
            said = subprocess.run([candidate, "-c", "print(1)"], capture_output=True, check=False)
            if said.returncode == 0:
                found[version] = candidate
                break
    return found


def test_every_python_that_is_here_imports_it() -> None:
    """Packages it lacks are stood in for; all our own code is read, run and its hints evaluated."""
    found = interpreters()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in {*found, "3.13"}
    for version, python in found.items():
        numbers = tuple(int(part) for part in version.split("."))
        program = WITHOUT_PACKAGES.format(version=numbers, module=str(MODULE))
        run = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        assert run.stdout.strip() == "fine", f"{version}: {run.stderr}"
