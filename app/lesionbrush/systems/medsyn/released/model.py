"""MedSyn with the weights that its authors give out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lesionbrush.engines.choice import PYTORCH, choose_engine
from lesionbrush.engines.evaluator import make_engine
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.released.space import ATLAS, RELEASED_HOOKS


class ReleasedMedSyn(MedSyn):
    """Their networks in place of ours, in the field that they were trained in.

    On a CPU PyTorch runs them: OpenVINO 2026.4 ends the whole process when it compiles narrow ones.
    """

    hooks, space = RELEASED_HOOKS, ATLAS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        for evaluate in (self.low, self.high):
            choice = replace(choose_engine(), library=PYTORCH)
            evaluate.engines["cpu"] = make_engine(evaluate.network, choice)
