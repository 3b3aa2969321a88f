"""The devices that synthesize: one worker each."""

from __future__ import annotations

import os

from lesionbrush.errors import InvalidRequest

VARIABLE = "LESIONBRUSH_DEVICE"
"""Set by `run.py serve --device`; read when the app is made."""


def choose_devices(wanted: str | None = None) -> list[str]:
    """Names as torch has them. wanted: "cpu", "cuda" (all), "cuda:0,cuda:2"; None: what `VARIABLE` says.

    With nothing said: all CUDA devices, or the CPU where there is none. Raises InvalidRequest.
    """
    import torch

    wanted = (os.environ.get(VARIABLE, "") if wanted is None else wanted).strip()
    there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if not wanted:
        return there or ["cpu"]
    chosen = there if wanted == "cuda" else [name.strip() for name in wanted.split(",")]
    unknown = [name for name in chosen if name not in (*there, "cpu")]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise InvalidRequest(
            f"--device {wanted}: this machine has {', '.join((*there, 'cpu'))}; "
            f"name one, or several with commas between them, or 'cuda' for all of them"
        )
    return chosen
