"""Lesions put into a whole new CT that was asked for with them: by the model that makes lesions best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lesionbrush.augment.lesions import NO_PLACE, LesionRecipe, put_lesions
from lesionbrush.core.generate import LESION, Generation
from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Array
from lesionbrush.core.wishes import LesionWish
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems.running import pick_device

LEAST_VOXELS = 2.5
"""Across a lesion, along the longest side of a voxel: what is smaller is no lesion but a bright voxel."""


def fulfil(made: Generation, device: str | None = None) -> Generation:
    """The generation with its wishes in it, a label `lesion` where they are, and what became of each.

    Drawn by the seed of the generation. What cannot be put in is told, and left out: the CT is whole without.
    device: None is a GPU if there is one.
    """
    if not made.wishes:
        return made
    device = str(pick_device(device))
    generator = np.random.default_rng(made.provenance.seed)
    hu, inside = made.ct.array, np.zeros(made.ct.shape, bool)
    remarks = list[str]()
    for wish in made.wishes:
        problem = _problem(made, wish)
        if problem is None:
            try:
                hu, label = _put(made, hu, wish, wish.place & ~inside, generator, device)
            except (*NO_PLACE, InvalidRequest, WeightsError) as error:
                problem = str(error)
            else:
                inside |= label
                remarks.append(_done(made, wish, hu, label))
                continue
        remarks.append(f"The {wish.said} was left out: {problem}.")
    record = made.provenance
    told = record.model_copy(update={"remarks": (*record.remarks, *remarks)})
    layout = made.layout if made.layout is None or not inside.any() else _labelled(made.layout, inside)
    return replace(made, ct=made.ct.with_array(hu), layout=layout, provenance=told, wishes=())


def _problem(made: Generation, wish: LesionWish) -> str | None:
    least_mm = LEAST_VOXELS * float(max(made.ct.spacing_mm))
    if not wish.place.any():
        return "there is no such place in this CT"
    if wish.diameter_mm[1] < least_mm:
        return (
            f"voxels of up to {max(made.ct.spacing_mm):.1f} mm show nothing below {least_mm:.0f} mm; "
            "ask for a larger size"
        )
    return None


def _put(
    made: Generation, hu: Array, wish: LesionWish, place: Array, generator: np.random.Generator, device: str
) -> tuple[Array, Array]:
    """HU with it, and where it is, bool."""
    low, high = wish.diameter_mm
    findings = {
        "diameter_mm": {"uniform": [low, high]} if low < high else low,
        "attributes": dict(wish.attributes),
    }
    recipe = LesionRecipe.of(wish.model, findings, device=device)
    after, labels = put_lesions(hu, made.ct.affine, recipe, generator, organs=place.astype(np.uint8))
    return after, labels > 0


def _done(made: Generation, wish: LesionWish, hu: Array, inside: Array) -> str:
    volume_mm3 = np.count_nonzero(inside) * float(np.prod(made.ct.spacing_mm))
    across_mm = (6 * volume_mm3 / np.pi) ** (1 / 3)
    return f"The {wish.said} was put in by {wish.model}: {across_mm:.0f} mm, {hu[inside].mean():.0f} HU."


def _labelled(layout: Layout, inside: Array) -> Layout:
    """With a label of its own over the others."""
    number = max(layout.names, default=0) + 1
    labels = np.where(inside, np.array(number, layout.labels.array.dtype), layout.labels.array)
    return Layout(layout.labels.with_array(np.asfortranarray(labels)), {**layout.names, number: LESION})
