"""The layer laws: who may import whom, and how long a file or a function may get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = ("app", "slicer_module/LesionBrush")
MAX_FILE_LINES = 400
"""What is read in one sitting; at 300 it cut single ideas in two."""
MAX_FUNCTION_LINES = 60

SERVERS = {"monailabel", "fastapi", "starlette", "uvicorn"}
SLICER = {"slicer", "qt", "ctk", "vtk", "mrml"}


@dataclass(frozen=True)
class Law:
    """What modules below `where`, but not below `unless`, import: nothing of `never`; nothing outside `only`.

    All names are dotted prefixes of modules. `only` always includes the standard library; None allows all.
    """

    where: tuple[str, ...]
    never: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    unless: tuple[str, ...] = ()

    def binds(self, module: str) -> bool:
        return below(module, self.where) and not below(module, self.unless)

    def forbids(self, imported: str) -> bool:
        if below(imported, self.never):
            return True
        known = self.only is None or below(imported, self.only) or below(imported, sys.stdlib_module_names)
        return not known


OUTER = ("lesionbrush.server", "lesionbrush.cli", "lesionbrush.training", "lesionbrush.evaluation")
CORE = frozenset(
    {"numpy", "scipy", "pydantic", "lesionbrush.core", "lesionbrush.errors", "lesionbrush.__version__"}
)
SHARED = ("contract", "running", "bundling", "slab", "kept", "med_unet")
"""Of `systems/`, what stands once for all."""
FOLDERS = sorted(path.parent.name for path in (REPOSITORY / "app/lesionbrush/systems").glob("*/__init__.py"))


def others(folder: str) -> frozenset[str]:
    """The systems that one must not know."""
    return frozenset(f"lesionbrush.systems.{name}" for name in FOLDERS if name != folder)


CLIENT, LOGIC, PANEL = (f"LesionBrushLib.{name}" for name in ("client", "logic", "panel"))
SENDERS = {"requests", f"{CLIENT}.jobs", f"{CLIENT}.stock", f"{CLIENT}.transport", f"{CLIENT}.JobClient"}


def server(*parts: str) -> frozenset[str]:
    return frozenset(f"lesionbrush.server.{part}" for part in parts)


LAWS = {
    "only the server and app/main.py know web frameworks and MONAI Label": Law(
        ("lesionbrush", "LesionBrushLib", "LesionBrush"),
        never=frozenset(SERVERS),
        unless=("lesionbrush.server",),
    ),
    "the server package never imports Slicer, and nothing else in the app does": Law(
        ("lesionbrush", "main"),
        never=frozenset(SLICER | {"LesionBrushLib", "LesionBrush"}),
        unless=("lesionbrush.cli",),
    ),
    "the core knows no system, no file format and no torch": Law(
        ("lesionbrush.core",), only=CORE, unless=("lesionbrush.core.hu",)
    ),
    "HU windows are for numpy and for torch, which they do not load": Law(
        ("lesionbrush.core.hu",), only=frozenset({"numpy", "torch.Tensor"})
    ),
    "files stand on the core": Law(
        ("lesionbrush.files",),
        never=frozenset(
            {"lesionbrush.systems", "lesionbrush.diffusion", "lesionbrush.anatomy", *OUTER, "torch"}
        ),
    ),
    "anatomy stands on the core": Law(
        ("lesionbrush.anatomy",),
        only=frozenset({"skimage", "SimpleITK", "nibabel.orientations", "lesionbrush.anatomy", *CORE}),
    ),
    "masks are carried on the core alone": Law(
        ("lesionbrush.transfer",), only=frozenset({"lesionbrush.transfer", *CORE})
    ),
    "cohorts know no server, no command and no evaluation, and load torch where a model is used": Law(
        ("lesionbrush.cohorts",), never=frozenset({*OUTER, *SERVERS, "torch"})
    ),
    "what makes lesions in a training loop knows no server, no command and no evaluation": Law(
        ("lesionbrush.augment", "lesionbrush.monai", "lesionbrush.torchio"),
        never=frozenset({*OUTER, *SERVERS}),
    ),
    "systems know no server and no command": Law(
        ("lesionbrush.systems",), never=frozenset({"lesionbrush.server", "lesionbrush.cli"})
    ),
    "systems know no evaluation, but for what they measure of themselves": Law(
        ("lesionbrush.systems",),
        never=frozenset({"lesionbrush.evaluation"}),
        unless=tuple(f"lesionbrush.systems.{folder}.evaluation" for folder in FOLDERS),
    ),
    "what systems share knows none of them": Law(
        tuple(f"lesionbrush.systems.{name}" for name in SHARED), never=others("")
    ),
    "the server does not train": Law(
        ("lesionbrush.server", "main"), never=frozenset({"lesionbrush.training", "lesionbrush.evaluation"})
    ),
    "the doors stand before everything else of the server": Law(
        ("lesionbrush.server.doors",),
        never=server("jobs", "storage", "synthesis", "http", "stock", "archive", "operation"),
    ),
    "jobs know neither HTTP nor what the work is": Law(
        ("lesionbrush.server.jobs",),
        never=server("doors", "storage", "synthesis", "http", "stock", "archive", "operation") | SERVERS,
    ),
    "storage knows neither jobs nor routes": Law(
        ("lesionbrush.server.storage",),
        never=server("jobs", "synthesis", "http", "stock", "archive", "operation"),
    ),
    "what synthesizes knows no routes": Law(
        ("lesionbrush.server.synthesis",), never=server("http", "stock", "archive")
    ),
    "diffusion knows torch and itself": Law(
        ("lesionbrush.diffusion",), only=frozenset({"torch", "lesionbrush.diffusion"})
    ),
    "what lists models and checks requests needs no torch": Law(
        (
            "lesionbrush.core.registry",
            "lesionbrush.core.request",
            "lesionbrush.errors",
            "lesionbrush.core.volume",
        ),
        never=frozenset({"torch", "monai", "torchvision"}),
    ),
    "the Slicer side imports neither the server's package nor torch": Law(
        ("LesionBrush", "LesionBrushLib"), never=frozenset({"lesionbrush", "torch", "monai"})
    ),
    "the client needs requests and numpy": Law((CLIENT,), only=frozenset({"requests", "numpy", CLIENT})),
    "the logic needs what every 3D Slicer has, knows no Qt, and sends nothing": Law(
        (LOGIC,), only=frozenset({"slicer", "vtk", "numpy", CLIENT, LOGIC}), never=frozenset(SENDERS)
    ),
    "the panel stands on the logic and the client, and asks the server through it": Law(
        (PANEL,), only=frozenset({"qt", "ctk", "slicer", "vtk", "numpy", "SampleData", CLIENT, LOGIC, PANEL})
    ),
}


def below(module: str, prefixes: Iterable[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def sources(repository: Path) -> Iterator[tuple[str, Path]]:
    """(module name, file) of every source file."""
    for root in (repository / name for name in SOURCE_ROOTS):
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), file


def imports(module: str, file: Path) -> set[str]:
    """Every module a file names in an import, inside functions too, in full: `from a import b` gives a.b."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    kept = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*kept, *filter(None, [node.module])])


