"""PyTorch as an engine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lesionbrush.engines.choice import PYTORCH, EngineChoice, Precision


class PyTorchEngine:
    """The network itself."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        self.network, self.precision = network, precision

    def __str__(self) -> str:
        return str(EngineChoice(PYTORCH, self.precision))

    def __call__(self, *inputs: Tensor) -> Tensor:
        with autocast(inputs[0].device, self.precision), OneDNN():
            said: Tensor = self.network(*inputs)
        return said.float()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Multiplications in bfloat16, or as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class OneDNN(TorchFunctionMode):
    """3D convolutions of single float32 samples on a CPU go through oneDNN.

    PyTorch has a slow path of its own for small ones (`slow_conv3d`), which takes two to five times as long.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.conv3d and not kwargs and _is_slow(*args):
            image, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _is_slow(image: Tensor, *rest: object) -> bool:
    if len(rest) != 6 or isinstance(rest[3], str) or not torch.backends.mkldnn.is_available():
        return False
    single = image.device.type == "cpu" and image.ndim == 5 and len(image) == 1
    return single and image.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
