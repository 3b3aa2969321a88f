"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from lesionbrush.errors import InvalidRequest


@dataclass(frozen=True)
class Machine:
    """cores: those this process may use; avx512_bf16, amx: whether the CPU multiplies bfloat16 itself."""

    system: str
    python: str
    torch: str
    cores: int
    torch_threads: int
    avx512_bf16: bool
    amx: bool
    gpu: str

    def __str__(self) -> str:
        flags = [name for name, there in (("avx512_bf16", self.avx512_bf16), ("amx", self.amx)) if there]
        return (
            f"{self.cores} cores ({', '.join(flags) or 'no bfloat16 instructions'}), GPU: {self.gpu}, "
            f"torch {self.torch} with {self.torch_threads} threads, Python {self.python}, {self.system}"
        )


def this_machine() -> Machine:
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch_threads=torch.get_num_threads(),
        avx512_bf16=torch.cpu._is_avx512_bf16_supported(),
        amx=torch.cpu._is_amx_tile_supported(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    )


def resident_mb(process: int) -> float:
    """Memory of a process that is in RAM, in MB. Raises InvalidRequest where the system does not tell."""
    statm = Path("/proc") / str(process) / "statm"
    if not statm.is_file():
        raise InvalidRequest(f"memory is read from {statm}, which this system does not have; it needs Linux")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
