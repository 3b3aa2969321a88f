"""The guidance images of mDDPM (Krishna et al. 2025) on the ROIs: reference, anatomy map, pathology patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.roi import ramp
from lesionbrush.core.rois import RoiBatch
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.mddpm.hooks import Followed
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest

RIM_MM = 1.5
"""A lesion from another case brings so much of its own surroundings, fading out."""
WORTH_SAYING = 0.1


@dataclass(frozen=True, eq=False)
class GuidanceImage:
    """hu: (L, Z, Y, X); guide: how strongly it acts; where: how much at each voxel, 0..1, None: fully."""

    name: str
    hu: np.ndarray
    guide: Guide
    where: np.ndarray | None = None


def guidance_images(rois: RoiBatch, request: MDDPMRequest, axes: tuple[int, ...]) -> list[GuidanceImage]:
    """Those that act, at least one. axes: of (L, Z, Y, X), which the low-pass filter runs along.

    Raises InvalidRequest for a factor that does not divide the ROI, for a guide that was changed though its
    image is not there, and when no image acts at all.
    """
    images = list(_find_acting(rois, request))
    if not images:
        raise InvalidRequest(
            "mDDPM needs something to follow: send the CT of another case and the mask of its lesion "
            "(pathology, pathology_mask), or an anatomy map (anatomy), or vary the tissue that is there "
            "(reference.factor, say 4)"
        )
    for image in images:
        sides = [rois.reference_hu.shape[axis] for axis in axes]
        if any(side % image.guide.factor for side in sides):
            shown = " x ".join(map(str, sides))
            raise InvalidRequest(
                f"{image.name}.factor: {image.guide.factor} does not divide the {shown} voxels around this "
                f"lesion; choose one of {', '.join(map(str, _common_divisors(sides)))}"
            )
    return images


def _find_acting(rois: RoiBatch, request: MDDPMRequest) -> Iterator[GuidanceImage]:
    sent = read_sent(rois)
    there: dict[str, np.ndarray | None] = {"reference": rois.reference_hu, "anatomy": sent.anatomy_hu}
    there["pathology"] = None if sent.pathology_hu is None else rois.reference_hu
    lesion_acts = sent.pathology_hu is not None and request.pathology.factor > 0
    for name, background in there.items():
        guide: Guide = getattr(request, name)
        hu = with_lesion(background, rois) if background is not None and lesion_acts else background
        if hu is not None and guide.factor:
            yield GuidanceImage(name, hu, guide, sent.where.get(name))
        elif hu is None and guide.factor and guide != MDDPMRequest.model_fields[name].default:
            raise InvalidRequest(f"{name}: there is nothing to follow; send the volume {name!r} as well")


def with_lesion(background_hu: np.ndarray, rois: RoiBatch) -> np.ndarray:
    """(L, Z, Y, X) HU: the other case's lesion under its own mask, the background everywhere else.

    All images show the lesion, so that none takes away what another one puts in.
    """
    sent = read_sent(rois)
    assert sent.pathology_hu is not None
    assert sent.pathology_mask is not None
    return join_lesion(background_hu, sent.pathology_hu, sent.pathology_mask, rois.spacing_mm)


def join_lesion(
    background_hu: np.ndarray, lesion_hu: np.ndarray, coverage: np.ndarray, spacing_mm: float
) -> np.ndarray:
    """(L, Z, Y, X) HU: a lesion (coverage 0..1) with a little of its own surroundings in another tissue."""
    return background_hu + fade_rim(coverage, spacing_mm) * (lesion_hu - background_hu)


def fade_rim(coverage: np.ndarray, spacing_mm: float) -> np.ndarray:
    """(L, Z, Y, X) float32: 1 in each lesion (coverage 0..1), fading out over its rim."""
    return np.stack([ramp(c >= 0.5 * c.max(), spacing_mm, RIM_MM) for c in coverage])


def read_sent(rois: RoiBatch) -> Followed:
    """What was sent to be followed."""
    return Followed() if rois.own is None else rois.own


def remarks_on(rois: RoiBatch, request: MDDPMRequest, images: list[GuidanceImage]) -> tuple[str, ...]:
    """What the user should know of what was followed."""
    names = {image.name for image in images}
    found = [
        f"{name} was sent but is not followed: its factor is 0"
        for name, hu in (("anatomy", read_sent(rois).anatomy_hu), ("pathology", read_sent(rois).pathology_hu))
        if hu is not None and name not in names
    ]
    if "pathology" in names:
        return (*found, *_on_overlap(rois))
    return (*found, "No pathology was followed: tissue was varied, no lesion was put in.")


def _on_overlap(rois: RoiBatch) -> Iterator[str]:
    coverage = read_sent(rois).pathology_mask
    assert coverage is not None
    lesion = coverage >= 0.5
    cut = 1 - _share(lesion & rois.editable, lesion)
    if cut > WORTH_SAYING:
        yield f"{cut:.0%} of the other case's lesion is cut off: paint a larger mask, or widen the margin."
    bare = 1 - _share(lesion & (rois.mask >= 0.5), rois.mask >= 0.5)
    if bare > 2 * WORTH_SAYING:
        yield f"{bare:.0%} of the painted mask got no lesion: the other case's has its own shape and size."


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.count_nonzero(part)) / max(1, int(np.count_nonzero(whole)))


def _common_divisors(sides: list[int]) -> list[int]:
    return [n for n in range(1, min(sides) + 1) if not any(side % n for side in sides)]
