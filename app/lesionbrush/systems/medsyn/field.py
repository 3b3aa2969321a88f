"""The field that chests are laid into before anything else: both lungs fill the same part of it.

An affine alignment by the box of the lungs, axis by axis, in place of a registration: three scales and three
shifts, known exactly, so that the way back to millimetres is exact as well. Arrays are (Z, Y, X), running to
the patient's superior, anterior and right side. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lesionbrush.core.boxes import Box, bounding_box
from lesionbrush.core.generate import Frame
from lesionbrush.core.roi import Float, Orientation, axis_weights, keys_cubic, resample
from lesionbrush.core.volume import Volume
from lesionbrush.errors import NoLungs
from lesionbrush.systems.medsyn.channels import LOBE_ORDER

LUNGS_FILL = (0.84, 0.62, 0.74)
"""Of the field along z, y and x: what is left over is chest wall, neck and the top of the abdomen."""
USUAL_LUNGS_MM = (250.0, 185.0, 275.0)
"""Of a field that no chest was given for: the box of an adult's lungs."""
CUT_CM2 = 4.0
"""Of lung in the first or last slice, from which on the lungs are cut there."""


@dataclass(frozen=True)
class ChestSpace:
    """How chests lie in the field that networks were trained in, along z, y and x.

    fill: what the box of the lungs takes of it; usual_mm: that box of an adult, where no chest is given;
    middle: where its middle lies, as a share of the field; lobes: see `channels.LOBE_ORDER`.
    """

    fill: tuple[float, float, float] = LUNGS_FILL
    usual_mm: tuple[float, float, float] = USUAL_LUNGS_MM
    middle: tuple[float, float, float] = (0.5, 0.5, 0.5)
    lobes: tuple[int, ...] = LOBE_ORDER


OURS = ChestSpace()


@dataclass(frozen=True)
class ChestField:
    """first_mm: where the field begins, from the centre of a volume's voxel 0 along its (z, y, x) view;
    size_mm: how far it goes on."""

    first_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]

    @classmethod
    def around(cls, lungs: np.ndarray, spacing_mm: np.ndarray, space: ChestSpace = OURS) -> ChestField:
        """lungs: (Z, Y, X), not 0 in them. Where their top or base is cut off, the usual height is taken."""
        if not lungs.any():
            raise NoLungs("no lung is found, by which this chest would be laid into the model's field")
        box = bounding_box(lungs > 0)
        low = np.array([part.start - 0.5 for part in box]) * spacing_mm
        high = np.array([part.stop - 0.5 for part in box]) * spacing_mm
        low[0], high[0] = _whole_height(lungs, spacing_mm, low, high)
        size = (high - low) / space.fill
        return cls(_three((low + high) / 2 - size * space.middle), _three(size))

    @classmethod
    def usual(cls, space: ChestSpace = OURS) -> ChestField:
        """Of nobody: around the origin."""
        size = np.array(space.usual_mm) / space.fill
        return cls(_three(-size * space.middle), _three(size))

    def positions_mm(self, axis: int, side: int) -> np.ndarray:
        """Centres of `side` voxels along one axis."""
        step = self.size_mm[axis] / side
        return self.first_mm[axis] + step * (np.arange(side) + 0.5)

    def spacing_mm(self, side: int) -> tuple[float, float, float]:
        """Of the voxels of the field, z, y, x."""
        z, y, x = (size / side for size in self.size_mm)
        return z, y, x

    def take(
        self,
        view: np.ndarray,
        spacing_mm: np.ndarray,
        side: int,
        kernel: Callable[[np.ndarray], np.ndarray] = keys_cubic,
    ) -> Float:
        """(side, side, side) float32 of a (Z, Y, X) view; beyond its borders its edge goes on."""
        weights = [
            axis_weights(np.arange(n) * spacing_mm[axis], self.positions_mm(axis, side), kernel)
            for axis, n in enumerate(view.shape)
        ]
        return resample(view, weights)

    def take_nearest(self, view: np.ndarray, spacing_mm: np.ndarray, side: int) -> np.ndarray:
        """As `take`, of labels: each voxel is that of the volume which its centre lies in."""
        places = []
        for axis, n in enumerate(view.shape):
            nearest = np.rint(self.positions_mm(axis, side) / spacing_mm[axis]).astype(int)
            places.append(np.clip(nearest, 0, n - 1))
        return np.ascontiguousarray(view[np.ix_(*places)])

    def known(self, shape: Sequence[int], spacing_mm: np.ndarray, side: int) -> Box:
        """The box of the field's voxels whose centres lie inside the volume."""
        box = []
        for axis, n in enumerate(shape):
            place = self.positions_mm(axis, side) / spacing_mm[axis]
            inside = np.flatnonzero((place > -0.5) & (place < n - 0.5))
            box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
        return box[0], box[1], box[2]

    def frame(self, side: int, of: Volume | None = None) -> Frame:
        """The grid of the field in the patient's space, of a volume that it was laid around or of nobody.

        Stored as scanners do: to the left, to the back, upwards.
        """
        z_mm, y_mm, x_mm = self.spacing_mm(side)
        far = [self.positions_mm(axis, side)[-1] for axis in range(3)]
        first = self.positions_mm(0, side)[0]
        if of is None:  # the view runs up, to the front and to the right
            affine = np.diag([-x_mm, -y_mm, z_mm, 1.0])
            affine[:3, 3] = far[2], far[1], first
            return Frame((side, side, side), affine)
        turned = Orientation.of(of.affine)
        corner = turned.view(np.arange(of.array.size).reshape(of.shape))[0, 0, 0]
        voxel = np.unravel_index(int(corner), of.shape)
        origin = of.affine[:3, :3] @ np.array(voxel) + of.affine[:3, 3]
        unit = of.affine[:3, :3] / np.linalg.norm(of.affine[:3, :3], axis=0)
        z, y, x = (unit[:, axis] * step for axis, step in zip(turned.order, turned.step, strict=True))
        affine = np.eye(4)
        affine[:3, :3] = np.stack([-x * x_mm, -y * y_mm, z * z_mm], axis=1)
        affine[:3, 3] = origin + x * far[2] + y * far[1] + z * first
        return Frame((side, side, side), affine)


def stored(field: np.ndarray) -> np.ndarray:
    """(Z, Y, X) of a field in the stored order of its frame: (X, Y, Z) to the left, to the back, upwards."""
    return np.asfortranarray(field[:, ::-1, ::-1].transpose(2, 1, 0))


def _whole_height(
    lungs: np.ndarray, spacing_mm: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[float, float]:
    """Along z: the ends of the lungs, those that are cut off where they usually are."""
    cm2 = float(spacing_mm[1] * spacing_mm[2]) / 100
    base, top = (np.count_nonzero(lungs[z]) * cm2 > CUT_CM2 for z in (0, -1))
    usual = max(USUAL_LUNGS_MM[0] / USUAL_LUNGS_MM[2] * float(high[2] - low[2]), float(high[0] - low[0]))
    if base and top:
        middle = float(low[0] + high[0]) / 2
        return middle - usual / 2, middle + usual / 2
    if base:
        return float(high[0]) - usual, float(high[0])
    if top:
        return float(low[0]), float(low[0]) + usual
    return float(low[0]), float(high[0])


def _three(values: np.ndarray) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return z, y, x
