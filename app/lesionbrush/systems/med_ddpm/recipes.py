"""How Med-DDPM is trained to inpaint: as our starter is, and as the thesis and the paper say.

`paper` is Sedykh 2024 (Imagining Infinity), Secs. 3.2.3 and 4.3: CT and binary mask beside the noisy image,
the loss in the mask alone, the noise as target (its Eq. 6), the window that helped it in 2D (Sec. 3.4). The
thesis gives no other number of its 3D runs. Cubes of 128³, the network and its 250 levels are those of the
release of Med-DDPM (Dorjsembe et al. 2023, arXiv:2305.18453); the cosine schedule, the L1 loss, Adam with
1e-5, batch 1, the average of 0.995 and 100 000 steps those that Lung-DDPM states, which goes on with its code
(Jiang et al. 2025, arXiv:2502.15204, Secs. II-D and III-B.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from lesionbrush.core.hu import HUScale, HUWindow
from lesionbrush.systems.lesion_inpainting.soft_tissue.data import MARGIN_MM, SCALE
from lesionbrush.systems.med_ddpm.card import TOLD_CHANNELS, UNTOLD_CHANNELS
from lesionbrush.systems.med_unet import MedUNetConfig
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import (
    Loss,
    MovingAverage,
    Optimiser,
    Patches,
    Recipe,
    by_name,
    plain_adam,
)

TIMESTEPS = 250


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(Recipe[MedUNetConfig]):
    """scale: how HU become units, in place of `window`. margin_mm: of the hole around a mask, from and to.
    drop_fill: how often the class is left open.
    """

    scale: HUScale = SCALE
    margin_mm: tuple[float, float] = MARGIN_MM
    drop_fill: float = 0.15


RECIPES = by_name(
    MaskedRecipe(
        name="ours",
        source="LesionBrush, after Sedykh 2024",
        network=MedUNetConfig(TOLD_CHANNELS, (16, 32, 64, 96), (False, False, True, False), norm_groups=8),
        prediction="v",
        data_spread=0.12,
        loss=Loss(of="x0"),
        timesteps=TIMESTEPS,
        levels=Levels(-1.7, 1.5, uniform_share=0.1),
        patches=Patches(sides=(32, 48), shares=(0.7, 0.3), counts=(2, 1)),
        optimiser=Optimiser(learning_rate=4e-4),
        steps=6000,
        validate_every=250,
    ),
    MaskedRecipe(
        name="paper",
        source="Sedykh 2024, Secs. 3.2.3, 4.3; what it leaves open, Dorjsembe et al. 2023, Jiang et al. 2025",
        differs=(
            "the thesis states no size, widths, levels, loss, optimiser or steps of its 3D runs; these are "
            "of Med-DDPM's release and of Lung-DDPM's paper, which goes on with it",
            "that the average is updated every 10 steps is of Med-DDPM's code alone, in no paper",
            "cubes of 1.5 mm around a mask take the place of the whole CT",
            "the masks are lesions, real and composed, and healthy tissue under their shapes; the thesis "
            "masks organs",
        ),
        network=MedUNetConfig(UNTOLD_CHANNELS, (64, 64, 128, 192, 256), (False, False, False, True, False)),
        prediction="eps",
        loss=Loss(error="absolute", weighted=False),
        timesteps=TIMESTEPS,
        scale=HUWindow(-150.0, 250.0),
        margin_mm=(0.0, 0.0),
        patches=Patches(sides=(128,), shares=(1.0,), counts=(1,)),
        optimiser=plain_adam(1e-5),
        average=MovingAverage(decay=0.995, every_steps=10, young=False),
        steps=100_000,
    ),
)
