"""The shape of a proposed lesion: a ball with bumps, in millimetres. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# height of the bumps as a fraction of the radius, and how many of them fit around
SHAPES = {"round": (0.04, 2.0), "lobulated": (0.14, 3.0), "spiculated": (0.16, 7.0)}
WAVES = 8
DIRECTIONS = 3000


@dataclass(frozen=True, eq=False)
class Blob:
    """Its surface lies at radius_mm * exp(height * bumps(direction)) from the centre.

    reach_mm: no point of it is further away; waves: (WAVES, 3); phases: (WAVES,).
    """

    radius_mm: float
    reach_mm: float
    height: float
    waves: np.ndarray
    phases: np.ndarray

    @classmethod
    def random(cls, diameter_mm: float, shape: str, generator: np.random.Generator) -> Blob:
        """A blob with the volume of a ball of this diameter. Raises KeyError for an unknown shape."""
        height, frequency = SHAPES[shape]
        waves = generator.normal(0.0, frequency, (WAVES, 3))
        phases = generator.uniform(0.0, 2 * np.pi, WAVES)
        directions = generator.normal(0.0, 1.0, (DIRECTIONS, 3))
        unit = cls(1.0, 1.0, height, waves, phases).surface_mm(directions)
        radius_mm = diameter_mm / 2 / float(np.cbrt((unit**3).mean()))
        return cls(radius_mm, radius_mm * float(unit.max()) * 1.05, height, waves, phases)

    def surface_mm(self, offsets_mm: np.ndarray) -> np.ndarray:
        """(...) distance of the surface from the centre in the directions (..., 3)."""
        length = np.linalg.norm(offsets_mm, axis=-1, keepdims=True)
        angles = (offsets_mm / np.maximum(length, 1e-9)) @ self.waves.T + self.phases
        return self.radius_mm * np.exp(self.height * np.sin(angles).sum(axis=-1) / np.sqrt(WAVES / 2))

    def contains(self, offsets_mm: np.ndarray) -> np.ndarray:
        """(...) bool for points (..., 3) relative to the centre."""
        return np.linalg.norm(offsets_mm, axis=-1) <= self.surface_mm(offsets_mm)
