"""OpenVINO as an engine: on CPUs it runs small 3D networks several times as fast as PyTorch.

A network is traced once and kept, converted, in the user's cache; it is compiled for each shape of its inputs
when that comes first.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lesionbrush import __version__
from lesionbrush.engines.choice import OPENVINO, EngineChoice, Precision
from lesionbrush.errors import LesionBrushError
from lesionbrush.files.durable import new_folder

if TYPE_CHECKING:
    import openvino

TELEMETRY = "openvino_telemetry"
CACHE = "LESIONBRUSH_ENGINE_CACHE"
GRAPH = "network.xml"
MOST_SHAPES, MOST_NETWORKS = 8, 12
_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
Shapes = tuple[tuple[int, ...], ...]
_TRACING = threading.Lock()
"""Tracing is of the whole process: two networks at once would get in each other's way."""


class EngineFailure(Exception):
    """OpenVINO cannot convert, compile or run this network."""


class OpenVINOEngine:
    """A network on the CPU, one item of a batch at a time: what becomes of it does not depend on the others.

    The network must not change any more.
    """

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        self.network, self.precision = network, precision
        self._converted: Any = None
        self._compiled: OrderedDict[Shapes, Any] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def __str__(self) -> str:
        return str(EngineChoice(OPENVINO, self.precision))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Raises EngineFailure."""
        items = ([part[k : k + 1] for part in inputs] for k in range(len(inputs[0])))
        try:
            with self._one_at_a_time:
                return torch.cat([self._ask(item) for item in items])
        except Exception as error:  # the library has half a dozen kinds, of no common base
            raise EngineFailure(str(error).strip().rpartition("\n")[2].strip(" -")) from error

    def _ask(self, item: Sequence[Tensor]) -> Tensor:
        request = self._compile(tuple(tuple(part.shape) for part in item), item)
        answer = request.infer([part.contiguous().numpy() for part in item])
        return torch.from_numpy(next(iter(answer.values())).copy())

    def _compile(self, shapes: Shapes, item: Sequence[Tensor]) -> openvino.InferRequest:
        """Kept for the shapes that were asked for last."""
        if shapes not in self._compiled:
            ov = import_openvino()
            if self._converted is None:
                with _TRACING:
                    self._converted = load_converted(self.network, item)
            model = self._converted.clone()
            model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes, strict=True)})
            compiled = ov.Core().compile_model(model, "CPU", self._settings())
            self._compiled[shapes] = compiled.create_infer_request()
            if len(self._compiled) > MOST_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        return self._compiled[shapes]

    def _settings(self) -> dict[str, Any]:
        """As many threads as PyTorch has, none tied to a core that another process may be using."""
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,
        }


def import_openvino() -> Any:
    """The library, which would otherwise report its import and every conversion to its maker."""
    if TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    import openvino

    return openvino


def load_converted(network: nn.Module, item: Sequence[Tensor]) -> openvino.Model:
    """From the cache, or made and put there.

    What is made is read back too: a file holds it simplified, and the last bits of what it says are others.
    """
    kept = cache_folder() / fingerprint(network)
    if kept.is_dir():
        try:
            model = _read(kept)
            os.utime(kept)
        except Exception:  # noqa: BLE001, damaged or gone: whatever the library makes of it
            shutil.rmtree(kept, ignore_errors=True)
        else:
            return model
    made = convert(network, item)
    try:
        _keep(made, kept)
    except (OSError, LesionBrushError):  # a home that cannot be written to costs a second at each start
        with TemporaryDirectory() as folder:
            _write(made, Path(folder))
            return _read(Path(folder))
    return _read(kept)


def convert(network: nn.Module, item: Sequence[Tensor]) -> openvino.Model:
    """Traced on an item of a batch; sides of the inputs stay open."""
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of what a trace takes for constant: compared in the tests
        traced = TorchScriptPythonDecoder(
            network, example_input=tuple(item), trace_kwargs={"check_trace": False}
        )
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(traced))


def fingerprint(network: nn.Module) -> str:
    """Of all that decides what it computes: weights, layers, and the versions of what reads them."""
    digest = sha256()
    for part in ("torch", "monai", "openvino"):
        digest.update(f"{part} {version(part)} ".encode())
    file = getattr(sys.modules[type(network).__module__], "__file__", None)  # none in an interactive session
    source = Path(file).read_bytes() if file else b""
    digest.update(f"{__version__} {type(network).__qualname__} {network}".encode() + source)
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def cache_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(CACHE) or home / "lesionbrush" / "engines")


def _keep(model: openvino.Model, folder: Path) -> None:
    """Written whole, and what was not used for longest goes."""
    with new_folder(folder) as draft:
        _write(model, draft)
    kept = [path for path in folder.parent.iterdir() if path.is_dir()]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-MOST_NETWORKS]:
        shutil.rmtree(old, ignore_errors=True)


def _write(model: openvino.Model, folder: Path) -> None:
    import_openvino().save_model(model, folder / GRAPH, compress_to_fp16=False)


def _read(folder: Path) -> openvino.Model:
    """Into memory, so that the files may go."""
    files = (folder / GRAPH, (folder / GRAPH).with_suffix(".bin"))
    return import_openvino().Core().read_model(*(file.read_bytes() for file in files))
