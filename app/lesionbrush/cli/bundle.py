"""What `python -m monai.bundle run` does with one of our bundles: the same as `run.py synthesize`.

`configs/inference.json` names `BundleSynthesis` by its dotted name, which therefore stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lesionbrush.bundles.configs import INFERENCE, bundle_at
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.systems import find_system, parse_request
from lesionbrush.systems.contract import System

_CLIENT = Path(__file__).resolve().parents[3] / "slicer_module" / "LesionBrush"
_BAD_INPUT = 2
_OF_RUN = {
    "run_id",
    "init_id",
    "final_id",
    "meta_file",
    "config_file",
    "logging_file",
    "tracking",
    "args_file",
}
_WORDS = ("true", "false", "null")


@dataclass(frozen=True)
class BundleSynthesis:
    """A CT and a mask in, the CT with the lesion out, and a record beside it; or a whole CT from neither.

    folder: of the bundle. dataset_dir, output_dir: where relative paths of inputs and of the output begin.
    inputs: volumes beside CT and mask, None for those that are not given. params: of the request.
    """

    folder: str
    model: str
    image: object = None
    label: object = None
    output: object = None
    params: Mapping[str, Any] | str | None = None
    device: object = None
    inputs: Mapping[str, object] = field(default_factory=dict)
    dataset_dir: str = "."
    output_dir: str = "."

    def run(self) -> None:
        """Do it. Raises LesionBrushError or OSError; a command ends with their text and exit code 2."""
        if not _is_command():
            self._run()
            return
        try:
            self._require_known_options()
            self._run()
        except (LesionBrushError, OSError) as error:
            print(f"monai.bundle run: {error}", file=sys.stderr)
            sys.exit(_BAD_INPUT)

    def _run(self) -> None:
        if str(_CLIENT) not in sys.path:
            sys.path.append(str(_CLIENT))  # where the endings of files' names are written down
        from lesionbrush.cli import generate, synthesize
        from lesionbrush.cli.options import require_edit
        from lesionbrush.cli.orders import CTOrder

        installed = bundle_at(Path(self.folder), self.model)
        system = find_system(installed.card.system)
        out = Path(self.output_dir) / _path("output", self.output)
        request = parse_request(_params(self.params), system.name)
        inputs, device = self._inputs(system), None if self.device is None else str(self.device)
        if system.makes == "volume":
            generate.carry_out(
                CTOrder(model=installed, request=request, out=out, inputs=inputs, device=device)
            )
            return
        order = synthesize.EditOrder(
            model=installed,
            request=require_edit(request, self.model),
            ct=self._input("image", self.image),
            mask=self._mask(system),
            out=out,
            inputs=inputs,
            device=device,
        )
        synthesize.carry_out(order)

    def _inputs(self, system: System) -> dict[str, Path | str]:
        texts = {one.name for one in system.inputs if one.kind == "text"}
        given = {name: value for name, value in self.inputs.items() if value is not None}
        return {
            name: str(value) if name in texts else self._input(name, value) for name, value in given.items()
        }

    def _mask(self, system: System) -> Path | None:
        """None for a model that can do without, where none is given."""
        if self.label is None and not getattr(system.hooks, "needs_mask", True):
            return None
        return self._input("label", self.label)

    def _input(self, name: str, value: object) -> Path:
        return Path(self.dataset_dir) / _path(name, value)

    def _require_known_options(self) -> None:
        """InvalidRequest for an option that no part of the config reads: MONAI itself takes every name."""
        config = json.loads((Path(self.folder) / INFERENCE).read_text(encoding="utf-8"))
        for name in _options(sys.argv):
            if name not in config and name not in _OF_RUN:
                own = [key for key, value in config.items() if value is None]
                taken = ", ".join(f"--{key}" for key in (*own, "params", "device"))
                raise InvalidRequest(
                    f"--{name}: bundle {self.model!r} takes no such option; it takes {taken}. What is asked "
                    "of the model goes into --params '{\"seed\": 7}'"
                )


def _is_command() -> bool:
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py") and sys.argv[1:2] == ["run"]


def _options(arguments: list[str]) -> Iterator[str]:
    """The names of all options; of `--params::seed` and `--network_def#config` the first part."""
    for argument in arguments:
        if argument.startswith("--") and argument != "--":
            name = argument[2:].partition("=")[0].replace("#", "::").partition("::")[0]
            yield name.replace("-", "_").lstrip("+")


def _path(name: str, value: object) -> str:
    """A file's name; of digits alone it arrives as a number."""
    if isinstance(value, (str, int, Path)) and not isinstance(value, bool):
        return str(value)
    given = "not given" if value is None else f"{value!r} is no path"
    raise InvalidRequest(f"--{name}: {given}; name the CT (--image), its mask (--label) and the --output")


def _params(value: Mapping[str, Any] | str | None) -> dict[str, Any] | str:
    """As a request takes them. The command line reads true, false and null as words."""
    if isinstance(value, str) or value is None:
        return value or {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"--params {value}: give a JSON object, such as '{{\"seed\": 7}}'")
    return {str(name): _json(part) for name, part in value.items()}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json(part) for name, part in value.items()}
    return json.loads(value) if isinstance(value, str) and value in _WORDS else value
