"""Which engine runs networks on a device: by what the machine has, never by a clock.

Devices are named as by `torch.device.type`, which is imported only where a GPU or bfloat16 is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from lesionbrush.errors import InvalidRequest

VARIABLE = "LESIONBRUSH_ENGINE"
Library = Literal["OpenVINO", "PyTorch"]
OPENVINO: Library = "OpenVINO"
PYTORCH: Library = "PyTorch"
Precision = Literal["float32", "bfloat16"]
LIBRARIES: Mapping[str, Library] = {"openvino": OPENVINO, "pytorch": PYTORCH}
PRECISIONS: Mapping[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
WORDS = (*LIBRARIES, *PRECISIONS, *(f"{one}-{other}" for one in LIBRARIES for other in PRECISIONS))


@dataclass(frozen=True)
class EngineChoice:
    """A library, and what it multiplies in."""

    library: Library
    precision: Precision

    def __str__(self) -> str:
        """As records name it."""
        return f"{self.library}, {self.precision}"


def choose_engine(device: str = "cpu", wanted: str | None = None) -> EngineChoice:
    """OpenVINO on a CPU where it is installed; bfloat16 where the hardware multiplies it faster than float32.

    wanted: one of `WORDS`, by default of the environment. InvalidRequest for another, and for a library that
    is not there. A GPU is PyTorch's, whatever is wanted of a CPU.
    """
    library, precision = parse_wish(os.environ.get(VARIABLE, "") if wanted is None else wanted)
    if library == OPENVINO and not is_installed():
        raise InvalidRequest(f"{VARIABLE}: OpenVINO is not installed; install openvino, or choose pytorch")
    if device != "cpu":
        library = PYTORCH
    return EngineChoice(
        library or (OPENVINO if is_installed() else PYTORCH),
        precision or ("bfloat16" if multiplies_bfloat16(device) else "float32"),
    )


def parse_wish(text: str) -> tuple[Library | None, Precision | None]:
    """ "openvino-float32", one half of it, or nothing. InvalidRequest."""
    word = text.strip().lower()
    if word and word not in WORDS:
        raise InvalidRequest(f"{VARIABLE}: there is no engine {text!r}; choose one of {', '.join(WORDS)}")
    parts = word.split("-")
    library = next((LIBRARIES[part] for part in parts if part in LIBRARIES), None)
    return library, next((PRECISIONS[part] for part in parts if part in PRECISIONS), None)


def is_installed() -> bool:
    """Whether OpenVINO is there. It is not imported."""
    return find_spec("openvino") is not None


def multiplies_bfloat16(device: str = "cpu") -> bool:
    """Whether the hardware does so itself."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
