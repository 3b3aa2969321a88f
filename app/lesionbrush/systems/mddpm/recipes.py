"""How the unconditional model behind mDDPM is trained: as our starter was, and as the paper says.

`paper` is Krishna et al. 2025, Sec. 4.2.1: single slices of 512², the
window of 2000 HU, the squared error of the noise (Eq. 5), steps with the variance beta (Eq. 6), and
"refinements suggested by Nichol and Dhariwal (2021)", of which it does not say which; we take the cosine
schedule. It states neither widths nor optimiser, batch, EMA or steps. These are of the paper it cites
(arXiv:2102.09672, Appendix A, and its code): 128 channels times 1, 1, 2, 2, 4, 4 with two blocks a level and
attention at 16², Adam, 1e-4, batch 128, EMA 0.9999, 500 000 steps.
"""

from __future__ import annotations

from lesionbrush.systems.mddpm.data import PATCHES
from lesionbrush.systems.mddpm.network import DDPMUNetConfig
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import Loss, MovingAverage, Optimiser, Patches, Recipe, by_name, plain_adam

RECIPES = by_name(
    Recipe(
        name="ours",
        source="LesionBrush, after Krishna et al. 2025",
        network=DDPMUNetConfig(),
        prediction="v",
        levels=Levels(-1.2, 1.5, uniform_share=0.5),
        patches=PATCHES,
        optimiser=Optimiser(learning_rate=4e-4),
        steps=10_000,
        validate_every=250,
    ),
    Recipe(
        name="paper",
        source="Krishna et al. 2025, Sec. 4.2.1; what it leaves open, Nichol & Dhariwal 2021, Appendix A",
        differs=(
            "slices at 1 mm, with nodules that were put into them or cut out; the paper has slices of whole "
            "CTs as they are",
            "residual blocks add the embedding of the noise level; the cited code can scale by it too",
        ),
        network=DDPMUNetConfig(
            channels=(128, 128, 256, 256, 512, 512),
            attention=(False, False, False, False, False, True),
            blocks=2,
            norm_groups=32,
            prediction="eps",
            variance="fixed_large",
        ),
        prediction="eps",
        loss=Loss(weighted=False),
        patches=Patches(sides=(512,), shares=(1.0,), counts=(4,)),
        accumulate=32,
        optimiser=plain_adam(1e-4),
        average=MovingAverage(decay=0.9999, young=False),
        steps=500_000,
    ),
)
