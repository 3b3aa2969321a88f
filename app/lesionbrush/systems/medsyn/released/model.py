"""MedSyn with the weights that its authors give out."""

from __future__ import annotations

from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.released.space import ATLAS, RELEASED_HOOKS


class ReleasedMedSyn(MedSyn):
    """Their networks in place of ours, in the field that they were trained in; all else is the same."""

    hooks, space = RELEASED_HOOKS, ATLAS
