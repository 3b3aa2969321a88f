"""A tiny model, a tiny CT, and what it takes to run a real server on them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from lesionbrush.core.registry import METADATA, WEIGHTS
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.network import LesionUNet, LesionUNetConfig
from safetensors.torch import save_file
from scipy.spatial import cKDTree

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = "tiny"
STORED = "ct1"
FAST = {"steps": 2, "seed": 5}
MARGIN_MM = 3.0
SPACING_MM = (1.1, 1.1, 1.5)
SHAPE = (64, 64, 40)
OBLIQUE = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def make_model(root: Path, name: str = MODEL, **changes: Any) -> Path:
    """A model folder with a random network of a few thousand weights; `changes` go into its card."""
    network = {"channels": (8, 16, 16), "blocks": 1, "head_channels": 4, "prior_spread": 0.15}
    unet = LesionUNet(LesionUNetConfig(len(ATTRIBUTES), **network))
    generator = torch.Generator().manual_seed(1)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    folder = root / name
    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    save_file(unet.state_dict(), folder / WEIGHTS)
    card = {
        "name": name,
        "system": "lesion_inpainting",
        "title": "Tiny",
        "makes": "noise where a lesion would be",
        "window_hu": (-1000, 400),
        "spacing_mm": 2.0,
        "roi_voxels": (32,),
        "roi_multiple": 8,
        "schedule": "cosine",
        "tissue": {"name": "lung", "hu": (-1000, -300), "least_share": 0.3},
        "network": network,
        "attributes": ATTRIBUTES,
        "weights_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "weights_license": "Apache-2.0",
        "attribution": "none",
        "trained": {"steps": 0, "hours": 0},
        "training_data": "none",
        "split": "none",
        "figures": {"mean_error_hu": 1.0},
        "limits": ("for tests",),
        **changes,
    }
    (folder / METADATA).write_text(json.dumps({"lesionbrush": card}))
    return folder


def make_noise_model(root: Path, name: str = "noise", **changes: Any) -> Path:
    """A model of a toy system without a network, by default of the one that makes whole CTs."""
    folder = root / name
    for part in (METADATA, WEIGHTS):
        (folder / part).parent.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"nothing was learned")
    card = {
        "name": name,
        "system": name,
        "title": name.title(),
        "makes": "whole CTs of noise",
        "window_hu": (-1000, 400),
        "spacing_mm": 1.5,
        "roi_voxels": (24,),
        "roi_multiple": 1,
        "section": {},
        "weights_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "weights_license": "Apache-2.0",
        "attribution": "none",
        "trained": {"steps": 0, "hours": 0},
        "training_data": "none",
        "split": "none",
        "figures": {},
        "limits": ("for tests",),
        **changes,
    }
    (folder / METADATA).write_text(json.dumps({"lesionbrush": card}))
    return folder


def affine(origin_mm: tuple[float, float, float] = (-30.0, 20.0, -700.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = OBLIQUE * SPACING_MM
    matrix[:3, 3] = origin_mm
    return matrix


def make_ct() -> Volume:
    """(64, 64, 40) int16: noisy lung."""
    noise = np.random.default_rng(3).normal(-850, 30, SHAPE)
    return Volume(np.rint(noise).astype(np.int16), affine())


def make_mask(value: int = 1) -> Volume:
    """A ball of 6 mm radius in the middle of the CT."""
    index = np.indices(SHAPE).reshape(3, -1).T - np.array((30, 34, 20))
    inside = np.linalg.norm(index * SPACING_MM, axis=1).reshape(SHAPE) <= 6
    return Volume((inside * value).astype(np.uint8), affine())


@cache
def edit_region() -> np.ndarray:
    """bool (64, 64, 40): the mask and MARGIN_MM around it, by distances between voxel centres."""
    centres_mm = np.indices(SHAPE).reshape(3, -1).T * SPACING_MM
    distance_mm, _ = cKDTree(np.argwhere(make_mask().array) * SPACING_MM).query(centres_mm)
    return (distance_mm <= MARGIN_MM).reshape(SHAPE)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file in a folder, with its SHA-256."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Files:
    """ct and mask on disk, as .nii.gz."""

    folder: Path
    ct: Path
    mask: Path

    def save(self, volume: Volume, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            write_volume(volume, path)
        return path


@dataclass(frozen=True)
class Server:
    """A running server, and what it can touch. scratch: its folder for temporary files."""

    url: str
    studies: Path
    scratch: Path
    log: Path

    def leftovers(self, within_s: float = 10.0) -> list[Path]:
        """What stays of our temporary files; the last go after the response is out."""
        deadline = time.monotonic() + within_s
        while (left := self._temporary()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _temporary(self) -> list[Path]:
        private = self.studies / ".lesionbrush"
        inside = [path for name in ("tmp", "accepts") for path in (private / name).glob("*")]
        return [*self.scratch.rglob("lesionbrush-*"), *inside]


def post(
    server: Server, mask: Path, model: str = MODEL, params: Any = FAST, **query: str
) -> requests.Response:
    """What curl would send: a mask for the stored CT, unless the query names another."""
    url, query = f"{server.url}/infer/{model}", {"image": STORED, **query}
    with mask.open("rb") as stream:
        form, text = {"label": (mask.name, stream)}, json.dumps(params)
        return requests.post(url, params=query, data={"params": text}, files=form, timeout=120)


def server_environment(scratch: Path, models_dir: Path) -> dict[str, str]:
    """As a user's shell, but for our packages: the stock command has to find them by itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    return {**environment, **quiet, **folders, "LESIONBRUSH_MODELS": str(models_dir), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
