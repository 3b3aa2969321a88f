"""How chests lie in the volumes that the released networks were trained on. Imports no torch.

They were registered to one patient's lungs, whose mask lies in the authors' repository (`preprocess/`): 292
slices of 316 x 316 voxels of 1 mm, its lungs in a box of 264 x 194 x 276. Slices run upwards, rows to the
front; columns to the patient's left, which `network.ReleasedUNet` turns. The lobes' five levels are those of
lungmask, left upper lobe first, as the grey values of a figure there show (`src/conditional.ipynb`).
"""

from __future__ import annotations

from functools import partial

from lesionbrush.anatomy.chest.naming import LEFT_LOWER, LEFT_UPPER, RIGHT_LOWER, RIGHT_MIDDLE, RIGHT_UPPER
from lesionbrush.core.generate import GenerateHooks
from lesionbrush.systems.medsyn.field import ChestSpace
from lesionbrush.systems.medsyn.hooks import INPUTS, frame_of

ATLAS = ChestSpace(
    fill=(264 / 292, 194 / 316, 276 / 316),
    usual_mm=(264.0, 194.0, 276.0),
    middle=(140 / 292, 154 / 316, 159 / 316),
    lobes=(LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER),
)
RELEASED_HOOKS = GenerateHooks(INPUTS, partial(frame_of, space=ATLAS))
