"""One lesion of one patient into an organ of another: its mask there, or why not. A pure function over masks.

All is done in mm along the patients' common axes (RAS): grids may differ, be oblique, have thick slices.
"""

from __future__ import annotations

import numpy as np

from lesionbrush.core.volume import Volume
from lesionbrush.transfer.forms import LesionForm
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.places import HostOrgan, Search
from lesionbrush.transfer.plan import CarryPlan
from lesionbrush.transfer.relation import Relation
from lesionbrush.transfer.results import Carried, Refused

_SPOTS_DRAWN = 5


def carry(
    lesion: Volume,
    organ: Volume | None,
    host: HostOrgan,
    limits: CarryLimits,
    generator: np.random.Generator,
    *,
    opposite: bool = False,
) -> Carried | Refused:
    """lesion, organ: not 0 inside, on one grid; organ: None where it is not known, and then neither size nor
    place follow from it. host: on a grid of its own. opposite: it is the same organ of the body's other side.

    A lesion inside its organ stays inside with the margin; one that pokes out keeps its share outside, and is
    turned to the surface. Its volume grows with the cube of the scale. Raises EmptyMask.
    """
    form = LesionForm.of(lesion)
    relation = None if organ is None else Relation.of(lesion, form, organ)
    refused = _refuse_early(relation, limits, opposite)
    if refused:
        return refused
    plan = CarryPlan.of(form, relation, host, limits, opposite)
    if form.volume_mm3 * plan.scale**3 < host.organ.voxel_volume_mm3 / 2:
        return Refused("too_small", _too_small_text(form, plan.scale, host))
    search, settled = Search(), 0
    for _ in range(limits.tries):
        pose = plan.draw_pose(generator)
        for spot in plan.find_spots(pose, search, generator)[:_SPOTS_DRAWN]:
            settled += 1
            found = plan.settle(pose, spot)
            if found is not None:
                return found
    return _explain(plan, search, settled)


def _refuse_early(relation: Relation | None, limits: CarryLimits, opposite: bool) -> Refused | None:
    if opposite and not limits.mirror:
        return Refused(
            "not_there",
            "the target has this organ on the other side only, and mirroring is off: allow it, or name "
            "another organ",
        )
    outside = 0.0 if relation is None or not relation.pokes_out else relation.outside
    low, high = limits.exophytic
    if low <= outside <= high and outside < 1:
        return None
    return Refused(
        "exophytic",
        f"{outside:.0%} of it lie outside its organ, and {low:.0%} to {high:.0%} are allowed: widen the "
        "exophytic limits, or look whether mask and organ belong together",
    )


def _too_small_text(form: LesionForm, scale: float, host: HostOrgan) -> str:
    return (
        f"scaled by {scale:.2f} it has {form.volume_mm3 * scale**3:.2g} mm3, less than half a voxel of the "
        f"target ({host.organ.voxel_volume_mm3:.2g} mm3): allow a larger scale, or take a finer CT"
    )


def _explain(plan: CarryPlan, search: Search, settled: int) -> Refused:
    """Why no place was found."""
    near = "" if plan.middle_mm is None else f" within {plan.limits.shift_mm:g} mm of the corresponding one"
    size = f"{2 * plan.form.reach_mm * plan.scale:.0f} mm across after scaling by {plan.scale:.2f}"
    if settled:
        return Refused(
            "apart",
            f"it is {size}; {settled} places seemed to fit, but not once it was drawn on voxels of "
            f"{_by_mm(plan.host.organ)}: take a finer CT, or allow more (margin, deformation)",
        )
    if search.taken:
        return Refused(
            "taken",
            f"it is {size}; {search.taken} places would hold it, but for other lesions nearer "
            f"than {plan.limits.gap_mm:g} mm, other organs or the end of the CT: allow more shift or a "
            "smaller gap",
        )
    if not search.looked_at:
        return Refused("no_room", f"no part of the organ{_facing(plan.poking)} lies{near}: allow more shift")
    if plan.poking:
        assert plan.relation is not None
        return Refused(
            "surface",
            f"it is {size}, {plan.relation.outside:.0%} of it outside its organ; of {search.looked_at} places"
            f"{near} none has as much outside, the nearest is {search.apart:.0%} off: allow more shift or "
            "rotation",
        )
    return Refused(
        "no_room",
        f"it is {size}; the best of {search.looked_at} places{near} leaves {search.margin_mm:.1f} mm to the "
        f"organ's surface, and {plan.limits.margin_mm:g} mm are asked for: allow more shift, a smaller "
        "scale or a smaller margin",
    )


def _facing(poking: bool) -> str:
    return " with a surface that faces the same way" if poking else ""


def _by_mm(volume: Volume) -> str:
    return " x ".join(f"{mm:.3g}" for mm in volume.spacing_mm) + " mm"
