"""A drawn body into an organ: anywhere in it that keeps the distances asked for. Positions are RAS mm."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from lesionbrush.core.boxes import Box
from lesionbrush.core.volume import Array
from lesionbrush.transfer.fields import depths_in, distances_to
from lesionbrush.transfer.forms import Bend, LesionForm
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.places import HostOrgan, draw_places
from lesionbrush.transfer.results import Refused

FREE_MM = CarryLimits().margin_mm
"""To the surface where nothing is said: the margin of an edit, so that what changes is organ too."""
_TRIES, _LOOKED_AT, _DRAWN = 12, 400, 5
_STRAIGHT = Bend(np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)))


@dataclass(frozen=True, eq=False)
class Settled:
    """A lesion on a host's grid. box: in stored indices; inside: bool on it; surface_mm: from its edge to the
    surface of its organ; None where nobody measured it.
    """

    box: Box
    inside: Array
    surface_mm: float | None


@dataclass
class _Seen:
    """Why nothing fitted. nearest_mm: to the surface, of the places looked at, least and most."""

    looked_at: int = 0
    taken: int = 0
    nearest_mm: list[float] = field(default_factory=list)


def settle(
    form: LesionForm,
    host: HostOrgan,
    surface_mm: tuple[float, float] | None,
    gap_mm: float,
    generator: np.random.Generator,
) -> Settled | Refused:
    """surface_mm: see `PlaceRule`; gap_mm: to other lesions. The lesion is turned any way."""
    low, high = surface_mm or (FREE_MM, np.inf)
    seen = _Seen()
    for _ in range(_TRIES):
        turn = Rotation.random(random_state=generator).as_matrix()
        places = draw_places(host, None, 0.0, generator)
        for centre in _fitting(form.points(_STRAIGHT) @ turn.T, places, host, (low, high, gap_mm), seen):
            box, inside = form.draw(host.organ, centre, turn, _STRAIGHT)
            found = _drawn(box, inside, host, (low, high, gap_mm))
            if found is not None:
                return found
    return _explain(form, (low, high, gap_mm), seen)


def _fitting(
    cloud_mm: Array, places: Array, host: HostOrgan, limits: tuple[float, float, float], seen: _Seen
) -> Array:
    """(N, 3): the first few places where the cloud, (P, 3), keeps what is asked for."""
    low, high, gap_mm = limits
    places = places[host.depth.at(places) > low][:_LOOKED_AT]
    points = places[:, None] + cloud_mm
    away_mm = host.depth.at(points).min(axis=1)
    fits, free = (away_mm > low) & (away_mm <= high), host.is_free(points, gap_mm)
    seen.looked_at += len(places)
    seen.taken += int((fits & ~free).sum())
    seen.nearest_mm += away_mm.tolist()
    return places[fits & free][:_DRAWN]


def _drawn(box: Box, inside: Array, host: HostOrgan, limits: tuple[float, float, float]) -> Settled | None:
    """None where voxels say no to what points said yes to."""
    low, high, gap_mm = limits
    if not inside.any() or label(inside, np.ones((3, 3, 3)))[1] != 1:
        return None
    reach_mm = low if np.isinf(high) else high
    depth = depths_in(host.organ.array, box, reach_mm, host.organ)[inside].min()
    away = distances_to(host.taken, box, gap_mm, host.organ)[inside].min()
    voxel_mm = max(host.organ.spacing_mm)
    if depth <= low or depth > high + voxel_mm or (host.taken.any() and away <= gap_mm):
        return None
    return Settled(box, inside, float(depth))


def _explain(form: LesionForm, limits: tuple[float, float, float], seen: _Seen) -> Refused:
    low, high, gap_mm = limits
    size = f"it is {2 * form.reach_mm:.0f} mm across"
    if seen.taken:
        return Refused(
            "taken",
            f"{size}; {seen.taken} places would hold it, but for lesions nearer than {gap_mm:g} mm: ask for "
            "fewer or smaller ones, or a smaller gap_mm",
        )
    asked = f"more than {low:g} mm" + ("" if np.isinf(high) else f", at most {high:g} mm,")
    best = max(seen.nearest_mm, default=0.0)
    return Refused(
        "no_room",
        f"{size}; {asked} to the organ's surface are asked for; none of {seen.looked_at} places has that: "
        f"the roomiest leaves {best:.1f} mm: ask for a smaller diameter_mm, or other distances in surface_mm",
    )
