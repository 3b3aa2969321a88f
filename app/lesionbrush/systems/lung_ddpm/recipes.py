"""How Lung-DDPM and Lung-DDPM+ are trained: as our starters were, and as the papers say.

The papers predict the noise with an L1 loss in 100 000 steps; ours predicts v for images of a small spread
(see `preconditioning`) and scores the clean image it stands for: a fraction of the steps will do.

`paper` of Lung-DDPM is Sec. III-B.2 and Eq. 7 of arXiv:2502.15204: 128³, 100 000 steps, Adam, 1e-5, batch 1,
EMA 0.995, cosine schedule of 250 steps, L1 loss of the noise, all levels alike (Algorithm 1). It does not
state the widths, the attention and how often the EMA is updated. The widths and the attention are those of
the released code, the EMA is updated every 10 steps as in the code of Med-DDPM, which it cites for it. No
warm-up, no decay of the rate or of weights and no clipping is stated, so there is none; Adam's betas are its
defaults.

`paper` of Lung-DDPM+ has the 64³ crops, the layout and the network of its release (arXiv:2508.09327). How it
was optimised is taken from Lung-DDPM, whose code it goes on with.
"""

from __future__ import annotations

from lesionbrush.systems.lung_ddpm import cubes, volumes
from lesionbrush.systems.lung_ddpm.network import LUNG_DDPM, LUNG_DDPM_PLUS, TIMESTEPS
from lesionbrush.systems.med_unet import MedUNetConfig
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import Loss, MovingAverage, Patches, Recipe, by_name, plain_adam

_WIDTHS = (16, 32, 64, 96)
_DATA = (
    "CTs are resampled to cubic voxels and scaled by one window of HU, as for our starters; "
    "the published code scales every slab by itself"
)
_NODULES = "some nodules are put into lungs they were not in, ground glass more often than it is found"


def _ours(network: MedUNetConfig, patches: Patches, steps: int) -> Recipe[MedUNetConfig]:
    return Recipe(
        name="ours",
        source="LesionBrush, after Jiang et al. 2025",
        network=network,
        prediction="v",
        data_spread=0.25,
        loss=Loss(of="x0"),
        timesteps=TIMESTEPS,
        levels=Levels(-1.0, 1.5, uniform_share=0.15),
        patches=patches,
        steps=steps,
    )


def _paper(source: str, network: MedUNetConfig, side: int, differs: tuple[str, ...]) -> Recipe[MedUNetConfig]:
    return Recipe(
        name="paper",
        source=source,
        differs=differs,
        network=network,
        prediction="eps",
        loss=Loss(error="absolute", weighted=False),
        timesteps=TIMESTEPS,
        patches=Patches(sides=(side,), shares=(1.0,), counts=(1,)),
        optimiser=plain_adam(1e-5),
        average=MovingAverage(decay=0.995, every_steps=10, young=False),
        steps=100_000,
    )


# At 128³ only the middle block's attention, over 16³ voxels, is affordable.
WHOLE_RECIPES = by_name(
    _ours(
        MedUNetConfig(3, _WIDTHS, (False, False, False, False), norm_groups=8), volumes.PATCHES, steps=2000
    ),
    _paper(
        "Jiang et al. 2025, arXiv:2502.15204, Sec. III-B.2",
        LUNG_DDPM,
        128,
        (_DATA, f"blocks around lung at 2 to 3 mm take the place of the whole CT; {_NODULES}"),
    ),
)
CUBE_RECIPES = by_name(
    _ours(MedUNetConfig(2, _WIDTHS, (False, False, True, False), norm_groups=8), cubes.PATCHES, steps=4000),
    _paper(
        "Jiang et al. 2025, arXiv:2508.09327; optimised as in arXiv:2502.15204, Sec. III-B.2",
        LUNG_DDPM_PLUS,
        64,
        (_DATA, f"cubes at 1 mm, a tenth of them without a nodule; {_NODULES}"),
    ),
)