def violations(repository: Path) -> list[str]:
    return [
        f"{module} imports {imported}: {name}"
        for module, file in sources(repository)
        for imported in sorted(imports(module, file))
        for name, law in LAWS.items()
        if law.binds(module) and law.forbids(imported)
    ]


def too_long(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    found = [f"{file.name} has {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{file.name}: {node.name} has {length} lines")
    return found


def test_every_layer_keeps_its_law() -> None:
    assert violations(REPOSITORY) == []


def test_no_file_and_no_function_is_too_long() -> None:
    files = [file for _, file in sources(REPOSITORY)]
    files += [REPOSITORY / "run.py", REPOSITORY / "get_python.py", *(REPOSITORY / "tests").rglob("*.py")]
    assert [problem for file in files for problem in too_long(file)] == []


@pytest.fixture
def tree(tmp_path: Path):
    """Writes one file of a made-up repository and returns what the laws say of it."""

    def write(path: str, text: str) -> list[str]:
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
        return violations(tmp_path)

    return write


LIB = "slicer_module/LesionBrush/LesionBrushLib"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("app/lesionbrush/core/synthesize.py", "import monailabel.app"),
        ("app/lesionbrush/core/synthesize.py", "from ..server import task"),
        ("app/lesionbrush/core/synthesize.py", "from lesionbrush import server"),
        ("app/lesionbrush/files/io.py", "from ..training.loop import fit"),
        ("app/lesionbrush/files/io.py", "from ..systems import find_system"),
        ("app/lesionbrush/core/lesions.py", "from ..systems.running import pick_device"),
        ("app/lesionbrush/core/lesions.py", "from lesionbrush.files.io import read_volume"),
        ("app/lesionbrush/core/lesions.py", "import nibabel"),
        ("app/lesionbrush/core/hu.py", "import torch"),
        ("app/lesionbrush/anatomy/lungs.py", "from ..systems import mddpm"),
        ("app/lesionbrush/systems/mddpm/slices.py", "from lesionbrush.server import jobs"),
        ("app/lesionbrush/systems/mddpm/slices.py", "from lesionbrush.evaluation.cases import Nodule"),
        ("app/lesionbrush/systems/running.py", "from lesionbrush.systems.mddpm import slices"),
        ("app/lesionbrush/files/io.py", "def read():\n    import slicer"),
        ("app/lesionbrush/cli/serve.py", "import uvicorn"),
        ("app/lesionbrush/cli/serve.py", "from fastapi import FastAPI"),
        ("app/lesionbrush/diffusion/samplers.py", "import numpy as np"),
        ("app/lesionbrush/diffusion/samplers.py", "from lesionbrush.core.hu import HUWindow"),
        ("app/lesionbrush/diffusion/__init__.py", "from .. import volume"),
        ("app/lesionbrush/core/registry.py", "import torch"),
        ("app/lesionbrush/core/request.py", "from monai.utils import set_determinism"),
        ("app/lesionbrush/core/volume.py", "import importlib\nimportlib.import_module('torch')"),
        ("app/lesionbrush/server/synthesis/task.py", "from lesionbrush.training import train"),
        ("app/lesionbrush/server/doors/gate.py", "from lesionbrush.server.storage import vault"),
        ("app/lesionbrush/server/jobs/board.py", "from fastapi import Request"),
        ("app/lesionbrush/server/storage/vault.py", "from lesionbrush.server.jobs.board import Jobs"),
        ("app/lesionbrush/server/synthesis/stored.py", "from ..http import wire"),
        ("app/main.py", "import lesionbrush.training"),
        ("app/lesionbrush/transfer/carry.py", "from lesionbrush.files.layouts import read_layout"),
        ("app/lesionbrush/transfer/carry.py", "from ..systems import load_model"),
        ("app/lesionbrush/transfer/patients.py", "import torch"),
        ("app/lesionbrush/cohorts/making.py", "from lesionbrush.cli.outputs import require_room"),
        ("app/lesionbrush/cohorts/making.py", "from ..evaluation import measures"),
        ("app/lesionbrush/monai/__init__.py", "from lesionbrush.training.loop import fit"),
        ("app/main.py", "from LesionBrushLib import client"),
        (f"{LIB}/logic/logic.py", "from lesionbrush.core.volume import Volume"),
        (f"{LIB}/logic/logic.py", "import torch.nn"),
        (f"{LIB}/logic/logic.py", "import qt"),
        (f"{LIB}/logic/compare.py", "import scipy"),
        (f"{LIB}/logic/compare.py", "from ..panel import session"),
        (f"{LIB}/logic/logic.py", "from ..client.jobs import JobClient"),
        (f"{LIB}/logic/logic.py", "from ..client import JobClient"),
        (f"{LIB}/client/stock.py", "import SimpleITK"),
        (f"{LIB}/client/stock.py", "import slicer"),
        (f"{LIB}/client/stock.py", "from ..logic.voxels import Grid"),
        (f"{LIB}/panel/session.py", "import requests"),
        (f"{LIB}/panel/session.py", "import lesionbrush.systems.lesion_inpainting.request"),
    ],
)
def test_a_broken_law_is_found(tree, path: str, text: str) -> None:
    assert tree(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "app/lesionbrush/server/synthesis/task.py",
            "import fastapi\nfrom monailabel.app import app\nimport lesionbrush.files.io",
        ),
        (
            "app/lesionbrush/synthesize.py",
            "import torch\nfrom . import volume\nfrom .diffusion import samplers",
        ),
        (
            "app/lesionbrush/diffusion/samplers.py",
            "import math\nimport torch.nn\nfrom .schedules import linear",
        ),
        (
            "app/lesionbrush/cli/demo.py",
            "from LesionBrushLib.client import Client\nimport lesionbrush.phantom.chest",
        ),
        ("app/lesionbrush/bundles/configs.py", "import torchless_cards"),
        (
            "app/lesionbrush/transfer/carry.py",
            "import scipy.ndimage\nfrom ..core.volume import Volume\nfrom .plan import CarryPlan",
        ),
        (
            f"{LIB}/client/stock.py",
            "import json\nimport numpy as np\nimport requests\nfrom .wire import Body",
        ),
        (f"{LIB}/logic/logic.py", "import slicer\nimport vtk\nfrom ..client.boxes import Box"),
        (f"{LIB}/panel/session.py", "import qt\nfrom ..client import JobClient\nfrom ..logic import Problem"),
    ],
)
def test_a_kept_law_is_not_reported(tree, path: str, text: str) -> None:
    assert tree(path, text) == []


