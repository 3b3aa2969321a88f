"""Model folders as MONAI sees them: the shipped ones, and tiny ones of every system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from core_fixtures import install
from lesionbrush.bundles.configs import INFERENCE, write_configs
from lesionbrush.core.registry import METADATA, load_card
from lung_ddpm_kit import install_layout_model
from mddpm_kit import install_guided
from med_ddpm_kit import install_med
from medsyn_kit import install_medsyn
from monai.bundle import ConfigParser
from palette_kit import install_palette
from semantic_kit import install_semantic

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = REPOSITORY / "models"
SHIPPED = sorted(path.parents[1].name for path in MODELS.glob(f"*/{METADATA.as_posix()}"))
SCHEMA_COPY = REPOSITORY / "tests" / "monai_schema" / "meta_schema_20240725.json"
SYSTEMS = (
    "lesion_inpainting",
    "lung_ddpm",
    "lung_ddpm_plus",
    "mddpm",
    "mddpm_3d",
    "med_ddpm",
    "medsyn",
    "palette",
    "semantic",
)


def install_bundle(root: Path, system: str = "lesion_inpainting") -> Path:
    """A tiny model of a system as a folder of `root`, with both configs; mddpm_3d with `tiny` beside it."""
    if system == "lesion_inpainting":
        folder = install(root)
    elif system.startswith("lung"):
        folder = install_layout_model(root, system)
    elif system == "med_ddpm":
        folder = install_med(root)
    elif system == "medsyn":
        folder = install_medsyn(root / "tiny_medsyn")
    elif system == "palette":
        folder = install_palette(root)
    elif system == "semantic":
        folder = install_semantic(root)
    else:
        folder = install_guided(root, system)
    for one in root.iterdir():
        write_configs(one, load_card(one))
    return folder


def parser_of(folder: Path) -> ConfigParser:
    """As a program opens a bundle: the config, and where its folder is."""
    parser = ConfigParser()
    parser.read_config(folder / INFERENCE)
    parser.read_meta(folder / METADATA)
    parser["bundle_root"] = str(folder)
    return parser


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def forward_arguments(folder: Path) -> dict[str, torch.Tensor]:
    """What a network takes beside the image, by metadata.json: one sample of the smallest size."""
    inputs = read(folder / METADATA)["network_data_format"]["inputs"]
    return {name: _ones(about) for name, about in inputs.items() if name != "image"}


def _ones(about: dict[str, Any]) -> torch.Tensor:
    sides = [int(side.removesuffix("*n")) for side in about["spatial_shape"]]
    channels = [] if not sides and about["num_channels"] == 1 else [about["num_channels"]]
    tensor = torch.full((1, *channels, *sides), 0.5)
    return tensor.to(getattr(torch, about["dtype"]))


def label_loader() -> ModuleType:
    """MONAI Label's loader of bundles. It imports functions of torchvision that draw, and calls none here."""
    try:
        import torchvision.utils  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: one that was built for another torch
        drawing = ModuleType("torchvision.utils")
        drawing.make_grid = drawing.save_image = None  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
            patched.setitem(sys.modules, "torchvision.utils", drawing)
            return import_module("monailabel.tasks.infer.bundle")
    return import_module("monailabel.tasks.infer.bundle")


def monai(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle ...` as anybody calls it: without our package on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "monai.bundle", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
