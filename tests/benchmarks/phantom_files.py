"""Files of one chest on grids that lie in many ways, from formulas: the same whenever they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK

COS, SIN = np.cos(0.35), np.sin(0.35)
IN_LUNG, AT_WALL = (58.0, -12.0, 6.0), (108.0, -10.0, 0.0)
"""In millimetres to left, posterior and superior, as all places here."""


class Grid(NamedTuple):
    """axes: its columns are the directions of the stored axes."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    axes: Any
    centre_mm: tuple[float, float, float] = IN_LUNG

    def points_mm(self) -> np.ndarray:
        """(I, J, K, 3)"""
        steps = np.moveaxis(np.indices(self.shape), 0, -1) - (np.array(self.shape) - 1) / 2
        points: np.ndarray = self.centre_mm + steps * self.spacing_mm @ np.asarray(self.axes).T
        return points


LPS, RAS = np.eye(3), np.diag([-1.0, -1.0, 1.0])
GRIDS = {
    "chest": Grid((100, 76, 70), (3.0, 3.0, 3.0), RAS, (0.0, 0.0, 0.0)),
    "ras": Grid((80, 80, 64), (0.9, 0.9, 1.0), RAS),
    "lps": Grid((80, 80, 56), (0.8, 0.8, 1.25), LPS),
    "turned": Grid((50, 84, 90), (1.5, 0.9, 0.8), [[0, -1, 0], [0, 0, 1], [1, 0, 0]]),
    "oblique": Grid((84, 84, 60), (0.9, 0.9, 1.2), [[COS, 0, SIN], [0, 1, 0], [-SIN, 0, COS]]),
    "thick": Grid((96, 90, 18), (0.75, 0.75, 5.0), LPS, AT_WALL),
}


def tissue(kind: str, grid: Grid) -> np.ndarray:
    """(I, J, K): int16 HU of a `ct`, a `pathology` with lesions, an `anatomy` without noise; else uint8."""
    points = grid.points_mm()

    def ball(centre_mm: Any, radii_mm: Any) -> np.ndarray:
        inside: np.ndarray = (((points - centre_mm) / radii_mm) ** 2).sum(-1) < 1
        return inside

    left, right = (ball((side * 66, 0, 0), (50, 78, 88)) for side in (1, -1))
    lesions = ball(IN_LUNG, (7, 6, 8)) | ball(AT_WALL, (7, 6, 8))
    more = ball(np.add(IN_LUNG, (8, -28, 12)), 5)
    masks = {"lungs": left + 2 * right, "two_lesions": lesions | more}
    if kind not in ("ct", "anatomy", "pathology"):
        return masks.get(kind, lesions).astype(np.uint8)
    x, y, z = np.moveaxis(points, -1, 0)
    hu = np.where(left | right, 0.4 * y - 860, np.where(ball(0, (140, 105, 400)), 45.0, -1000.0))
    if kind != "anatomy":
        hu[np.hypot(y + 20 + 6 * np.sin(x / 9), z - 8) < 2.5] = 40
        hu[np.hypot(x - 58 - 4 * np.sin(z / 7), y + 9) < 2] = 30
        hu[lesions & (kind == "pathology")] = 25
        hu += np.random.default_rng(0).normal(0, 15, hu.shape)
    return np.rint(hu).astype(np.int16)


def write(array: np.ndarray, grid: Grid, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetOrigin(grid.points_mm()[0, 0, 0].tolist())
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection(np.asarray(grid.axes, float).ravel().tolist())
    if path.suffix:
        SimpleITK.WriteImage(image, path)
    else:
        write_series(image, path)


def write_series(image: SimpleITK.Image, folder: Path) -> None:
    """DICOM, one CT slice per file, along the third axis."""
    folder.mkdir()
    writer, axes = SimpleITK.ImageFileWriter(), np.reshape(image.GetDirection(), (3, 3))
    writer.KeepOriginalImageUIDOn()
    tags = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "0008|0060": "CT",
        "0020|000d": "1.2.826.0.1.2",
        "0020|000e": "1.2.826.0.1.3",
        "0020|0037": "\\".join(map(str, axes[:, :2].T.ravel())),
        "0020|0052": "1.2.826.0.1.4",
        "0028|1052": "0",
        "0028|1053": "1",
        "0028|1054": "HU",
    }
    for k in range(image.GetDepth()):
        one = image[:, :, k]
        place = "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, k))))
        own = {"0008|0018": f"1.2.826.0.1.5.{k + 1}", "0020|0032": place, "0020|0013": str(k + 1)}
        for tag, value in (tags | own).items():
            one.SetMetaData(tag, value)
        writer.SetFileName(folder / f"{k:03}.dcm")
        writer.Execute(one)


def made(kind: str, grid: str, suffix: str, folder: Path) -> Path:
    """The file, or for `dicom` the folder, of what `tissue` makes on a grid; written when first asked for."""
    path = folder / (f"{kind}-{grid}" + suffix.replace("dicom", ""))
    if not path.exists():
        write(tissue(kind, GRIDS[grid]), GRIDS[grid], path)
    return path
