"""How MedSyn is trained: as our starter is, and as the paper says.

Ours begins at 32 voxels a side in place of 64, where a step costs an eighth: on a few chests and a CPU it is
steps that are short, and fluid, emphysema and the heart are larger than its voxels of 10 mm.

`paper` is Xu et al. 2024, Sec. IV.F, and for the widths the released configuration: 160 and 56 channels with
multiples 1, 2, 4, 8; AdamW with 1e-4 and a gradient of norm 1 at most, 64 chests a step at the low
resolution, 32 tiles at the high one, 40 000 steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from lesionbrush.systems.medsyn.network import MedSynConfig
from lesionbrush.training.levels import Levels
from lesionbrush.training.recipes import Loss, Optimiser, Patches, Recipe, by_name


@dataclass(frozen=True, kw_only=True)
class Networks:
    """low: makes whole chests, shown where there is data; high: makes finer tiles, shown what is coarser."""

    low: MedSynConfig
    high: MedSynConfig


@dataclass(frozen=True)
class Refinement:
    """From so many voxels a side to `factor` times as many."""

    side: int
    factor: int


@dataclass(frozen=True, kw_only=True)
class MedSynRecipe(Recipe[Networks]):
    """low_side: voxels a side of whole chests, which a text acts on. low_share: of the steps that are of
    these; the others are of tiles. stages: that tiles are of; tile: their side in voxels; tiles: how many
    make a batch. drop_text: how often a text is left out; low_noise: at most, on what a tile is shown.
    residual: the networks make what differs from what is expected; see `expected`. low_levels: of whole
    chests, None: `levels`. ct_alone: masks are neither shown nor scored, to see what they are good for.
    """

    low_side: int = 64
    stages: tuple[Refinement, ...] = (Refinement(64, 4),)

    low_share: float = 0.6
    tile: int = 64
    tiles: int = 1
    drop_text: float = 0.12
    low_noise: float = 0.1
    residual: bool = False
    low_levels: Levels | None = None
    ct_alone: bool = False


OURS = MedSynRecipe(
    name="ours",
    source="LesionBrush, after Xu et al. 2024",
    network=Networks(
        low=MedSynConfig(5, (48, 56, 64), (False, False, True), fold=2, text_width=96, pooled=128),
        high=MedSynConfig(4, (32, 40, 48), (False, False, True), fold=2),
    ),
    prediction="v",
    residual=True,
    low_noise=0.05,
    loss=Loss(of="x0"),
    low_side=32,
    stages=(Refinement(32, 2), Refinement(32, 4), Refinement(128, 2)),
    levels=Levels(-0.4, 1.6, uniform_share=0.3),
    low_levels=Levels(2.0, 1.8, uniform_share=0.3),
    low_share=0.8,
    tile=48,
    tiles=2,
    patches=Patches(sides=(32,), shares=(1.0,), counts=(4,)),
    optimiser=Optimiser(learning_rate=5e-4),
    steps=12_000,
    validate_every=250,
    validation_batches=6,
)
RECIPES = by_name(
    OURS,
    MedSynRecipe(
        name="paper",
        source="Xu et al. 2024, arXiv:2310.03559, Sec. IV, V.A; widths of the released configuration",
        differs=(
            "both networks are plain U-Nets with attention at the bottom, not factorised in planes and axis",
            "the text is left out in one of eight chests, so that guidance may be stronger than trained",
            "findings are given to a few chests by rule, and their texts are written from measurements; the "
            "paper has 7 728 chests with reports",
            "a chest is aligned by the box of its lungs; the paper registers it",
        ),
        network=Networks(
            low=MedSynConfig(
                1, (160, 320, 640, 1280), (False, False, False, True), 1, 8, norm_groups=32, text_width=768
            ),
            high=MedSynConfig(4, (56, 112, 224, 448), (False, False, False, True), 1, 4, norm_groups=8),
        ),
        prediction="x0",
        loss=Loss(weighted=False),
        drop_text=0.125,
        tiles=2,
        patches=Patches(sides=(64,), shares=(1.0,), counts=(4,)),
        accumulate=16,
        optimiser=Optimiser(
            learning_rate=1e-4, betas=(0.9, 0.999), warmup_steps=0, cooldown_share=0.0, clip_norm=1.0
        ),
        steps=80_000,
    ),
)
