"""What is measured of mDDPM. Do the slices of a model that sees single slices agree?

Each held-out nodule is made anew in its own crop along itself (a guidance image of low frequencies), once as
by default and once with every slice on its own: the first should come near the real nodule, the second shows
what there was to mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.inputs import Inputs
from lesionbrush.core.synthesize import synthesize
from lesionbrush.evaluation.cases import Nodule, load_nodules
from lesionbrush.evaluation.measures import difference_hu
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest, WholeRequest
from lesionbrush.systems.mddpm.slices import MDDPM
from lesionbrush.systems.mddpm.whole import MDDPMWhole, grid_of, guide_slices, lung_dice, rois_of
from lesionbrush.systems.mddpm.whole_hooks import frame_of

NODULES, FACTOR, STEPS, MAPS = 6, 4, 12, 8


class SlicesApart(MDDPM):
    """The same model, but no slice knows of another."""

    noise_smoothness = 0.0
    neighbour_weight = 0.0


@dataclass(frozen=True)
class Neighbours:
    """Medians over nodules of the mean absolute difference of slices 1 mm apart, in the lesion."""

    nodules: int
    neighbour_difference_hu: float
    neighbour_difference_real_hu: float
    neighbour_difference_independent_hu: float

    def lines(self) -> Iterator[str]:
        yield f"difference of slices 1 mm apart in the lesion, medians over {self.nodules} held-out nodules:"
        yield f"  synthetic {self.neighbour_difference_hu:.0f} HU"
        yield f"  real {self.neighbour_difference_real_hu:.0f} HU"
        yield f"  synthetic, every slice on its own {self.neighbour_difference_independent_hu:.0f} HU"


def neighbours(data: Path, model: MDDPM, count: int = NODULES) -> Neighbours:
    """FileNotFoundError when the data hold no held-out nodule."""
    nodules = load_nodules(data, validation=True, count=count)
    apart = SlicesApart(model.card, model.network, model.device)
    rows = [
        (
            difference_hu(nodule.patch(_make(nodule, model)).hu, nodule.real.inside),
            difference_hu(nodule.real.hu, nodule.real.inside),
            difference_hu(nodule.patch(_make(nodule, apart)).hu, nodule.real.inside),
        )
        for nodule in tqdm(nodules, desc="neighbouring slices", unit="nodule")
    ]
    return Neighbours(len(rows), *_medians(rows))


def evaluate_slices(model: MDDPM, data: Path, cases: int, out: Path) -> dict[str, float]:
    """For the card, and printed."""
    del out
    found = neighbours(data, model, cases or NODULES)
    print("\n".join(found.lines()))
    return {name: value for name, value in asdict(found).items() if name != "nodules"}


def evaluate_whole(model: MDDPMWhole, data: Path, cases: int, out: Path) -> dict[str, float]:
    """How far sampled maps are followed: Dice of the map's lungs and what is as dark as lung, over seeds."""
    del data, out
    request, frame = WholeRequest(steps=STEPS), frame_of(WholeRequest(), Inputs(), None)
    grid, dices = grid_of(frame, request), []
    for seed in tqdm(range(cases or MAPS), desc="sampled maps", unit="map"):
        scene = model.scene(frame, grid, request, Inputs(), seed)
        hu = model.slices.sample(
            rois_of(scene, grid), guide_slices(request, scene), [seed], lambda a, b: None
        ).hu
        dices.append(lung_dice(scene.anatomy, hu[0, 0]))
    worst, median = round(min(dices), 3), round(float(np.median(dices)), 3)
    print(f"lungs of map and result, Dice over {len(dices)} sampled maps: median {median}, worst {worst}")
    return {"lung_dice": median, "lung_dice_worst": worst, "maps": len(dices)}


def _make(nodule: Nodule, model: MDDPM) -> np.ndarray:
    case = nodule.case
    request = MDDPMRequest(steps=STEPS, pathology=Guide(factor=FACTOR))
    inputs = Inputs(pathology=case.crop, pathology_mask=case.mask)
    return synthesize(case.crop, case.mask, request, model, inputs)[0].volume().array


def _medians(rows: Sequence[tuple[float, ...]]) -> list[float]:
    return [round(float(value), 1) for value in np.nanmedian(np.array(rows), axis=0)]
