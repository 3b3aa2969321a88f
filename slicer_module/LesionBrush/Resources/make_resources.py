"""Makes the pictures and the sample CT of the module. Run from the repository: python <this file>.

LesionBrush.png: the icon, 128 x 128: a slice through a chest, a lesion, and the brush that painted it.
LesionBrushPhantom.png: the thumbnail of the sample data.
ChestPhantom.nii.gz: the project's phantom, 2 mm voxels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
SHAPE = (160, 160, 80)
SPACING_MM = (2.08, 2.08, 3.2)
FINER = 4


def icon(size: int = 128) -> Image.Image:
    """A chest in grey, one lung with an orange lesion, and a brush; transparent around it."""
    n = size * FINER
    picture = Image.new("RGBA", (n, n), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)

    def ellipse(x: float, y: float, rx: float, ry: float, colour: tuple[int, ...]) -> None:
        draw.ellipse([n * (x - rx), n * (y - ry), n * (x + rx), n * (y + ry)], fill=colour)

    ellipse(0.5, 0.52, 0.48, 0.38, (58, 66, 80, 255))
    ellipse(0.5, 0.52, 0.43, 0.33, (140, 148, 160, 255))
    ellipse(0.30, 0.52, 0.155, 0.25, (26, 30, 40, 255))
    ellipse(0.70, 0.52, 0.155, 0.25, (26, 30, 40, 255))
    ellipse(0.5, 0.76, 0.07, 0.07, (240, 240, 236, 255))
    ellipse(0.29, 0.50, 0.075, 0.075, (240, 130, 40, 255))
    handle = [(0.94, 0.06), (0.99, 0.11), (0.50, 0.44), (0.45, 0.39)]
    draw.polygon([(n * x, n * y) for x, y in handle], fill=(66, 150, 220, 255))
    bristles = [(0.50, 0.44), (0.45, 0.39), (0.36, 0.42), (0.33, 0.50), (0.42, 0.50)]
    draw.polygon([(n * x, n * y) for x, y in bristles], fill=(250, 190, 60, 255))
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def thumbnail(hu: np.ndarray) -> Image.Image:
    """The middle axial slice of a CT (i, j, k) in the lung window."""
    rows = hu[:, :, hu.shape[2] // 2].T.astype(np.float32)
    grey = np.clip((rows + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((256, 256), Image.Resampling.LANCZOS)


def main() -> None:
    sys.path.insert(0, str(HERE.parents[2] / "app"))
    from lesionbrush.files.io import write_volume
    from lesionbrush.phantom.chest import chest_phantom

    phantom = chest_phantom(0, SHAPE, SPACING_MM).volume
    icon().save(HERE / "Icons" / "LesionBrush.png")
    thumbnail(phantom.array).save(HERE / "Icons" / "LesionBrushPhantom.png")
    (HERE / "SampleData").mkdir(exist_ok=True)
    write_volume(phantom, HERE / "SampleData" / "ChestPhantom.nii.gz")


if __name__ == "__main__":
    main()
