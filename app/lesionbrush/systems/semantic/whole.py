"""Semantic CT as published: a whole CT from a layout, slice by slice, with slices that agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionbrush.core.boxes import Box, bounding_box, box_of
from lesionbrush.core.generate import Frame, Made
from lesionbrush.core.hu import HUWindow, round_hu
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import InstalledModel, ModelCard
from lesionbrush.core.roi import Orientation, RoiGrid, from_roi
from lesionbrush.core.rois import RoiBatch
from lesionbrush.core.volume import Volume
from lesionbrush.systems.semantic.classes import OUTSIDE
from lesionbrush.systems.semantic.hooks import LaidOut
from lesionbrush.systems.semantic.job import AIR_HU
from lesionbrush.systems.semantic.layouts import ClassMap, as_sent, on_grid
from lesionbrush.systems.semantic.model import SemanticCT
from lesionbrush.systems.semantic.request import SemanticWholeRequest
from lesionbrush.systems.semantic.whole_hooks import HOOKS, classes_of

RIM_MM = 6.0
"""Of air around the body."""


class SemanticWhole:
    """The same network, ready to make whole CTs."""

    hooks = HOOKS

    def __init__(self, slices: SemanticCT) -> None:
        self.card, self.slices, self.network = slices.card, slices, slices.network

    @classmethod
    def load(cls, installed: InstalledModel, device: str | None = None) -> SemanticWhole:
        """Read the weights. WeightsError when they do not fit the network of the card."""
        return cls(SemanticCT.load(installed, device))

    def generate(
        self,
        frame: Frame,
        request: SemanticWholeRequest,
        inputs: Inputs,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Made:
        """One CT for every seed; see `core.generate.VolumeModel`. InvalidRequest."""
        wished, turned = classes_of(inputs, request), Orientation.of(frame.affine)
        spacing_mm = turned.spacing_mm(np.linalg.norm(frame.affine[:3, :3], axis=0).tolist())
        box = body_box(wished.labels, spacing_mm)
        grid = grid_of(box, spacing_mm, self.card)
        run, told = self.slices.run(rois_of(wished, spacing_mm, grid), request, seeds, (on_step, on_estimate))
        hu = self.slices.scale.from_unit(run.results.numpy())
        made = [turned.to_stored(self._back(one, wished, (grid, box), spacing_mm)) for one in hu]
        sent = inputs.layout("layout")
        assert sent is not None
        labels, names = as_sent(sent, wished)
        layout = Layout(Volume(np.asfortranarray(turned.to_stored(labels)), frame.affine), names)
        remarks = [
            (*run.remarks, *wished.remarks, *told, *self._on_window(round_hu(one)[layout.labels.array > 0]))
            for one in made
        ]
        return Made(np.stack(made), run.where, [layout] * len(seeds), remarks)

    def _back(
        self, hu: np.ndarray, wished: ClassMap, where: tuple[RoiGrid, Box], spacing_mm: np.ndarray
    ) -> np.ndarray:
        """(Z, Y, X) HU on the grid of the layout; around the body there is air, which no window has."""
        grid, box = where
        made = np.full(wished.labels.shape, AIR_HU, np.float32)
        made[box] = from_roi(hu, grid, box, spacing_mm)
        if isinstance(self.slices.scale, HUWindow):
            made[wished.labels == OUTSIDE] = AIR_HU
        return made

    def _on_window(self, hu: np.ndarray) -> tuple[str, ...]:
        """hu: (N,), what was made in the body."""
        scale = self.slices.scale
        if not isinstance(scale, HUWindow) or not hu.size:
            return ()
        return (
            f"{self.card.name!r} knows HU from {scale.lo_hu:g} to {scale.hi_hu:g}, and this CT has "
            f"{hu.min()} to {hu.max()} in the body: gas, lung and bone of a patient are beyond that, so this "
            "is a CT for that window alone",
        )


def body_box(labels: np.ndarray, spacing_mm: np.ndarray) -> Box:
    """All slices, and of each the rows and columns with something in any of them, and a rim."""
    _, *plane = bounding_box(labels)
    rims = (int(np.ceil(RIM_MM / mm)) for mm in spacing_mm[1:])
    spans = zip(plane, rims, labels.shape[1:], strict=True)
    ends = ((max(part.start - rim, 0), min(part.stop + rim, size)) for part, rim, size in spans)
    return box_of([(0, len(labels)), *ends])


def grid_of(box: Box, spacing_mm: np.ndarray, card: ModelCard) -> RoiGrid:
    """The slices as they are, each on the smallest square of the model's that holds the box; one that is too
    wide is coarser."""
    shape = [part.stop - part.start for part in box]
    extent_mm = np.array(shape) * spacing_mm
    sides = [side for side in card.roi_voxels if side * card.spacing_mm >= extent_mm[1:].max()]
    side = sides[0] if sides else card.roi_voxels[-1]
    pixel_mm = max(card.spacing_mm, float(extent_mm[1:].max()) / side)
    middle = np.array([part.start + part.stop - 1 for part in box]) / 2 * spacing_mm
    y, x = (float(middle[axis] - (side - 1) / 2 * pixel_mm) for axis in (1, 2))
    return RoiGrid((shape[0], side, side), pixel_mm, (0.0, y, x), slice_mm=float(spacing_mm[0]))


def rois_of(wished: ClassMap, spacing_mm: np.ndarray, grid: RoiGrid) -> RoiBatch:
    """All of it is to be made."""
    everywhere = np.ones((1, *grid.shape), bool)
    air = np.full(everywhere.shape, AIR_HU, np.float32)
    labels = on_grid(wished.labels, spacing_mm, grid)[None]
    own = LaidOut(labels, grid.steps_mm[0])
    return RoiBatch(
        air, everywhere.astype(np.float32), everywhere, everywhere, spacing_mm=grid.spacing_mm, own=own
    )
