"""MedSyn (Xu et al. 2024, arXiv:2310.03559): a text becomes a chest CT with lobes, airways and vessels."""

from __future__ import annotations

from lesionbrush.systems.contract import System, late
from lesionbrush.systems.medsyn.bundle import network_words
from lesionbrush.systems.medsyn.card import MedSynCard
from lesionbrush.systems.medsyn.finding.hooks import HOOKS as FINDING_HOOKS
from lesionbrush.systems.medsyn.hooks import HOOKS
from lesionbrush.systems.medsyn.released.space import RELEASED_HOOKS
from lesionbrush.systems.medsyn.request import FindingRequest, MedSynRequest, ReleasedRequest

SYSTEMS = (
    System(
        name="medsyn",
        title="MedSyn",
        request=MedSynRequest,
        card=MedSynCard,
        hooks=HOOKS,
        load=late("lesionbrush.systems.medsyn.model", "MedSyn.load"),
        train=late("lesionbrush.systems.medsyn.training", "MedSynTraining"),
        evaluate=late("lesionbrush.systems.medsyn.evaluation", "evaluate_text"),
        bundle=network_words,
    ),
    System(
        name="medsyn_finding",
        title="MedSyn, findings",
        request=FindingRequest,
        card=MedSynCard,
        hooks=FINDING_HOOKS,
        load=late("lesionbrush.systems.medsyn.finding.model", "MedSynFinding.load"),
        evaluate=late("lesionbrush.systems.medsyn.finding.evaluation", "evaluate_findings"),
        bundle=network_words,
    ),
    System(
        name="medsyn_released",
        title="MedSyn, as released",
        request=ReleasedRequest,
        card=MedSynCard,
        hooks=RELEASED_HOOKS,
        load=late("lesionbrush.systems.medsyn.released.model", "ReleasedMedSyn.load"),
        published=late("lesionbrush.systems.medsyn.released.checkpoints", "released"),
    ),
)
