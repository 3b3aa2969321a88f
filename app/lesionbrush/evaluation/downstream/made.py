"""Made lesions and their rival: a real nodule's shape put into a chest, filled by the model, or pasted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from lesionbrush.core.boxes import dilate
from lesionbrush.core.request import EditRequest
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.downstream.clear import CLEAR
from lesionbrush.evaluation.downstream.samples import LesionBox, real_sample, sample_of
from lesionbrush.evaluation.hosts import Host
from lesionbrush.evaluation.metrics import edit_region
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from lesionbrush.systems.lesion_inpainting.soft_tissue.request import SoftTissueRequest, TumourAttributes
from lesionbrush.transfer.forms import Bend, LesionForm

BEND, CLEAR_MM, TRIES = 0.2, 10.0, 20
FEATHER_MM = 0.7
RING_MM, CONTRASTS_HU = (3.0, 9.0), (-150.0, 200.0)
"""As soft-tissue models measure contrast, and what they take."""


@dataclass(frozen=True, eq=False)
class PlacedDonor:
    """The shape of a real nodule in a chest. bent: a little, so that no two are alike."""

    donor: Nodule
    host: Host
    mask: Volume
    seed: int


def place_donors(
    donors: Sequence[Nodule], hosts: Sequence[Host], count: int, rng: np.random.Generator
) -> Iterator[PlacedDonor]:
    """So many, the donors in turn; one that no host has room for is left out."""
    if not hosts:
        raise InvalidRequest("the data has no CT of a training patient to put lesions into")
    for number in range(count):
        donor = donors[number % len(donors)]
        for _ in range(TRIES):
            placed = _place(donor, hosts[int(rng.integers(len(hosts)))], number, rng)
            if placed is not None:
                yield placed
                break


def _place(donor: Nodule, host: Host, seed: int, rng: np.random.Generator) -> PlacedDonor | None:
    form = LesionForm.of(donor.case.mask)
    places = host.places(1, rng, 0.7 * form.radius_mm)
    if not places:
        return None
    centre_mm = host.ct.affine[:3, :3] @ places[0] + host.ct.affine[:3, 3]
    box, inside = form.draw(host.ct, centre_mm, np.eye(3), Bend.draw(form.radius_mm, BEND, rng))
    near = dilate(box, CLEAR_MM, np.array(host.ct.spacing_mm), host.ct.shape)
    if not inside.any() or any(own.array[near].any() for own in host.nodules):
        return None
    mask = np.zeros(host.ct.shape, np.uint8)
    mask[box] = inside
    return PlacedDonor(donor, host, host.ct.with_array(mask), seed)


@dataclass(frozen=True, eq=False)
class MadePair:
    """The same place: filled by the model, with the donor itself pasted, and as it was, without a lesion."""

    made: LesionBox
    pasted: LesionBox
    twin: LesionBox


def _ask_lesion(donor: Nodule, seed: int) -> EditRequest:
    return SynthesisRequest(attributes=donor.measured, seed=seed, draw_shape=False)


def _ask_soft_tissue(donor: Nodule, seed: int) -> EditRequest:
    """With the contrast of the donor, where its crop shows what is around it."""
    ct, (near_mm, far_mm) = donor.case.crop, RING_MM
    near, far = (edit_region(donor.inside, ct.spacing_mm, mm) for mm in (near_mm, far_mm))
    ring = far & ~near if donor.others is None else far & ~near & ~donor.others
    if not ring.any():
        return SoftTissueRequest(seed=seed)
    contrast_hu = float(ct.array[donor.inside].mean() - np.median(ct.array[ring]))
    asked = TumourAttributes(contrast_hu=float(np.clip(contrast_hu, *CONTRASTS_HU)))
    return SoftTissueRequest(seed=seed, attributes=asked)


ASK: Mapping[str, Callable[[Nodule, int], EditRequest]] = {
    "lesion_inpainting": _ask_lesion,
    "soft_tissue_inpainting": _ask_soft_tissue,
}
"""How the model of a system is asked for a lesion like its donor."""


def make_pairs(placed: Sequence[PlacedDonor], maker: Maker) -> list[MadePair]:
    """Both through the window of the donor's crop. What the model refuses is left out."""
    pairs = []
    for one in tqdm(placed, desc="made lesions", unit="lesion"):
        request = ASK[maker.model.card.system](one.donor, one.seed)
        try:
            hu = maker.make(one.host.ct, one.mask, request).arrays[0]
        except LesionBrushError:
            continue
        pairs.append(_pair(one, hu))
    return pairs


def _pair(one: PlacedDonor, made_hu: np.ndarray) -> MadePair:
    patient, group = one.donor.patient, one.donor.texture
    real = real_sample(one.donor)
    made, host = (sample_of(one.host.ct, one.mask, patient, group, hu) for hu in (made_hu, None))
    pasted = replace(host, patch=paste(host.patch, real.patch))
    healthy = replace(host.patch, inside=np.zeros_like(host.patch.inside))
    twin = LesionBox(healthy, one.host.name, CLEAR)
    return MadePair(*(box.through(real.patch.known) for box in (made, pasted, twin)))


def paste(host: Patch, donor: Patch) -> Patch:
    """The donor's lesion in the host, its border feathered over about a voxel."""
    share = (
        ndimage.gaussian_filter(ndimage.binary_dilation(donor.inside).astype(np.float32), FEATHER_MM)
        * donor.known
    )
    hu = (host.hu * (1 - share) + donor.hu * share).astype(np.float32)
    return Patch(hu, donor.inside & host.known, host.known)
