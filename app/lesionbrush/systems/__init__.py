"""One folder per published way of making CT, and the one table of them. Imports no torch.

Each folder's package has `SYSTEMS`, its `contract.System`s. More may lie in the folder that the variable
`LESIONBRUSH_SYSTEMS` names: that is code, so it is the admin's to set, and no client can reach it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lesionbrush.core.registry import InstalledModel, verify_weights
from lesionbrush.core.request import BaseRequest, parse
from lesionbrush.errors import WeightsError

if TYPE_CHECKING:
    from lesionbrush.core.inputs import Input
    from lesionbrush.core.provenance import Provenance
    from lesionbrush.systems.contract import Makes, System

FOLDERS = (
    "lesion_inpainting",
    "lung_ddpm",
    "med_ddpm",
    "medsyn",
    "mddpm",
    "palette",
    "semantic",
)
VARIABLE = "LESIONBRUSH_SYSTEMS"
DEFAULT_SYSTEM = "lesion_inpainting"
DEFAULT_MODEL = "lung_lesion"
"""Of records that were written before there were several, which name none."""


def list_systems() -> dict[str, System]:
    """All systems by name, the project's own first. WeightsError for a folder of the admin's without any."""
    return _find(os.environ.get(VARIABLE, ""))


def find_system(name: str) -> System:
    """WeightsError for one that this version does not know."""
    systems = list_systems()
    if name not in systems:
        raise WeightsError(f"system {name!r} is not known; known are {', '.join(systems)}")
    return systems[name]


def system_folder(name: str) -> Path:
    """Where the code of one system stands. WeightsError for one that this version does not know."""
    find_system(name)
    modules = _modules(os.environ.get(VARIABLE, ""))
    return next(Path(str(m.__file__)).parent for m in modules if name in {s.name for s in m.SYSTEMS})


def list_inputs(makes: Makes | None = None) -> dict[str, Input]:
    """What systems take beside CT and mask, by name: of those that make edits, or volumes, or of all."""
    found: dict[str, Input] = {}
    for system in list_systems().values():
        for one in system.inputs if makes in (None, system.makes) else ():
            found.setdefault(one.name, one)
    return found


def parse_request(values: Mapping[str, Any] | str, system: str = DEFAULT_SYSTEM) -> BaseRequest:
    """A request to `system` from a mapping or JSON text. InvalidRequest names bad keys with their values."""
    return parse(find_system(system).request, values)


def request_of(record: Provenance) -> BaseRequest:
    """What a record says was asked, as its system's type."""
    return parse_request(record.request, str(record.request.get("system", DEFAULT_SYSTEM)))


def load_model(installed: InstalledModel, device: str | None = None) -> Any:
    """Check the weights against the card and make the model ready on `device` (None: CUDA when there is one).

    Raises WeightsError when the weights are missing, changed, or of a system this version does not know.
    """
    system = find_system(installed.card.system)
    verify_weights(installed)
    return system.load(installed, device)


@cache
def _find(elsewhere: str) -> dict[str, System]:
    found: dict[str, System] = {}
    for system in (system for module in _modules(elsewhere) for system in module.SYSTEMS):
        if system.name in found:
            raise WeightsError(f"{VARIABLE}: there is a system {system.name!r} already: name it otherwise")
        found[system.name] = system
    return found


@cache
def _modules(elsewhere: str) -> tuple[ModuleType, ...]:
    own = (import_module(f"{__name__}.{folder}") for folder in FOLDERS)
    return (*own, *(_import(Path(elsewhere)) if elsewhere else ()))


def _import(root: Path) -> Iterator[ModuleType]:
    """The packages in a folder, each as a top-level module of its folder's name."""
    folders = sorted(path.parent for path in root.glob("*/__init__.py"))
    if not folders:
        raise WeightsError(f"{VARIABLE} names {root}, where no folder has an __init__.py with SYSTEMS")
    for folder in folders:
        name = f"lesionbrush_system_{folder.name}"
        spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "SYSTEMS"):
            raise WeightsError(f"{VARIABLE}: {folder} has no SYSTEMS, so it is no system")
        yield module
