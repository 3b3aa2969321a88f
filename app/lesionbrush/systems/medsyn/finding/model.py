"""A finding put into the lungs of a CT: what a text makes of this chest that its opposite does not.

Both chests begin with the same noise and have the CT's own voxels outside the lungs, so that what they differ
in is what the text says, and a young network's faults are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.systems.medsyn.channels import CT, WINDOW
from lesionbrush.systems.medsyn.finding.hooks import HOOKS, AskedOfLungs
from lesionbrush.systems.medsyn.finding.placing import ChestInRoi, FindingWish, put_in
from lesionbrush.systems.medsyn.finding.topics import complete, read_small
from lesionbrush.systems.medsyn.model import ChestJob, MedSyn, show_ct
from lesionbrush.systems.medsyn.request import FindingRequest
from lesionbrush.systems.running import SamplingWatch

PARTS = ("hu", "kept", "shift", "pull_mm")
"""Of `PutIn`."""


class MedSynFinding:
    """The networks of `medsyn`, ready to put findings into CTs."""

    hooks = HOOKS

    def __init__(self, chests: MedSyn) -> None:
        self.card, self.chests, self.network = chests.card, chests, chests.network

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> MedSynFinding:
        """Read the weights. WeightsError."""
        return cls(MedSyn.load(installed, device))

    @torch.inference_mode()
    def sample(
        self,
        rois: RoiBatch,
        request: FindingRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """The lungs for every seed. See `synthesize.Model`; InvalidRequest where no word is known."""
        asked, chests = rois.own, self.chests
        assert isinstance(asked, AskedOfLungs)
        remarks = chests.read(asked.text, request)
        if asked.left_out:
            remarks += (f"Nodules are left out ({asked.left_out}): paint them, and use lung_lesion.",)
        chest = ChestInRoi.of(rois, asked)
        held = {side: chest.hold(side) for side in chests.sides(request.size)}
        watch = SamplingWatch(on_step, on_estimate, 2 * len(seeds), chests.count_evaluations(request))
        text, small_ml = read_small(asked.text)
        amount_ml = request.amount_ml or small_ml
        if small_ml is not None:
            remarks += (
                f"Fluid that is called small is {amount_ml:.0f} ml where a large one would lie; "
                "amount_ml changes that.",
            )
        pair = (complete(text, request.against), request.against)
        texts = [chests.encoder.encode([text]).to(chests.device) for text in pair]
        made, wish = [], FindingWish.of(asked.text, amount_ml)
        for number, seed in enumerate(seeds):
            hus = []
            for which, tokens in enumerate(texts):
                job = ChestJob(request, seed, watch.part([2 * number + which], show_ct))
                hus.append(WINDOW.from_unit(chests.make(job, tokens, held)[CT].cpu().numpy()))
            made.append(put_in(chest, hus[0], hus[1], wish))
            who = f"seed {seed}: " if len(seeds) > 1 else ""
            remarks += (who + made[-1].describe(chest, wish),)
        parts = {part: np.stack([getattr(one, part) for one in made])[:, None] for part in PARTS}
        return Sampled(device=chests.where, remarks=remarks, **parts)
