"""Where to get a Python that fits, for run.py, when none was found: from uv if it is there, else in words.

Standard library only, and readable by the Python that does not fit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

WANTED = "3.12"
NEEDS = (
    "LesionBrush needs Python 3.10, 3.11 or 3.12; this is {}, and no other was found. "
    "Get one and run this again, or set LESIONBRUSH_PYTHON to where one is:"
)
HOW = {
    "linux": (
        "Debian, Ubuntu:  sudo apt install pipx && pipx install uv    (run.py has it bring Python 3.12)",
        "Ubuntu alone:    sudo add-apt-repository ppa:deadsnakes/ppa && sudo apt install python3.12-venv",
    ),
    "win32": (
        "winget install astral-sh.uv          (open a new terminal; run.py has it bring Python 3.12)",
        "winget install Python.Python.3.12    (or this)",
    ),
    "darwin": (
        "brew install uv             (run.py has it bring Python 3.12)",
        "brew install python@3.12    (or this)",
    ),
}


def advice(platform: str = sys.platform) -> str:
    """What is wrong, and two lines on what to do on this system."""
    lines = (NEEDS.format(sys.version.split()[0]), *HOW.get(platform, HOW["linux"]))
    return "\n  ".join(lines)


def by_uv() -> str | None:
    """The Python that uv keeps for this user, downloaded the first time.

    None without uv, and when it fails, which it says itself.
    """
    uv = shutil.which("uv")
    if uv is None:
        return None
    found = _kept_by(uv)
    if found is None:
        print(f"[run.py] no Python here fits: uv brings {WANTED}", flush=True)
        subprocess.run([uv, "python", "install", WANTED], check=False)
        found = _kept_by(uv)
    return found


def _kept_by(uv: str) -> str | None:
    """Of all others run.py has looked at those that fit."""
    environment = {**os.environ, "UV_PYTHON_PREFERENCE": "only-managed"}
    command = [uv, "python", "find", "--system", "--no-project", WANTED]
    found = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return found.stdout.strip() if found.returncode == 0 else None
