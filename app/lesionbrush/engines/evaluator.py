"""A network together with the engines that run it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lesionbrush.engines.choice import OPENVINO, EngineChoice, choose_engine
from lesionbrush.engines.openvino import EngineFailure, OpenVINOEngine
from lesionbrush.engines.pytorch import PyTorchEngine

Engine = OpenVINOEngine | PyTorchEngine


class Evaluator:
    """Called like its network, which must not change any more: the engine of the inputs' device runs it.

    engines: by type of device, once they are chosen; remarks: what users should know of them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.engines: dict[str, Engine] = {}
        self.remarks: tuple[str, ...] = ()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Float32. inputs: with as many rows each, a row for every item of the batch. InvalidRequest."""
        device = inputs[0].device
        engine = self.engine(device)
        if isinstance(engine, PyTorchEngine):
            return engine(*inputs)
        try:
            return engine(*inputs)
        except EngineFailure as error:
            return self._fall_back(device, engine, error)(*inputs)

    def engine(self, device: torch.device) -> Engine:
        """Chosen when it is first needed. InvalidRequest for one that is not there."""
        if device.type not in self.engines:
            self.engines[device.type] = make_engine(self.network, choose_engine(device.type))
        return self.engines[device.type]

    def _fall_back(self, device: torch.device, engine: Engine, error: EngineFailure) -> Engine:
        """From here on, PyTorch."""
        self.remarks = (f"OpenVINO could not run this network ({error}): PyTorch ran it, more slowly.",)
        self.engines[device.type] = PyTorchEngine(self.network, engine.precision)
        return self.engines[device.type]


def make_engine(network: nn.Module, choice: EngineChoice) -> Engine:
    make = OpenVINOEngine if choice.library == OPENVINO else PyTorchEngine
    return make(network, choice.precision)
