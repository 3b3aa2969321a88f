"""What is imported when the server starts, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from lesionbrush.server.operation.serve import APP, NOT_NEEDED, not_installed

STARTED = f"""
import gc, sys
from lesionbrush.server.operation.serve import import_monai_label
import_monai_label()
assert gc.isenabled()
assert "monailabel.app" in sys.modules
assert not [name for name in {NOT_NEEDED!r} if name in sys.modules]
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import DiffusionModelUNet
from monai.transforms import KeepLargestConnectedComponent, Resize
cut = torch.zeros(1, 8, 8, 8)
cut[0, :3, :3, :3] = cut[0, 6, 6, 6] = 1
assert KeepLargestConnectedComponent()(cut).sum() == 27
assert Resize((4, 4, 4))(cut).shape == (1, 4, 4, 4)
assert torch.allclose(sliding_window_inference(cut[None], (4, 4, 4), 1, torch.negative), -cut[None])
import ignite.engine, matplotlib.figure, pandas
"""


def test_what_only_training_needs_is_left_out_and_there_for_others() -> None:
    environment = {**os.environ, "PYTHONPATH": str(APP)}
    run = subprocess.run(
        [sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_package_is_missing_in_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ImportError, match="colorsys"), not_installed(["colorsys"]):
        import colorsys
    import colorsys

    assert colorsys.__name__ in sys.modules


def test_one_that_is_in_use_stays() -> None:
    with not_installed(["json"]):
        import json
    assert sys.modules["json"] is json