def test_a_long_file_and_a_long_function_are_found(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text("def long():\n" + "    pass\n" * MAX_FILE_LINES, encoding="utf-8")
    assert len(too_long(file)) == 2
    file.write_text("def longest():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1), encoding="utf-8")
    assert too_long(file) == []


def loaded_by(module: str) -> set[str]:
    """The top-level modules a fresh Python has loaded after importing one."""
    program = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    path = "\n".join(f"sys.path.insert(0, {str(REPOSITORY / root)!r})" for root in SOURCE_ROOTS)
    program = f"import sys\n{path}\n{program}"
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "name",
    ["core.generate", "core.synthesize", "errors", "files.io", "systems.contract", "transfer.patients"],
)
def test_importing_it_loads_no_torch(name: str) -> None:
    assert not loaded_by(f"lesionbrush.{name}") & {"torch", "monai", "monailabel", "fastapi"}


def test_listing_the_systems_loads_no_torch() -> None:
    loaded = loaded_by("lesionbrush.systems; lesionbrush.systems.list_systems()")
    assert "pydantic" in loaded
    assert not loaded & {"torch", "monai", "monailabel", "fastapi"}


def test_importing_the_client_loads_neither_slicer_nor_the_server() -> None:
    strangers = SLICER | SERVERS | {"torch", "lesionbrush", "scipy", "SimpleITK", "nibabel", "pydantic"}
    assert not loaded_by("LesionBrushLib.client") & strangers


def test_what_is_loaded_is_really_seen() -> None:
    assert {"numpy", "lesionbrush"} <= loaded_by("numpy, lesionbrush")
