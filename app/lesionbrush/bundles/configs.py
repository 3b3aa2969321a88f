"""A model folder as a MONAI bundle: its two configs, made from the card. Imports no torch.

The card is the one source: what it says is written anew whenever it changes. What people write (`task`,
`description`, `changelog`, ...) is kept. `cli/bundle.py` is what `inference.json` runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionbrush.core.registry import METADATA, InstalledModel, ModelCard, load_card, verify_weights
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems import find_system

if TYPE_CHECKING:
    from torch import nn

    from lesionbrush.systems.contract import NetworkWords

INFERENCE = Path("configs") / "inference.json"
README = Path("docs") / "README.md"
LICENSE = Path("LICENSE")
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
CARD = "lesionbrush"
INTENDED_USE = "research and the training of other software; not for diagnosis, not a medical device"
PACKAGES = (
    *("nibabel", "pillow", "pydantic", "pydicom", "requests"),
    *("safetensors", "scikit-image", "scipy", "simpleitk", "tqdm"),
)
"""What a synthesis imports beside MONAI's own requirements; LesionBrush itself is on no index."""

_EDIT_CLASSES = {
    "image_classes": "one CT in HU, with its place in space",
    "label_classes": "the painted lesion on the grid of the CT, 0 elsewhere",
    "pred_classes": "the CT with the lesion in it, in HU; bit-identical outside the edit region",
}
_VOLUME_CLASSES = {
    "image_classes": "none: a whole CT is made",
    "label_classes": "none",
    "pred_classes": "a CT in HU that shows no patient, with a label volume of what is where beside it",
}
_PACKAGE = (
    "$sys.path.append(os.path.join(os.path.abspath(@bundle_root), '..', '..', 'app')) or "
    "find_spec('lesionbrush') or sys.exit('This bundle needs the package lesionbrush, which is not in app/ "
    "two folders above it: leave the bundle in the folder models of a LesionBrush checkout, or put the "
    "folder app of a checkout into PYTHONPATH.')"
)
_ROOT = (
    "$next((p for p in [*sys.path[1:2], '.'] "
    "if os.path.isfile(os.path.join(p, 'configs', 'inference.json'))), '.')"
)
"""MONAI puts the bundle there when it runs it; else the caller says where it is, or is in it."""


def metadata_of(card: ModelCard, written: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`metadata.json`, complete. written: what is there already; the card overrules where it knows better."""
    said = {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first release"},
        **dict.fromkeys(("monai_version", "pytorch_version", "numpy_version", "required_packages_version")),
        "name": card.title,
        "task": card.makes,
        "description": card.makes,
        "authors": card.attribution,
        "copyright": f"Weights: {card.weights_license}",
        "data_source": card.training_data,
        "data_type": "CT",
        **(written or {}),
        **_describe(card),
    }
    said.pop(CARD, None)
    return {**said, CARD: json.loads(card.model_dump_json())}


def inference_of(card: ModelCard) -> dict[str, Any]:
    """`inference.json`: what `python -m monai.bundle run` and MONAI Label's loader look for."""
    here = {"folder": "@bundle_root", "model": "@model"}
    system = find_system(card.system)
    parts = [part for one in system.inputs for part in one.parts]
    files = ("image", "label", "output") if system.makes == "edit" else ("output",)
    needs = {"_requires_": "@package"}
    return {
        "imports": ["$import os", "$import sys", "$from importlib.util import find_spec"],
        "model": card.name,
        "bundle_root": _ROOT,
        "package": _PACKAGE,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": ".",
        "output_dir": ".",
        **dict.fromkeys((*files, *parts)),
        "params": {},
        "network_def": _words(card).definition,
        "network": {
            "_target_": "lesionbrush.bundles.configs.with_weights",
            **needs,
            "network": "@network_def",
            **here,
            "device": "@device",
        },
        "dataset": {"_target_": "Dataset", "data": [{name: f"@{name}" for name in files[:-1]}]},
        "inferer": {"_target_": "SimpleInferer", "_desc_": "one evaluation; evaluator has the sampling"},
        "evaluator": {
            "_target_": "lesionbrush.cli.bundle.BundleSynthesis",
            **needs,
            **here,
            **{name: f"@{name}" for name in ("dataset_dir", "output_dir", *files)},
            "params": "@params",
            "device": "@device",
            "inputs": {name: f"@{name}" for name in parts},
        },
        "run": ["$@evaluator.run()"],
    }


def write_configs(folder: Path, card: ModelCard) -> None:
    """Write both files, each all or nothing; of a `metadata.json` that is there, people's own words stay.

    A system that says nothing of its networks has the card alone: what LesionBrush itself needs.
    """
    system = find_system(card.system)
    section = system.card.of(card).model_dump(mode="json")
    card, path = card.model_copy(update={"section": section}), folder / METADATA
    written = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if system.bundle is None:
        _replace(path, {**(written or {}), CARD: json.loads(card.model_dump_json())})
        return
    _replace(folder / INFERENCE, inference_of(card))
    _replace(path, metadata_of(card, written))


def bundle_at(folder: Path, model: str) -> InstalledModel:
    """The model in a folder. InvalidRequest: none is there, or another one; WeightsError: a damaged card."""
    if not (folder / METADATA).is_file():
        raise InvalidRequest(
            f"no bundle in {str(folder)!r}: give the folder of {model!r}, as  --bundle_root models/{model}"
        )
    card = load_card(folder)
    if card.name != model:
        raise InvalidRequest(
            f"the bundle in {str(folder)!r} is {card.name!r}, this config is of {model!r}: give its folder "
            f"as  --bundle_root models/{model}"
        )
    return InstalledModel(card, folder.absolute())


def with_weights(network: nn.Module, folder: str, model: str, device: object = None) -> nn.Module:
    """The network of `inference.json` with its weights, checked against the card, ready on a device.

    MONAI itself reads no safetensors. Raises WeightsError, InvalidRequest.
    """
    from lesionbrush.systems import running

    installed = bundle_at(Path(folder), model)
    verify_weights(installed)
    ready = running.with_weights(network, installed)
    return ready.to(running.pick_device(None if device is None else str(device))).eval()


def _describe(card: ModelCard) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "monai_version": _release("monai"),
        "pytorch_version": _release("torch"),
        "numpy_version": _release("numpy"),
        "required_packages_version": {name: _release(name) for name in PACKAGES},
        "name": card.title,
        **(_EDIT_CLASSES if find_system(card.system).makes == "edit" else _VOLUME_CLASSES),
        "eval_metrics": dict(card.figures),
        "intended_use": INTENDED_USE,
        "network_data_format": _words(card).data_format,
    }


def _words(card: ModelCard) -> NetworkWords:
    """WeightsError for a model of a system without a network that MONAI could build."""
    words = find_system(card.system).bundle
    if words is None:
        raise WeightsError(f"system {card.system!r} does not say how MONAI would build its networks")
    return words(card)


def _release(package: str) -> str:
    return version(package).partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
